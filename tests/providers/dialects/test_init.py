from providers.dialects import DIALECTS


def test_every_dialect_is_found_by_its_own_name() -> None:
    assert set(DIALECTS) == {"openai", "huggingface", "tgi", "ollama"}
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
