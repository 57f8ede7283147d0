"""Nothing of the machine's own set-up reaches a test: no proxies, no provider keys."""

import os

import pytest

NAMES = ("_KEY", "_TOKEN", "_PROXY", "_proxy")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.endswith(NAMES):
            monkeypatch.delenv(name)
