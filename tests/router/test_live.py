"""What a server is asked to find out whether it is there, and what it has: one that answers as each kind does."""

import asyncio
import json
from typing import Any

import pytest

import providers
from router import live
from router.health import Resting
from router.keypool import KeyPool
from router.outgoing import Upstream
from router.upstream.settings import UpstreamSettings

Paths = dict[str, Any]  # path → what it answers; any other is a 404

OURS: Paths = {"/info": {"model_id": "org/painter", "task": "text-to-image", "state": "idle"}}
TEI: Paths = {"/info": {"model_id": "BAAI/bge-small-en-v1.5", "model_type": {"embedding": {"pooling": "cls"}}}}
TOOLKIT: Paths = {"/health": "Ok", "/": "Ok"}


async def asked(provider: str, paths: Paths) -> tuple[tuple[str, ...] | None, str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        found = paths.get(path)
        body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
        status = b"404 Not Found" if found is None else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    kind = providers.find(provider)
    assert kind is not None
    base = f"http://127.0.0.1:{port}"
    upstream = Upstream(
        "mine", kind, UpstreamSettings(provider=provider, base_url=base), KeyPool("mine", (), Resting()), base
    )
    async with server:
        try:
            return await live.ask(upstream)
        finally:
            await upstream.pool.close()


@pytest.mark.parametrize(
    ("provider", "paths", "listed"),
    [
        ("openai", {"/models": {"data": [{"id": "a"}, {"id": "b"}]}}, ("a", "b")),
        ("openai", {"/models": "a page"}, None),
        ("tgi", {"/info": {"model_id": "org/chat", "model_pipeline_tag": "text-generation"}}, ("org/chat",)),
        ("tgi", TOOLKIT, None),
        ("tei", TEI, ("BAAI/bge-small-en-v1.5",)),
        ("diffusers", OURS, ("org/painter",)),
        ("transformers", OURS, None),
        ("transformers", {"/info": {"model_id": "org/ner", "task": "token-classification"}}, ("org/ner",)),
        ("diffusers", TOOLKIT, ()),
        ("diffusers", {}, None),
    ],
)
def test_a_server_is_asked_as_its_kind_can_answer(provider: str, paths: Paths, listed: tuple[str, ...] | None) -> None:
    assert asyncio.run(asked(provider, paths))[0] == listed


@pytest.mark.parametrize(
    ("provider", "paths", "task"),
    [
        ("transformers", {"/info": {"model_id": "org/ner", "task": "token-classification"}}, "token-classification"),
        ("diffusers", OURS, "text-to-image"),
        ("tgi", {"/info": {"model_id": "org/chat", "model_pipeline_tag": "text-generation"}}, "*"),
        ("openai", {"/models": {"data": [{"id": "a"}]}}, "*"),
    ],
)
def test_a_server_of_one_model_says_what_it_is_for(provider: str, paths: Paths, task: str) -> None:
    assert asyncio.run(asked(provider, paths))[1] == task
