"""Inference for PROs and the course page, with the openai package. Prints what it got as one JSON object."""

import json
import os

import huggingface_hub
from openai import OpenAI

client = OpenAI(
    base_url=os.environ["ROUTER_URL"] + "/v1/",
    api_key=huggingface_hub.get_token(),
)
chat_completion = client.chat.completions.create(
    model="meta-llama/Meta-Llama-3.1-70B-Instruct",
    messages=[
        {"role": "system", "content": "You are a helpful an honest programming assistant."},
        {"role": "user", "content": "Is Rust better than Python?"},
    ],
    stream=True,
    max_tokens=500,
)
streamed = []
for message in chat_completion:
    print(message.choices[0].delta.content, end="")
    streamed.append(message.choices[0].delta.content or "")

hf_client = OpenAI(
    base_url=os.environ["ROUTER_URL"] + "/v1/",
    api_key=os.getenv("HF_TOKEN"),
)
response = hf_client.chat.completions.create(
    model="mistralai/Mistral-7B-Instruct-v0.3",
    messages=[
        {"role": "system", "content": "You are a concise technical assistant."},
        {"role": "user", "content": "What is the difference between LSTM and Transformer?"},
    ],
    max_tokens=300,
    temperature=0.5,
)
print(response.choices[0].message.content)

print("\n" + json.dumps({"streamed": streamed, "content": response.choices[0].message.content}))
