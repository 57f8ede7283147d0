"""The shipped tables: each says of an existing provider which models it serves, under which id, and for how much."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import providers
from providers.spec import ANY_TASK
from router.config import files

TABLES = sorted((Path(__file__).parents[2] / "providers" / "tables").glob("*.yaml"))
HF_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?").fullmatch
# Segments that a URL's path may hold, as names on the Hub are; Replicate pins a version behind a colon.
PROVIDER_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95}){0,5}(:[0-9a-f]{64})?", re.ASCII).fullmatch
ROW = {"id", "task", "status", "context", "adapter", "adapter_weights", "can", "fim", "price"}
PRICE = {"input", "output", "cached_input", "image", "second", "character"}

# What people who come from the Hub's Serverless API ask for: the models of its guides, and of the Hub's client's.
ASKED_FOR = [
    "meta-llama/Meta-Llama-3-8B-Instruct",
    "meta-llama/Meta-Llama-3-70B-Instruct",
    "meta-llama/Meta-Llama-3.1-70B-Instruct",
    "meta-llama/Llama-2-7b-chat-hf",
    "meta-llama/Llama-2-13b-chat-hf",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO",
    "HuggingFaceH4/zephyr-7b-beta",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "codellama/CodeLlama-7b-hf",
    "codellama/CodeLlama-13b-hf",
    "codellama/CodeLlama-34b-Instruct-hf",
    "HuggingFaceM4/idefics2-8b-chatty",
    "gpt2",
    "bert-base-uncased",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "stabilityai/stable-diffusion-2-1",
    "prompthero/openjourney-v4",
    "black-forest-labs/FLUX.1-schnell",
    "black-forest-labs/FLUX.1-dev",
    "suno/bark",
    "BAAI/bge-small-en-v1.5",
    "paraphrase-xlm-r-multilingual-v1",
    "sentence-transformers/paraphrase-xlm-r-multilingual-v1",
    "distilbert-base-uncased-finetuned-sst-2-english",
    "facebook/bart-large-mnli",
    "typeform/distilbert-base-uncased-mnli",
    "dslim/bert-base-NER",
]


class Strict(yaml.SafeLoader):
    """A key that stands twice is a fault, not the last one wins."""


def _mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"{node.start_mark}: a key stands twice"
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path) -> dict[str, Any]:
    page = yaml.load(path.read_text(), Strict)  # Strict is a SafeLoader
    assert isinstance(page, dict)
    return page


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_is_of_the_provider_it_is_named_after_and_says_where_it_is_from(path: Path) -> None:
    page = read(path)
    assert set(page) == {"provider", "models"} and page["models"]
    assert page["provider"] == path.stem.replace("_", "-")
    assert page["provider"] in providers.names()
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_can_be_routed(path: Path) -> None:
    page = read(path)
    provider = providers.find(page["provider"])
    assert provider is not None
    for model, row in page["models"].items():
        assert isinstance(model, str) and HF_ID(model) and "--" not in model and ".." not in model, model
        assert set(row) <= ROW and {"id", "task", "status"} <= set(row), model
        assert PROVIDER_ID(row["id"]), model
        assert row["task"] == ANY_TASK or row["task"] in provider.tasks(), model
        assert row["status"] in ("live", "staging", "error"), model
        assert "adapter_weights" not in row or row["adapter"] == "lora", model
        context = row.get("context", 1)
        assert type(context) is int and context > 0, model


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_price_is_a_number_and_an_unknown_one_is_absent(path: Path) -> None:
    for model, row in read(path)["models"].items():
        price = row.get("price")
        if price is None:
            assert "price" not in row, model
            continue
        assert price and set(price) <= PRICE, model
        assert all(type(amount) in (int, float) and 0 < amount < 1000 for amount in price.values()), model
        assert price.get("cached_input", 0) <= price.get("input", 0) or "cached_input" not in price, model


def test_two_ids_of_one_table_do_not_differ_by_case_alone() -> None:
    for path in TABLES:
        folded = [model.casefold() for model in read(path)["models"]]
        assert len(folded) == len(set(folded)), path


def test_whatever_the_guides_of_the_hub_name_is_had_somewhere() -> None:
    had = {model for path in TABLES for model in read(path)["models"]}
    assert [model for model in ASKED_FOR if model not in had] == []


def test_pictures_code_and_speech_are_had_from_more_than_one_place() -> None:
    """Whoever has one provider's key finds what that provider carries, and what is had twice can be failed over."""
    places: dict[str, int] = {}
    for path in TABLES:
        for model in read(path)["models"]:
            places[model] = places.get(model, 0) + 1
    assert places["black-forest-labs/FLUX.1-schnell"] >= 4 and places["stabilityai/stable-diffusion-xl-base-1.0"] >= 4
    assert places["openai/whisper-large-v3"] >= 4 and places["hexgrad/Kokoro-82M"] >= 3
    assert places["meta-llama/Meta-Llama-3-8B-Instruct"] >= 4


def test_every_provider_but_those_whose_models_are_the_users_own_has_a_table() -> None:
    own = {"tgi", "tei", "diffusers", "transformers"}
    assert set(providers.names()) - {path.stem.replace("_", "-") for path in TABLES} <= own


def test_the_router_reads_every_table_without_a_fault() -> None:
    tables, faults = files.read_tables(TABLES)
    assert faults == []
    assert {provider: set(rows) for provider, rows in tables.items()} == {
        read(path)["provider"]: set(read(path)["models"]) for path in TABLES
    }
