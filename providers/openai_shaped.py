"""Builds a provider whose API is OpenAI's: a name, a base URL, the tasks it serves, and what it wants otherwise.

Refuses to hold any provider's deviations: those are small functions in that provider's own file.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from providers.spec import (
    CONVERSATIONAL,
    FEATURE_EXTRACTION,
    IMAGE_TO_IMAGE,
    MODERATION,
    RESPONSES,
    SPEECH_RECOGNITION,
    SPEECH_TRANSLATION,
    TEXT_GENERATION,
    TEXT_RANKING,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    Adapt,
    Adapter,
    Provider,
    Task,
)

PATHS: Final[Mapping[Task, str]] = MappingProxyType(
    {
        CONVERSATIONAL: "/chat/completions",
        TEXT_GENERATION: "/completions",
        FEATURE_EXTRACTION: "/embeddings",
        TEXT_TO_IMAGE: "/images/generations",
        IMAGE_TO_IMAGE: "/images/edits",
        TEXT_TO_SPEECH: "/audio/speech",
        SPEECH_RECOGNITION: "/audio/transcriptions",
        SPEECH_TRANSLATION: "/audio/translations",
        RESPONSES: "/responses",
        TEXT_RANKING: "/rerank",
        MODERATION: "/moderations",
    }
)


def openai_shaped(
    name: str,
    base_url: str | None,
    *,
    prefix: str = "/v1",
    tasks: Iterable[Task] = (CONVERSATIONAL,),
    adapts: Mapping[Task, Adapt] = MappingProxyType({}),
    headers: Mapping[str, str] = MappingProxyType({}),
    env: tuple[str, ...] = (),
    key_prefixes: tuple[str, ...] = (),
    lists_models: bool = False,
    needs_key: bool = True,
    usage_option: bool = True,
) -> Provider:
    """`prefix` stands before every path; `lists_models` where `{prefix}/models` answers in OpenAI's shape."""
    return Provider(
        name=name,
        base_url=base_url,
        adapters=openai_adapters(prefix, tasks, adapts),
        headers=headers,
        env=env,
        key_prefixes=key_prefixes,
        models_path=f"{prefix}/models" if lists_models else None,
        needs_key=needs_key,
        usage_option=usage_option,
    )


def openai_adapters(
    prefix: str = "/v1",
    tasks: Iterable[Task] = tuple(PATHS),
    adapts: Mapping[Task, Adapt] = MappingProxyType({}),
) -> dict[tuple[Task, str], Adapter]:
    """One adapter a task, at OpenAI's own paths below `prefix`."""
    return {(task, "openai"): Adapter(prefix + PATHS[task], adapt=adapts.get(task)) for task in tasks}
