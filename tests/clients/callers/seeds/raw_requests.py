"""The overview's and the practical guide's calls by hand, with requests. Prints what it got as one JSON object."""

import json
import os

import requests

API_TOKEN = os.environ["HF_TOKEN"]

API_URL = os.environ["ROUTER_URL"] + "/models/gpt2"
headers = {"Authorization": f"Bearer {API_TOKEN}"}


def query(payload):
    response = requests.post(API_URL, headers=headers, json=payload)
    return response.json()


data = query("Can you please let us know more details about your ")

API_URL = os.environ["ROUTER_URL"] + "/models/codellama/CodeLlama-7b-hf"
HEADERS = {"Authorization": f"Bearer {API_TOKEN}"}


def query_with_payload(payload):
    response = requests.post(API_URL, headers=HEADERS, json=payload)
    return response.json()


output = query_with_payload(
    payload={
        "inputs": "A HTTP POST request is used to ",
        "parameters": {"temperature": 0.8, "max_new_tokens": 50, "seed": 42},
    }
)
print(output)

print("\n" + json.dumps({"data": data, "output": output}))
