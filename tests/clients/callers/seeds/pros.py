"""Inference for PROs. Prints what it got as one JSON object."""

import json
import os

from huggingface_hub import InferenceClient

YOUR_TOKEN = os.environ["HF_TOKEN"]

client = InferenceClient(model="meta-llama/Meta-Llama-3-8b-Instruct", token=YOUR_TOKEN)
output = client.text_generation("Can you please let us know more details about your ")
print(output)

prompt = """<s>[INST] <<SYS>>
You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.
<</SYS>>

There is a llama in my garden 😱 What should I do? [/INST]
"""
client = InferenceClient(model="codellama/CodeLlama-13b-hf", token=YOUR_TOKEN)
response = client.text_generation(prompt, max_new_tokens=200)
print(response)

client = InferenceClient(model="codellama/CodeLlama-13b-hf", token=YOUR_TOKEN)
prompt_prefix = 'def remove_non_ascii(s: str) -> str:\n    """ '
prompt_suffix = "\n    return result"
infilling = f"<PRE> {prompt_prefix} <SUF>{prompt_suffix} <MID>"
infilled = client.text_generation(infilling, max_new_tokens=150)
infilled = infilled.rstrip(" <EOT>")
print(f"{prompt_prefix}{infilled}{prompt_suffix}")

sdxl = InferenceClient(model="stabilityai/stable-diffusion-xl-base-1.0", token=YOUR_TOKEN)
image = sdxl.text_to_image(
    "Dark gothic city in a misty night, lit by street lamps. A person in a cape is walking away from us",
    guidance_scale=9,
)

client = InferenceClient(model="meta-llama/Meta-Llama-3-8b-Instruct", token=YOUR_TOKEN)
client.headers["x-use-cache"] = "0"
anew = client.text_generation("In a surprising turn of events, ", do_sample=True)
print(anew)

tokens = []
for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
    print(token)
    tokens.append(token)

print(
    "\n"
    + json.dumps(
        {
            "output": output,
            "chatted": response == prompt or response == prompt + prompt,
            "infilled": infilled,
            "image": [image.format, *image.size],
            "anew": anew,
            "tokens": tokens,
        }
    )
)
