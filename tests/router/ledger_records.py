"""Intents and entries for tests of what keeps them."""

import time
from typing import Any

from router.entry import Entry, Intent


def intent(name: str, **other: Any) -> Intent:
    made: dict[str, Any] = {
        "id": name, "time": time.time(), "request": f"req-{name}", "tenant": "ann", "key": "ann-1", "model": "org/m",
        "task": "conversational", "dialect": "openai", "upstream": "here", "most": 500,
    }  # fmt: skip
    return Intent(**(made | other))


def entry(name: str, **other: Any) -> Entry:
    made: dict[str, Any] = {
        "id": name, "time": time.time(), "request": f"req-{name}", "tenant": "ann", "key": "ann-1", "model": "org/m",
        "task": "conversational", "dialect": "openai", "upstream": "here", "provider_id": "m", "provider_key": "pool-1",
        "billing": "routed", "billed_to": "", "status": 200, "outcome": "ok", "stream": True, "cache": "",
        "seconds": 0.5, "cost": 100, "charge": 120,
    }  # fmt: skip
    return Entry(**(made | other))
