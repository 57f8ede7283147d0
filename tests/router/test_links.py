"""What a server of one's own is never sent: FAULTS §3.1 A3, in every place where such a server would look."""

from typing import Any

import msgspec
import pytest

from providers import spec
from providers.spec import Ask, Blob, Link
from router import links

INSIDE = "http://169.254.169.254/latest"
SHOWN = "[0].content[0].image_url"


@pytest.mark.parametrize(
    ("provider", "files", "body", "field"),
    [
        ("openai", False, {"messages": [{"content": [{"image_url": {"url": INSIDE}}]}]}, f"messages{SHOWN}.url"),
        ("openai", False, {"messages": [{"content": [{"image_url": [INSIDE]}]}]}, f"messages{SHOWN}[0]"),
        ("openai", False, {"messages": [{"content": [{"image_url": {"url": "/etc/x"}}]}]}, f"messages{SHOWN}.url"),
        ("openai", False, {"documents": [{"content": [{"image_url": {"url": INSIDE}}]}]}, f"documents{SHOWN}.url"),
        ("openai", False, {"input": [{"content": [{"file_url": INSIDE}]}]}, "input[0].content[0].file_url"),
        ("openai", False, {"image_url": INSIDE}, "image_url"),
        ("hf-inference", True, {"inputs": INSIDE}, "inputs"),
        ("hf-inference", True, {"inputs": " FILE:///etc/passwd"}, "inputs"),
        ("hf-inference", True, {"inputs": {"image": INSIDE, "question": "?"}}, "inputs.image"),
        ("hf-inference", True, {"inputs": [{"image": [INSIDE]}]}, "inputs[0].image[0]"),
        ("hf-inference", True, {"image": INSIDE}, "image"),
        ("hf-inference", True, {"inputs": "AAAA", "parameters": {"mask_image": INSIDE}}, "parameters.mask_image"),
        ("tgi", False, {"inputs": f"what is this? ![]({INSIDE})"}, "inputs"),
        ("tgi", False, {"prompt": f"![]({INSIDE})"}, "prompt"),
        ("tgi", False, {"messages": [{"content": f"![]({INSIDE})"}]}, "messages[0].content"),
    ],
)  # fmt: skip
def test_what_would_be_fetched_is_found_where_it_stands(
    provider: str, files: bool, body: dict[str, Any], field: str
) -> None:
    assert links.in_fields({name: spec.raw(value) for name, value in body.items()}, provider, files) == field


def test_an_address_that_is_written_in_escapes_is_found_too() -> None:
    written = rb'[{"image_\u0075rl":"http:\/\/10.0.0.1"}]'
    assert links.in_fields({"messages": msgspec.Raw(written)}, "openai", False) == "messages[0].image_url"
    assert links.in_fields({"inputs": msgspec.Raw(rb'"http:\/\/10.0.0.1"')}, "tei", True) == "inputs"


@pytest.mark.parametrize(
    ("provider", "files", "body"),
    [
        ("openai", False, {"messages": [{"content": f"read {INSIDE}"}]}),
        ("openai", False, {"messages": [{"content": f"![]({INSIDE})"}]}),
        ("openai", False, {"messages": [{"content": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]}]}),
        ("tgi", False, {"inputs": f"![]({'data:image/png;base64,AAAA'}) and ![a]({INSIDE})"}),
        ("tei", False, {"inputs": INSIDE}),
        ("tei", False, {"inputs": [INSIDE, "b"]}),
        ("hf-inference", True, {"inputs": "AAAA", "parameters": {"candidate_labels": ["cat", "dog"]}}),
        ("openai", False, {"tools": [{"parameters": {"url": {"type": "string"}}}]}),
    ],
)
def test_a_text_about_an_address_is_a_text(provider: str, files: bool, body: dict[str, Any]) -> None:
    assert links.in_fields({name: spec.raw(value) for name, value in body.items()}, provider, files) is None


def test_a_file_named_by_url_is_found_in_any_part_of_a_question() -> None:
    assert links.in_ask(Ask("image-to-text", Link(INSIDE)))
    assert links.in_ask(Ask("visual-question-answering", [{"image": Link(INSIDE), "question": "?"}]))
    assert links.in_ask(Ask("image-to-image", Blob(b"x"), {"images": [{"mask": INSIDE}]}))
    assert not links.in_ask(Ask("feature-extraction", [INSIDE], {"normalize": True}))
