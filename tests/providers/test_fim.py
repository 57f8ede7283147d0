"""The marks of code models: by family, for ids of the Hub's form alone, and the same in every table."""

from pathlib import Path

import pytest
import yaml

from providers.fim import marks_of

STARCODER = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
DEEPSEEK = ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
CODE_LLAMA = ("<PRE> ", " <SUF>", " <MID>")
TABLES = sorted((Path(__file__).parents[2] / "providers" / "tables").glob("*.yaml"))


@pytest.mark.parametrize(
    ("model", "marks"),
    [
        ("bigcode/starcoder", STARCODER),
        ("bigcode/starcoderbase-1b", STARCODER),
        ("bigcode/starcoder2-15b", STARCODER),
        ("stabilityai/stable-code-3b", STARCODER),
        ("codellama/CodeLlama-7b-hf", CODE_LLAMA),
        ("meta-llama/CodeLlama-13b-Instruct-hf", CODE_LLAMA),
        ("TheBloke/CodeLlama-13B-GPTQ", CODE_LLAMA),
        ("Qwen/Qwen2.5-Coder-0.5B", QWEN),
        ("Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", QWEN),
        ("google/codegemma-2b", QWEN),
        ("deepseek-ai/deepseek-coder-6.7b-base", DEEPSEEK),
        ("deepseek-ai/DeepSeek-Coder-V2-Lite-Base", DEEPSEEK),
    ],
)
def test_a_family_is_known_by_its_name(model: str, marks: tuple[str, str, str]) -> None:
    assert marks_of(model) == marks


@pytest.mark.parametrize(
    "model",
    [
        "codellama/CodeLlama-34b-hf",  # not trained to infill, nor are the Python ones
        "codellama/CodeLlama-7b-Python-hf",
        "bigcode/starcoder2-15b-instruct-v0.1",
        "deepseek-ai/deepseek-coder-6.7b-instruct",
        "google/codegemma-7b-it",
        "mistralai/Codestral-22B-v0.1",  # what comes after the gap goes first
        "meta-llama/Llama-3.1-8B-Instruct",
        "starcoder2:3b",  # Ollama: it has a template of its own
        "user/starcoder2:3b",
        "bigcode/starcoder2-15b/",
        "",
    ],
)
def test_nothing_is_guessed(model: str) -> None:
    assert marks_of(model) is None


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_row_says_the_marks_of_its_family_and_no_others(path: Path) -> None:
    for model, row in yaml.safe_load(path.read_text())["models"].items():
        marks, fim = marks_of(model), row.get("fim")
        assert (marks._asdict() if marks else None) == fim, model
