"""Run inference on servers: what every release of the client has. Prints what it got as one JSON object."""

import asyncio
import json
import os

from huggingface_hub import AsyncInferenceClient, InferenceClient, InferenceTimeoutError

URL = os.environ["ROUTER_URL"]
PICTURE = os.environ["SEED_PICTURE"]
found = {}

client = InferenceClient(model="prompthero/openjourney-v4")
found["of its model"] = client.text_to_image("An astronaut riding a horse on the moon.").size
client = InferenceClient()
image = client.text_to_image("An astronaut riding a horse on the moon.", model="prompthero/openjourney-v4")
found["of a model"] = image.size

client = InferenceClient(model=f"{URL}/models/deepfloyd-if")
found["of its URL"] = client.text_to_image("An astronaut riding a horse on the moon.").size
client = InferenceClient()
image = client.text_to_image("An astronaut riding a horse on the moon.", model=f"{URL}/models/deepfloyd-if")
found["of a URL"] = image.size

client = InferenceClient(token=os.environ["HF_TOKEN"])
found["with a token"] = client.text_to_image("A horse.", model="prompthero/openjourney-v4").size

client = InferenceClient(
    base_url=f"{URL}/v1",
    api_key=os.environ["HF_TOKEN"],
)
output = client.chat.completions.create(
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Count to 10"},
    ],
    stream=True,
    max_tokens=1024,
)
found["streamed"] = []
for chunk in output:
    print(chunk.choices[0].delta.content)
    found["streamed"].append(chunk.choices[0].delta.content or "")

client = AsyncInferenceClient()


async def main():
    found["awaited"] = []
    stream = await client.chat.completions.create(
        model="meta-llama/Meta-Llama-3-8B-Instruct",
        messages=[{"role": "user", "content": "Say this is a test"}],
        stream=True,
    )
    async for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="")
        found["awaited"].append(chunk.choices[0].delta.content or "")


asyncio.run(main())

client = InferenceClient(timeout=30)
try:
    client.text_to_image("A horse.", model="prompthero/openjourney-v4")
except InferenceTimeoutError:
    print("Inference timed out after 30s.")

client = InferenceClient()
classified = client.image_classification(PICTURE, model="google/vit-base-patch16-224")
found["classified"] = [each.label for each in classified]

inference = InferenceClient()
vectors = inference.feature_extraction("a text", model="paraphrase-xlm-r-multilingual-v1")
found["vectors"] = vectors.shape

print("\n" + json.dumps(found))
