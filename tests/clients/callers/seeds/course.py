"""The course page. Prints what it got as one JSON object."""
# ruff: noqa: G004, the page logs so

import json
import logging
import os
import time

import numpy as np
from huggingface_hub import InferenceClient
from huggingface_hub.utils import HfHubHTTPError

client = InferenceClient(token=os.getenv("HF_TOKEN"))
found = {}

response = client.text_generation(
    prompt="Explain gradient descent in one paragraph, as if to a software engineer.",
    model="mistralai/Mistral-7B-Instruct-v0.3",
    max_new_tokens=200,
    temperature=0.7,
    do_sample=True,
)
print(response)
found["generated"] = response


def embed_texts(texts: list[str], model: str = "BAAI/bge-small-en-v1.5") -> np.ndarray:
    """Batch embed texts using the Inference API."""
    embeddings = client.feature_extraction(text=texts, model=model, normalize=True)
    return np.array(embeddings)


texts = [
    "How do I cancel my subscription?",
    "What is the process to unsubscribe?",
    "Tell me about your pricing plans.",
]
embs = embed_texts(texts)
similarity_matrix = embs @ embs.T
for i, text_i in enumerate(texts):
    for j, text_j in enumerate(texts):
        if i < j:
            print(f"  {i}{j}: {similarity_matrix[i, j]:.3f}  |  '{text_i[:30]}...' ↔ '{text_j[:30]}...'")
found["similarities"] = similarity_matrix.tolist()

sentiment = client.text_classification(
    text="The new update broke all my workflows. Very frustrated.",
    model="distilbert-base-uncased-finetuned-sst-2-english",
)
print(f"Sentiment: {sentiment[0]['label']} ({sentiment[0]['score']:.3f})")
found["sentiment"] = sentiment[0]["label"]

result = client.zero_shot_classification(
    "I need to update my payment method. It is about billing.",
    ["billing", "account", "technical support", "general"],
    model="facebook/bart-large-mnli",
)
for each in result:
    print(f"  {each['label']:<20} {each['score']:.3f}")
found["ranked"] = [each["label"] for each in result]

entities = client.token_classification(
    text="Elon Musk founded SpaceX in Hawthorne, California in 2002.",
    model="dslim/bert-base-NER",
)
found["entities"] = []
for entity in entities:
    if entity["entity_group"] in ("PER", "ORG", "LOC", "MISC"):
        print(f"  [{entity['entity_group']}] {entity['word']}")
        found["entities"].append(entity["word"])

print("Streaming response:")
found["tokens"] = []
for token in client.text_generation(
    prompt="List 5 best practices for writing RAG prompts:",
    model="mistralai/Mistral-7B-Instruct-v0.3",
    max_new_tokens=300,
    stream=True,
):
    print(token, end="", flush=True)
    found["tokens"].append(token)
print()

logger = logging.getLogger(__name__)


def call_with_retry(func, *args, max_retries: int = 3, backoff_base: float = 2.0, **kwargs):
    """Call a function with exponential backoff on rate limit errors."""
    for attempt in range(max_retries):
        try:
            return func(*args, **kwargs)
        except HfHubHTTPError as e:
            if "429" in str(e) or "rate limit" in str(e).lower():
                wait = backoff_base**attempt
                logger.warning(f"Rate limited. Waiting {wait}s (attempt {attempt + 1}/{max_retries})")
                time.sleep(wait)
            elif "503" in str(e) or "loading" in str(e).lower():
                # Model is loading (cold start) — wait longer
                wait = 20.0
                logger.info(f"Model loading. Waiting {wait}s...")
                time.sleep(wait)
            else:
                raise
    raise RuntimeError(f"Failed after {max_retries} retries")


response = call_with_retry(
    client.text_generation,
    prompt="Summarize the key concepts of attention mechanisms.",
    model="mistralai/Mistral-7B-Instruct-v0.3",
    max_new_tokens=150,
)
print(response)
found["retried"] = response

print("\n" + json.dumps(found))
