"""Run inference on servers: what only old releases of the client have. Prints what it got as one JSON object."""

import asyncio
import json
import os

from huggingface_hub import AsyncInferenceClient, InferenceApi, InferenceClient

API_TOKEN = os.environ["HF_TOKEN"]
PICTURE = os.environ["SEED_PICTURE"]
found = {}

client = InferenceClient()
response = client.post(
    json={"inputs": "An astronaut riding a horse on the moon."}, model="stabilityai/stable-diffusion-2-1"
)
found["posted"] = response[:8].hex()  # raw bytes

client = AsyncInferenceClient()


async def main():
    image = await client.text_to_image("An astronaut riding a horse on the moon.")
    image.save("astronaut.png")
    found["astronaut"] = image.size
    found["tokens"] = []
    async for token in await client.text_generation("The Huggingface Hub is", stream=True):
        print(token, end="")
        found["tokens"].append(token)


asyncio.run(main())

client = InferenceClient()
found["classified"] = [each.label for each in client.image_classification(PICTURE)]

inference = InferenceApi(repo_id="paraphrase-xlm-r-multilingual-v1", task="feature-extraction")
found["legacy vectors"] = len(inference("a text")[0])

inference = InferenceApi(repo_id="bert-base-uncased", token=API_TOKEN)
found["legacy masks"] = [each["sequence"] for each in inference(inputs="The goal of life is [MASK].")]

client = InferenceClient()
response = client.post(json={"inputs": "The goal of life is [MASK]."}, model="bert-base-uncased")
found["masks"] = [each["sequence"] for each in json.loads(response)]

inference = InferenceApi(repo_id="typeform/distilbert-base-uncased-mnli")
inputs = (
    "Hi, I recently bought a device from your company but it is not working as advertised and I would like to get "
    "reimbursed! (A refund.)"
)
params = {"candidate_labels": ["refund", "legal", "faq"]}
found["legacy labels"] = inference(inputs, params)["labels"]

client = InferenceClient()
response = client.post(json={"inputs": inputs, "parameters": params}, model="typeform/distilbert-base-uncased-mnli")
found["labels"] = json.loads(response)["labels"]

deployed = InferenceClient().list_deployed_models()
found["deployed"] = {task: sorted(models) for task, models in deployed.items()}
status = InferenceClient().get_model_status("meta-llama/Meta-Llama-3-8B-Instruct")
found["status"] = [status.loaded, status.state, status.framework]

print("\n" + json.dumps(found))
