"""The shipped tables: each says of an existing provider which models it serves, under which id, and for how much."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import providers
from providers.spec import ANY_TASK

TABLES = sorted((Path(__file__).parents[2] / "providers" / "tables").glob("*.yaml"))
HF_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?").fullmatch
PROVIDER_ID = re.compile(r"[A-Za-z0-9][\w.:-]{0,95}(/[A-Za-z0-9][\w.:-]{0,95}){0,5}").fullmatch
ROW = {"id", "task", "status", "context", "adapter", "adapter_weights", "can", "fim", "price"}
PRICE = {"input", "output", "cached_input", "image", "second", "character"}


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
