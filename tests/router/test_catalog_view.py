"""`/v1/models`: what is known of a place, and nothing that is not."""

import providers
from router import catalog_view, routing
from router.health import Figures
from router.keys import Identity
from router.routing import Place, Row, Table


def table() -> Table:
    together = providers.find("together")
    assert together is not None
    rows = {
        "org/free": Row("t/free", "conversational", price={"input": 0.0, "output": 0.0}, can=frozenset({"vision"})),
        "org/paid": Row("t/paid", "conversational", price={"input": 1.5}, can=frozenset({"tools"})),
        "org/film": Row("t/film", "image-to-video"),
    }
    return routing.build([Place("together", together, local=False)], {}, {"together": rows})


def test_figures_of_our_own_stand_beside_what_the_table_says() -> None:
    figures = {"together/t/paid": Figures(0.2514, 81.237, 0.25), "together/t/free": Figures(first=0.1)}
    listed = catalog_view.listed(table(), Identity("a"), figures.get)
    places = {each["id"]: each["providers"][0] for each in listed["data"]}
    assert places["org/paid"] == {
        "provider": "together",
        "status": "live",
        "is_model_author": False,
        "pricing": {"input": 1.5},
        "is_free": False,
        "supports_tools": True,
        "supports_structured_output": False,
        "first_token_latency_ms": 251,
        "throughput": 81.24,
        "error_rate": 0.25,
    }
    assert places["org/free"]["is_free"] and "throughput" not in places["org/free"]
    assert places["org/film"] == {"provider": "together", "status": "live", "is_model_author": False}


def test_a_model_says_what_goes_in_and_what_comes_out() -> None:
    made = {each["id"]: each["architecture"] for each in catalog_view.listed(table(), Identity("a"))["data"]}
    assert made["org/free"] == {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    assert made["org/paid"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
    assert made["org/film"] == {"input_modalities": ["text", "image"], "output_modalities": ["video"]}


def test_a_price_that_no_table_says_is_the_listed_one_and_an_unknown_one_is_left_out() -> None:
    groq = providers.find("groq")
    assert groq is not None
    rows = {"org/llama": Row("llama-3.3-70b-versatile", "conversational"), "org/none": Row("none", "conversational")}
    made = routing.build([Place("fast", groq, local=False)], {}, {"fast": {}, "groq": rows})
    places = {each["id"]: each["providers"][0] for each in catalog_view.listed(made, Identity("a"))["data"]}
    assert set(places["org/llama"]["pricing"]) == {"input", "output"} and not places["org/llama"]["is_free"]
    assert "pricing" not in places["org/none"] and "is_free" not in places["org/none"]
