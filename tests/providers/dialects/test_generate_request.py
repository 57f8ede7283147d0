import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import generate_request
from providers.spec import Fields, Unreadable

SCHEMA = json.loads((Path(__file__).parents[2] / "data" / "text-generation" / "input.json").read_text())
GREEDY = {"prompt": "The", "max_tokens": generate_request.DEFAULT_MAX_NEW_TOKENS, "temperature": 0.0}


def fields_of(body: dict[str, Any]) -> Fields:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}


def read(full_text: bool = False, stream: Any = None, **parameters: Any) -> tuple[dict[str, Any], Any]:
    body: dict[str, Any] = {"inputs": "The", "parameters": parameters}
    return generate_request.read(fields_of(body if stream is None else body | {"stream": stream}), full_text)


def refusal(body: dict[str, Any]) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        generate_request.read(fields_of(body), full_text=False)
    assert caught.value.status == 422
    return caught.value


@pytest.mark.parametrize("body", [{}, {"parameters": {}}, {"parameters": None, "stream": None}, {"stream": False}])
def test_the_least_body_is_greedy_and_as_long_as_the_specification_says(body: dict[str, Any]) -> None:
    canonical, want = generate_request.read(fields_of({"inputs": "The"} | body), full_text=False)
    assert canonical == GREEDY
    assert want == generate_request.Want("", details=False, seed=None, stops=(), top_n=0)
    specified = SCHEMA["$defs"]["TextGenerationInputGenerateParameters"]["properties"]["max_new_tokens"]["default"]
    assert str(canonical["max_tokens"]) == specified


def test_every_parameter_of_the_specification_is_known() -> None:
    specified = SCHEMA["$defs"]["TextGenerationInputGenerateParameters"]["properties"]
    assert set(specified) <= set(generate_request.Parameters.__struct_fields__)


def test_what_hub_and_llm_ls_send_is_mapped() -> None:
    canonical, want = read(
        max_new_tokens=60, temperature=0.2, top_p=0.95, top_k=5, seed=7, stop=["\n"], frequency_penalty=0.5,
        repetition_penalty=1.1, typical_p=0.9, return_full_text=False, details=True,
    )  # fmt: skip
    assert canonical == {
        "prompt": "The", "max_tokens": 60, "temperature": 0.2, "top_p": 0.95, "top_k": 5, "seed": 7, "stop": ["\n"],
        "frequency_penalty": 0.5, "repetition_penalty": 1.1, "typical_p": 0.9,
    }  # fmt: skip
    assert want == generate_request.Want("", details=True, seed=7, stops=("\n",), top_n=0)


def test_the_text_generation_client_sends_every_parameter_as_null_and_they_are_absent() -> None:
    nulls: dict[str, Any] = dict.fromkeys(generate_request.Parameters.__struct_fields__)
    nulls |= {"do_sample": False, "max_new_tokens": 5, "return_full_text": False, "stop": [], "watermark": False}
    canonical, _ = read(**nulls, tool_prompt=None)
    assert canonical == GREEDY | {"max_tokens": 5}


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [
        ({"do_sample": False}, 0.0),
        ({"do_sample": True}, 1.0),
        ({"temperature": 0.3}, 0.3),
        ({"do_sample": False, "temperature": 0.3}, 0.3),
        ({"temperature": 1.0}, 0.0),
        ({"do_sample": True, "temperature": 1.0}, 1.0),
        ({"top_k": 3}, 1.0),
        ({"top_p": 0.5}, 1.0),
        ({"typical_p": 0.5}, 1.0),
        ({"seed": 3}, 0.0),
    ],
)
def test_it_samples_exactly_where_tgi_does(parameters: dict[str, Any], temperature: float) -> None:
    assert read(**parameters)[0]["temperature"] == temperature


@pytest.mark.parametrize(
    ("parameters", "stops"),
    [
        ({"stop": ["a", "b"]}, ["a", "b"]),
        ({"stop": "a"}, ["a"]),
        ({"stop_sequences": ["a"], "stop": ["b", "a"]}, ["b", "a"]),
        ({"stop_sequence": "a"}, ["a"]),
        ({"stop": ["", "a"]}, ["a"]),
    ],
)
def test_every_name_of_the_stop_texts_is_heard(parameters: dict[str, Any], stops: list[str]) -> None:
    canonical, want = read(**parameters)
    assert canonical["stop"] == stops
    assert want.stops == tuple(stops)


def test_llm_ls_nests_parameters_once_too_often() -> None:
    canonical, want = read(full_text=True, parameters={"return_full_text": False, "max_new_tokens": 3})
    assert canonical == GREEDY | {"max_tokens": 3}
    assert want.before == ""


@pytest.mark.parametrize(("default", "asked", "before"), [
    (True, None, "The"), (True, False, ""), (False, None, ""), (False, True, "The"), (True, True, "The"),
])  # fmt: skip
def test_the_prompt_comes_back_where_it_was_asked_for_or_is_the_default(
    default: bool, asked: bool | None, before: str
) -> None:
    assert read(full_text=default, return_full_text=asked)[1].before == before


def test_legacy_lengths_and_numbers_of_answers_are_mapped() -> None:
    assert read(max_length=30)[0]["max_tokens"] == 30
    assert read(max_length=30, max_new_tokens=5)[0]["max_tokens"] == 5
    assert read(num_return_sequences=3, do_sample=True)[0]["n"] == 3
    assert "n" not in read(num_return_sequences=1)[0]


def test_the_best_of_several_and_the_likeliest_tokens_are_mapped() -> None:
    assert read(best_of=2, do_sample=True)[0]["best_of"] == 2
    assert "best_of" not in read(best_of=1)[0]
    canonical, want = read(top_n_tokens=5)
    assert (canonical["logprobs"], want.top_n) == (5, 5)


