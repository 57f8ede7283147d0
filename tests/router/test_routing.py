import random

import pytest

import providers
from providers import spec
from providers.spec import Provider
from router import routing
from router.routing import DeploymentSettings, Place, RouteSettings, Row, Table
from router.routing.settings import FimSettings


def provider(name: str) -> Provider:
    found = providers.find(name)
    assert found is not None
    return found


def table(**models: RouteSettings) -> Table:
    places = [
        Place("together", provider("together"), local=False),
        Place("groq", provider("groq"), local=False),
        Place("house", provider("tgi"), local=True),
    ]
    rows = {
        "together": {
            "org/chat": Row("t/chat", "conversational", context=4096, price={"output": 2.0}),
            "org/vec": Row("t/vec", "feature-extraction"),
            "org/down": Row("t/down", "conversational", status="error"),
        },
        "groq": {"org/chat": Row("g-chat", "conversational", price={"output": 1.0})},
    }
    return routing.build(places, {name.replace("__", "/"): route for name, route in models.items()}, rows)


def names(made: Table, model: str, task: str = spec.CONVERSATIONAL, dialect: str = "openai") -> list[str]:
    found = made.find(model, task, dialect)
    assert found is not None
    plan = routing.plan(found.plan, dice=random.Random(1))
    return [each.deployment.name for each in plan.attempts]


def test_a_table_model_is_had_wherever_its_upstream_is() -> None:
    assert names(table(), "org/chat") == ["together/t/chat", "groq/g-chat"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("ORG/Chat", ["together/t/chat", "groq/g-chat"]),
        ("org/chat:groq", ["groq/g-chat"]),
        ("org/chat:cheapest", ["groq/g-chat", "together/t/chat"]),
        ("groq/org/chat", ["groq/g-chat"]),
        ("groq/other-model", ["groq/other-model"]),
        ("llama3.2:3b:groq", ["groq/llama3.2:3b"]),
    ],
)
def test_an_id_is_read_as_decided(model: str, expected: list[str]) -> None:
    assert names(table(), model) == expected


@pytest.mark.parametrize("model", ["nobody/has-it", "org/chat:nowhere", "elsewhere/org/chat", ""])
def test_an_unknown_id_is_nobodys(model: str) -> None:
    assert table().find(model, spec.CONVERSATIONAL, "openai") is None


def test_an_explicit_route_wins_and_fills_ids_from_the_table() -> None:
    made = table(org__chat=RouteSettings(deployments=[DeploymentSettings(upstream="groq")]))
    assert names(made, "org/chat") == ["groq/g-chat"]


def test_an_alias_leads_to_its_model_and_a_wildcard_to_every_id() -> None:
    made = table(
        gpt=RouteSettings(alias="org/chat"),
        **{"any-*": RouteSettings(deployments=[DeploymentSettings(upstream="house")])},
    )
    assert names(made, "gpt") == ["together/t/chat", "groq/g-chat"]
    assert names(made, "any-thing") == ["house/any-thing"]


def test_each_candidate_that_is_left_out_says_why() -> None:
    found = table().find("org/vec", spec.CONVERSATIONAL, "openai")
    assert found is not None and found.plan.attempts == ()
    assert "feature-extraction" in found.plan.dropped[0].reason
    down = table().find("org/down", spec.CONVERSATIONAL, "openai")
    assert down is not None and "down" in down.plan.dropped[0].reason


def test_text_generation_is_relayed_to_tgi_and_crosses_to_the_others() -> None:
    made = table(
        m=RouteSettings(
            deployments=[DeploymentSettings(upstream="house", provider_id="x"), DeploymentSettings(upstream="groq")]
        )
    )
    found = made.find("m", spec.TEXT_GENERATION, "huggingface")
    assert found is not None
    assert [(each.dialect, each.task) for each in found.plan.attempts] == [
        ("huggingface", spec.TEXT_GENERATION),
        ("openai", spec.CONVERSATIONAL),
    ]


def test_weights_are_shares() -> None:
    made = table(
        m=RouteSettings(
            policy="weighted",
            deployments=[
                DeploymentSettings(upstream="together", provider_id="a", weight=3),
                DeploymentSettings(upstream="groq", provider_id="b", weight=1),
            ],
        )
    )
    found = made.find("m", spec.CONVERSATIONAL, "openai")
    assert found is not None
    dice = random.Random(3)
    first = [routing.plan(found.plan, dice=dice).attempts[0].deployment.upstream for _ in range(4000)]
    assert 0.72 < first.count("together") / 4000 < 0.78


def test_what_rests_is_tried_last_and_never_left_out() -> None:
    found = table().find("org/chat", spec.CONVERSATIONAL, "openai")
    assert found is not None
    plan = routing.plan(found.plan, dice=random.Random(1), resting={"together/t/chat": 5.0})
    assert [each.deployment.upstream for each in plan.attempts] == ["groq", "together"]


def test_the_fastest_is_the_one_measured_so() -> None:
    found = table().find("org/chat:fastest", spec.CONVERSATIONAL, "openai")
    assert found is not None
    speed = {"together/t/chat": 0.9, "groq/g-chat": 0.1}
    plan = routing.plan(found.plan, dice=random.Random(1), speed=speed.get)
    assert plan.attempts[0].deployment.upstream == "groq"


def test_an_upstream_that_does_not_answer_is_left_out_until_it_does() -> None:
    made = table().with_live({"house": ("org/chat",)}, frozenset({"house"}))
    assert "house" not in {name.partition("/")[0] for name in names(made, "org/chat")}
    assert names(made.with_live({"house": ("org/chat",)}, frozenset()), "org/chat")[0] == "house/org/chat"


def test_a_code_model_that_a_server_lists_is_known_by_its_family_and_a_setting_wins() -> None:
    found = table().with_live({"house": ("bigcode/starcoder2-15b", "org/chat")}, frozenset())
    route = found.route("bigcode/starcoder2-15b")
    assert route is not None and (fim := route.deployments[0].fim) is not None
    assert fim.prompt("a", "c") == "<fim_prefix>a<fim_suffix>c<fim_middle>"
    assert [each.fim for each in (found.route("org/chat") or route).deployments] == [None, None, None]
    own = DeploymentSettings(
        upstream="house", provider_id="tgi", fim=FimSettings(prefix="<P>", suffix="<S>", middle="<M>")
    )
    told = table(**{"bigcode/starcoder2-15b": RouteSettings(deployments=[own])}).route("bigcode/starcoder2-15b")
    assert told is not None and (marks := told.deployments[0].fim) is not None and marks.prefix == "<P>"
    bare = DeploymentSettings(upstream="house", provider_id="tgi")
    led = table(**{"bigcode/starcoder2-15b": RouteSettings(deployments=[bare])}).route("bigcode/starcoder2-15b")
    assert led is not None and (marks := led.deployments[0].fim) is not None and marks.prefix == "<fim_prefix>"
