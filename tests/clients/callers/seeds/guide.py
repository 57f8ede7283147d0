"""The practical guide. Prints what it got as one JSON object."""

import base64
import json
from io import BytesIO

from huggingface_hub import InferenceClient, whoami

found = {"whoami": whoami()["name"]}

client = InferenceClient()
response = client.text_generation(
    prompt="A HTTP POST request is used to ",
    model="codellama/CodeLlama-7b-hf",
    temperature=0.8,
    max_new_tokens=50,
    seed=42,
    return_full_text=True,
)
print(response)
found["full text"] = response

system_input = "You are an expert prompt engineer with artistic flair."
user_input = "Write a concise prompt for a fun image containing a llama and a cookbook. Only return the prompt."
messages = [
    {"role": "system", "content": system_input},
    {"role": "user", "content": user_input},
]
model_id = "meta-llama/Meta-Llama-3-8B-Instruct"
# What the tokenizer's chat template makes of them.
prompt = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    f"{system_input}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    f"{user_input}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
llm_response = client.text_generation(prompt, model=model_id, max_new_tokens=250, seed=42)
print(llm_response)
found["templated"] = llm_response

bad_prompt = system_input + " " + user_input
out = client.text_generation(bad_prompt, model=model_id, max_new_tokens=250, seed=42)
print(out)
found["bad"] = out

found["tokens"] = []
for token in client.chat_completion(messages, model=model_id, max_tokens=250, stream=True, seed=42):
    print(token.choices[0].delta.content, end="")
    found["tokens"].append(token.choices[0].delta.content or "")

image = client.text_to_image(
    prompt=llm_response,
    model="stabilityai/stable-diffusion-xl-base-1.0",
    guidance_scale=8,
    seed=42,
)
image_cached = client.text_to_image(
    prompt=llm_response,
    model="stabilityai/stable-diffusion-xl-base-1.0",
    guidance_scale=8,
    seed=42,
)
client.headers["x-use-cache"] = "0"
image_new = client.text_to_image(
    prompt=llm_response,
    model="stabilityai/stable-diffusion-xl-base-1.0",
    guidance_scale=8,
    seed=42,
)
found["cached"] = image.tobytes() == image_cached.tobytes()
found["new"] = image_new.size


def pil_image_to_base64(image):
    buffered = BytesIO()
    image.save(buffered, format="JPEG")
    return base64.b64encode(buffered.getvalue()).decode("utf-8")


image_b64 = pil_image_to_base64(image_new.convert("RGB"))
vlm_model_id = "HuggingFaceM4/idefics2-8b-chatty"
# What the processor's chat template makes of a picture and "Write a short limerick about this image."
prompt = "User:<image>Write a short limerick about this image.<end_of_utterance>\nAssistant:"
image_input = f"data:image/jpeg;base64,{image_b64}"
image_input = f"![]({image_input})"
prompt = prompt.replace("<image>", image_input)
limerick = client.text_generation(prompt, model=vlm_model_id, max_new_tokens=200, seed=42)
found["limerick"] = limerick.endswith("this image.<end_of_utterance>\nAssistant:")

tts_model_id = "suno/bark"
speech_out = client.text_to_speech(text="a short limerick", model=tts_model_id)
found["speech"] = speech_out[:4].decode()

print("\n" + json.dumps(found))