def test_a_stream_is_asked_for_beside_the_inputs() -> None:
    assert read(stream=True)[0]["stream"] is True
    assert "stream" not in read(stream=False)[0]


@pytest.mark.parametrize(
    ("grammar", "name"),
    [
        ({"type": "json", "value": {"properties": {"a": {}}}}, "grammar"),
        ({"type": "json", "value": '{"properties": {"a": {}}}'}, "grammar"),
        ({"type": "json_schema", "value": {"schema": {"properties": {"a": {}}}}}, "grammar"),
        ({"type": "json_schema", "value": {"name": "x", "schema": {"properties": {"a": {}}}}}, "x"),
    ],
)
def test_a_json_grammar_becomes_a_response_format(grammar: dict[str, Any], name: str) -> None:
    assert read(grammar=grammar)[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": name, "schema": {"properties": {"a": {}}}, "strict": True},
    }


def test_parameters_that_tgi_does_not_know_pass_on() -> None:
    assert read(min_p=0.1, presence_penalty=1)[0] == GREEDY | {"min_p": 0.1, "presence_penalty": 1}


@pytest.mark.parametrize("name", ["inputs", "model", "prompt", "messages", "stream", "stream_options", "options"])
def test_a_bodys_own_names_among_the_parameters_change_nothing(name: str) -> None:
    body = {"inputs": "The", "parameters": {name: True}}
    assert generate_request.read(fields_of(body), full_text=False)[0] == GREEDY


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"temperature": -0.5}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0.0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 1}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
        ({"grammar": {"type": "json", "value": "{"}}, "grammar is not valid: Input data was truncated"),
        ({"grammar": {"type": "json", "value": 3}}, "grammar is not valid: the schema must be an object"),
        ({"grammar": {"type": "lark"}}, "grammar is not valid: `type` must be json, json_schema or regex"),
    ],
)
def test_what_tgi_refuses_is_refused_in_its_words(parameters: dict[str, Any], message: str) -> None:
    assert refusal({"inputs": "x", "parameters": parameters}).message == f"Input validation error: {message}"


def test_nothing_to_go_on_from_is_refused() -> None:
    assert refusal({"inputs": ""}).message == "Input validation error: `inputs` cannot be empty"
    assert refusal({"parameters": {}}).param == "inputs"


def test_several_answers_cannot_be_streamed() -> None:
    for name in ("best_of", "num_return_sequences"):
        body = {"inputs": "x", "stream": True, "parameters": {name: 2, "do_sample": True}}
        assert refusal(body).param == f"parameters.{name}"


@pytest.mark.parametrize(
    "parameters",
    [
        {"watermark": True},
        {"decoder_input_details": True},
        {"truncate": 10},
        {"adapter_id": "org/lora"},
        {"max_time": 2.5},
        {"grammar": {"type": "regex", "value": "a+"}},
        {"api_base": "http://169.254.169.254/"},
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(parameters: dict[str, Any]) -> None:
    fault = refusal({"inputs": "x", "parameters": parameters})
    (name,) = parameters
    assert fault.param == f"parameters.{name}"
    assert f"`{name}`" in fault.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"inputs": 3}, "inputs"),
        ({"inputs": ["a"]}, "inputs"),
        ({"inputs": "x", "stream": 1}, "stream"),
        ({"inputs": "x", "parameters": []}, "parameters"),
        ({"inputs": "x", "parameters": {"max_new_tokens": "5"}}, "parameters.max_new_tokens"),
        ({"inputs": "x", "parameters": {"max_new_tokens": -5}}, "parameters.max_new_tokens"),
        ({"inputs": "x", "parameters": {"do_sample": "yes"}}, "parameters.do_sample"),
        ({"inputs": "x", "parameters": {"temperature": True}}, "parameters.temperature"),
        ({"inputs": "x", "parameters": {"stop": [1]}}, "parameters.stop[0]"),
        ({"inputs": "x", "parameters": {"grammar": "json"}}, "parameters.grammar"),
    ],
)
def test_a_wrong_type_names_the_field(body: dict[str, Any], param: str) -> None:
    fault = refusal(body)
    assert fault.param == param
    assert fault.message.startswith(f"Failed to deserialize the JSON body into the target type: {param}: ")


@pytest.mark.parametrize("sent", [b'"\xff"', b"1e999"])
@pytest.mark.parametrize("name", ["inputs", "stream", "parameters"])
def test_bytes_that_are_no_json_text_name_their_field(name: str, sent: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        generate_request.read(fields_of({"inputs": "x"}) | {name: msgspec.Raw(sent)}, full_text=False)
    assert (caught.value.param, caught.value.status) == (name, 400)


@pytest.mark.parametrize("parameters", [{"temperature": 1}, {"seed": 2**64 - 1}])
def test_numbers_that_mean_the_right_thing_are_taken(parameters: dict[str, Any]) -> None:
    jsonschema.validate({"inputs": "x", "parameters": parameters}, SCHEMA)
    read(**parameters)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "value", "schema"]), inner),
    max_leaves=6,
)
names = st.sampled_from([*generate_request.Parameters.__struct_fields__, "parameters", "min_p", "prompt"])


@given(st.dictionaries(names, values) | values, values, st.booleans())
def test_any_json_at_all_is_read_or_refused(parameters: Any, stream: Any, full_text: bool) -> None:
    body = {"inputs": "The", "parameters": parameters, "stream": stream}
    try:
        canonical, _ = generate_request.read(fields_of(body), full_text)
    except Unreadable:
        return
    assert canonical["prompt"] == "The"
    assert not {"inputs", "parameters", "stop_sequences", "do_sample", "details"} & canonical.keys()
