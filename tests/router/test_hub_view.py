"""What the Hub's clients are told of our models."""

import pytest

import providers
from providers.spec import Provider
from router import hub_view, routing
from router.hub_view import Query
from router.keys import Identity, Rights
from router.routing import DeploymentSettings, Place, RouteSettings, Row, Table

ANYONE = Identity("anonymous")


def provider(name: str) -> Provider:
    found = providers.find(name)
    assert found is not None
    return found


def table(models: dict[str, RouteSettings] | None = None) -> Table:
    places = [
        Place("together", provider("together"), local=False),
        Place("quick", provider("groq"), local=False),
        Place("house", provider("tgi"), local=True),
        Place("hub", provider("huggingface"), local=False),
    ]
    rows = {
        "together": {
            "org/chat": Row("t/chat", "conversational"),
            "org/sees": Row("t/sees", "conversational", can=frozenset({"vision"})),
            "org/vec": Row("t/vec", "feature-extraction"),
            "org/down": Row("t/down", "conversational", status="error"),
            "org/flux": Row("t/flux", "text-to-image"),
            "me/lora": Row("t/flux-lora", "text-to-image", adapter="lora", adapter_weights="w.safetensors"),
        },
        "groq": {"org/chat": Row("g-chat", "conversational", status="staging")},
        "huggingface": {"org/chat": Row("org/chat", "conversational")},
    }
    made = routing.build(places, models or {}, rows)
    return made.with_live({"house": ("org/mine", "org/chat")}, frozenset())


def found(name: str, made: Table | None = None, identity: Identity = ANYONE) -> hub_view.Model:
    model = hub_view.find(made or table(), identity, name)
    assert model is not None
    return model


def test_who_serves_a_model_is_told_in_the_hubs_names_and_in_our_order() -> None:
    assert hub_view.info(found("org/chat"), ["inferenceProviderMapping"]) == {
        "_id": hub_view.number("org/chat"),
        "id": "org/chat",
        "modelId": "org/chat",
        "inferenceProviderMapping": {
            "hf-inference": {
                "status": "live",
                "providerId": "org/chat",
                "task": "conversational",
                "isModelAuthor": False,
            },
            "together": {"status": "live", "providerId": "t/chat", "task": "conversational", "isModelAuthor": False},
            "groq": {"status": "staging", "providerId": "g-chat", "task": "conversational", "isModelAuthor": False},
        },
    }
    assert list(found("org/chat").mapping) == ["hf-inference", "together", "groq"]


def test_an_adapter_goes_with_the_mapping() -> None:
    entry = found("me/lora").mapping["together"]
    assert (entry["adapter"], entry["adapterWeightsPath"]) == ("lora", "w.safetensors")


@pytest.mark.parametrize(
    ("model", "tag", "tags"),
    [
        ("org/chat", "text-generation", ["text-generation", "conversational"]),
        ("org/sees", "image-text-to-text", ["image-text-to-text", "conversational"]),
        ("org/vec", "feature-extraction", ["feature-extraction", "sentence-similarity"]),
        ("org/flux", "text-to-image", ["text-to-image"]),
        ("org/mine", "text-generation", ["text-generation", "conversational"]),
    ],
)
def test_a_model_is_tagged_so_that_clients_let_its_tasks_through(model: str, tag: str, tags: list[str]) -> None:
    told = hub_view.info(found(model))
    assert (told["pipeline_tag"], told["tags"]) == (tag, tags)


def test_what_is_asked_for_is_told_and_nothing_else() -> None:
    assert set(hub_view.info(found("org/chat"), ["inference", "pipeline_tag", "likes"])) == {
        "_id", "id", "modelId", "inference", "pipeline_tag",
    }  # fmt: skip
    assert "inference" not in hub_view.info(found("org/down"), ["inference"]), "cold is said by saying nothing"


@pytest.mark.parametrize("name", ["nobody/has-it", "org/chat:together", "together/other", ""])
def test_the_hub_has_no_such_model(name: str) -> None:
    assert hub_view.find(table(), ANYONE, name) is None


def test_nobody_is_told_of_what_a_plan_keeps_from_them() -> None:
    bob = Identity("bob", Rights(not_models=["*chat*"]))
    made = table({"fast": RouteSettings(alias="org/chat")})
    assert hub_view.find(made, bob, "org/chat") is None and hub_view.find(made, bob, "fast") is None
    assert "org/chat" not in [each.id for each in hub_view.models(made, bob)]


