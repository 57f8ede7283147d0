"""Run inference on servers: third-party providers, routed. Prints what it got as one JSON object."""

import json
import os

from huggingface_hub import InferenceClient

replicate_client = InferenceClient(
    provider="replicate",
    api_key=os.environ["HF_TOKEN"],
)
replicate_image = replicate_client.text_to_image(
    "A flying car crossing a futuristic cityscape.",
    model="black-forest-labs/FLUX.1-schnell",
)
replicate_image.save("flying_car.png")

messages = [
    {
        "role": "user",
        "content": "What is the capital of France?",
    }
]
client = InferenceClient(
    provider="together",
    model="meta-llama/Meta-Llama-3-8B-Instruct",
    api_key=os.environ["HF_TOKEN"],
)
answer = client.chat_completion(messages, max_tokens=100)

client = InferenceClient(
    provider="replicate",
    token=os.environ["HF_TOKEN"],
)
again = client.text_to_image("A flying car.", model="black-forest-labs/FLUX.1-schnell")

client = InferenceClient(provider="fal-ai", token=os.environ["HF_TOKEN"])
painted = client.text_to_image("A flying car.", model="black-forest-labs/FLUX.1-dev")

print(
    "\n"
    + json.dumps(
        {
            "image": replicate_image.size,
            "saved": os.path.getsize("flying_car.png"),
            "answer": answer.choices[0].message.content,
            "again": again.size,
            "painted": painted.size,
        }
    )
)