def test_an_alias_is_told_of_as_what_it_stands_for_and_listed_once() -> None:
    made = table({"fast": RouteSettings(alias="org/chat")})
    assert found("fast", made).id == "org/chat"
    ids = [each.id for each in hub_view.models(made, ANYONE)]
    assert ids == sorted(ids) and ids.count("org/chat") == 1 and "fast" not in ids


def test_a_place_that_does_not_answer_is_not_told_of() -> None:
    made = table().with_live({"house": ("org/mine", "org/chat")}, frozenset({"house"}))
    assert list(found("org/chat", made).mapping) == ["together", "groq", "hf-inference"]
    assert "org/mine" not in [each.id for each in hub_view.models(made, ANYONE)]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(providers=frozenset({"groq", "cohere"})), ["org/chat"]),
        (Query(pipeline_tag="text-to-image"), ["me/lora", "org/flux"]),
        (Query(tags=("conversational",), search="S"), ["org/sees"]),
        (Query(search="CHAT"), ["org/chat"]),
        (Query(author="me"), ["me/lora"]),
        (Query(warm=True, search="down"), []),
        (Query(search="down"), ["org/down"]),
    ],
)
def test_the_list_is_narrowed_by_what_is_asked(query: Query, ids: list[str]) -> None:
    page, last = hub_view.page(hub_view.models(table(), ANYONE), query)
    assert ([each.id for each in page], last) == (ids, "")


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_come_to_the_whole_each_model_once(limit: int) -> None:
    whole = [each.id for each in hub_view.models(table(), ANYONE)]
    pages: list[str] = []
    last = ""
    for _ in whole:
        page, last = hub_view.page(hub_view.models(table(), ANYONE), Query(limit=limit, after=last))
        pages += [each.id for each in page]
        if not last:
            break
    assert pages == whole and not last


def test_a_state_is_what_would_come_of_asking_now() -> None:
    assert hub_view.status(found("org/chat"), ()) == {
        "loaded": True, "state": "Loaded", "compute_type": "gpu", "framework": "text-generation-inference",
    }  # fmt: skip
    flux = hub_view.status(found("org/flux"), {"together/t/flux"})
    assert (flux["loaded"], flux["state"], flux["framework"]) == (False, "Loadable", "diffusers")
    down = hub_view.status(found("org/down"), ())
    assert (down["loaded"], down["state"]) == (False, "error")


def test_models_are_listed_by_what_would_run_them() -> None:
    listed = hub_view.of_framework(hub_view.models(table(), ANYONE), "sentence-transformers")
    assert listed == [
        {
            "model_id": "org/vec",
            "task": "feature-extraction",
            "framework": "sentence-transformers",
            "compute_type": "cpu",
        }
    ]
    assert hub_view.of_framework(hub_view.models(table(), ANYONE), "fastai") == []


def test_a_task_has_the_default_model_first_and_never_none() -> None:
    told = hub_view.tasks(hub_view.models(table(), ANYONE), {"text-to-image": "org/flux", "conversational": "org/sees"})
    assert told["text-to-image"]["widgetModels"] == ["org/flux", "me/lora"]
    assert told["conversational"]["models"][0] == told["text-generation"]["models"][0] == {"id": "org/sees"}
    assert all(each["widgetModels"] and each["models"] for each in told.values())
    assert hub_view.tasks([], {}) == {}


def test_a_route_of_your_own_says_what_a_model_is_for() -> None:
    deployment = DeploymentSettings(upstream="house")
    made = table({"my/ner": RouteSettings(task="token-classification", deployments=[deployment])})
    told = hub_view.info(found("my/ner", made))
    assert told["pipeline_tag"] == "token-classification"
    assert told["inferenceProviderMapping"]["hf-inference"]["task"] == "token-classification"


def test_a_tenant_is_a_user_of_the_hub_and_a_stranger_is_none() -> None:
    told = hub_view.whoami(Identity("alice", plan="pro"))
    assert told is not None
    assert (told["name"], told["isPro"], told["orgs"]) == ("alice", True, [])
    assert told["auth"]["accessToken"]["displayName"] == "alice"
    assert hub_view.whoami(ANYONE) is None
