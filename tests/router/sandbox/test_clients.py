"""The real clients, pointed straight at the sandbox."""

import asyncio
import struct
import wave
from base64 import b64decode
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import openai
import pytest
from huggingface_hub import AsyncInferenceClient
from PIL import Image

from router.sandbox import MODELS, Sandbox
from tests.router.sandbox.wire import with_sandbox

TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USER: Any = [{"role": "user", "content": "one two three"}]


def with_openai(test: Callable[[openai.AsyncOpenAI], Awaitable[None]]) -> None:
    async def run(sandbox: Sandbox) -> None:
        async with openai.AsyncOpenAI(base_url=f"{sandbox.base_url}/v1", api_key="x", max_retries=0) as client:
            await test(client)

    with_sandbox(run)


def test_chat_answers_with_the_last_user_message_and_counts_words() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        parts: Any = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "text", "text": "c"}]},
        ]
        answer = await client.chat.completions.create(model="sandbox/echo", messages=parts, n=2, logprobs=True)
        assert [choice.message.content for choice in answer.choices] == ["a b c", "a b c"]
        assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 6)
        assert answer.choices[0].logprobs and answer.choices[0].logprobs.content
        assert [entry.token for entry in answer.choices[0].logprobs.content] == ["a", " b", " c"]

    with_openai(run)


def test_chat_ends_at_max_tokens_and_before_a_stop_sequence() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        cut = await client.chat.completions.create(model="m", messages=USER, max_completion_tokens=2)
        assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("one two", "length")
        stopped = await client.chat.completions.create(model="m", messages=USER, stop=" three")
        assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one two", "stop")

    with_openai(run)


def test_a_chat_stream_has_usage_only_where_it_was_asked_for() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        plain = [chunk async for chunk in await client.chat.completions.create(model="m", messages=USER, stream=True)]
        assert [chunk.choices[0].delta.content for chunk in plain] == ["", "one", " two", " three", None]
        assert all(chunk.usage is None for chunk in plain)
        asked = await client.chat.completions.create(
            model="m", messages=USER, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in asked]
        assert len(chunks) == 5 and all(chunk.usage is None for chunk in chunks)
        assert last.choices == [] and last.usage and last.usage.total_tokens == 6

    with_openai(run)


def test_a_required_tool_is_called_whole_and_streamed() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        whole = await client.chat.completions.create(model="m", messages=USER, tools=TOOLS, tool_choice="required")
        calls: Any = whole.choices[0].message.tool_calls
        assert (calls[0].function.name, calls[0].function.arguments) == ("weather", "{}")
        assert whole.choices[0].finish_reason == "tool_calls" and whole.choices[0].message.content is None
        stream = await client.chat.completions.create(
            model="m", messages=USER, tools=TOOLS, tool_choice="required", stream=True
        )
        deltas = [chunk.choices[0].delta.tool_calls async for chunk in stream]
        found = [call.function for calls in deltas for call in calls or ()]
        assert "".join(part.arguments or "" for part in found if part) == "{}"

    with_openai(run)


def test_a_json_response_format_gets_json() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="m", messages=USER, response_format={"type": "json_object"})
        assert answer.choices[0].message.content == '{"echo":"one two three"}'

    with_openai(run)


def test_completions_answer_every_prompt_whole_and_streamed() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        whole = await client.completions.create(model="m", prompt=["a b c", "d"], max_tokens=2, echo=True, logprobs=1)
        assert [(choice.text, choice.finish_reason) for choice in whole.choices] == [
            ("a b ca b", "length"),
            ("dd", "stop"),
        ]
        stream = await client.completions.create(model="m", prompt=[7, 8], stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "7 8"

    with_openai(run)


def test_embeddings_are_the_same_as_floats_and_as_base64() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        packed = await client.embeddings.create(model="m", input=["a", "b"], dimensions=8)
        floats = await client.embeddings.create(model="m", input=["a", "b"], dimensions=8, encoding_format="float")
        for one, other in zip(packed.data, floats.data, strict=True):
            assert struct.pack("<8f", *one.embedding) == struct.pack("<8f", *other.embedding)
            assert sum(value * value for value in other.embedding) == pytest.approx(1)
        assert packed.data[0].embedding != packed.data[1].embedding
        tokens = await client.embeddings.create(model="m", input=[[1, 2], [3]])
        assert [len(vector.embedding) for vector in tokens.data] == [384, 384]

    with_openai(run)


def test_images_are_real_pictures_of_the_size_asked_for() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        made = await client.images.generate(model="m", prompt="a cat", n=2, size="256x256")
        pictures = [b64decode(image.b64_json or "") for image in made.data or ()]
        assert len(set(pictures)) == 2
        opened = Image.open(BytesIO(pictures[0]))
        opened.load()
        assert (opened.format, opened.size) == ("PNG", (256, 256))
        edited = await client.images.edit(
            model="m", prompt="a hat", image=("cat.png", pictures[0], "image/png"), response_format="url"
        )
        assert edited.data and (edited.data[0].url or "").startswith("data:image/png;base64,")

    with_openai(run)


def test_speech_is_a_wav_that_plays() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        spoken = await client.audio.speech.create(model="m", voice="alloy", input="one two three")
        assert spoken.response.headers["content-type"] == "audio/wav"
        with wave.open(BytesIO(spoken.content)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
            assert len(sound.readframes(10**9)) == len(spoken.content) - 44
        bare = await client.audio.speech.create(model="m", voice="alloy", input="one two three", response_format="pcm")
        assert bare.content == spoken.content[44:]

    with_openai(run)


def test_recordings_are_counted_in_every_format() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        file = ("talk.wav", b"x" * 40_000)
        said = "heard 40000 bytes of talk.wav"
        heard = client.audio.transcriptions
        assert (await heard.create(model="m", file=file)).text == said
        assert await heard.create(model="m", file=file, response_format="text") == f"{said}\n"
        verbose = await heard.create(model="m", file=file, response_format="verbose_json")
        assert verbose.duration == 3.0 and verbose.segments and verbose.segments[0].text == said
        srt = await heard.create(model="m", file=file, response_format="srt")
        assert str(srt) == f"1\n00:00:00,000 --> 00:00:03,000\n{said}\n\n"
        assert str(await heard.create(model="m", file=file, response_format="vtt")).startswith("WEBVTT\n")
        events = [event async for event in await heard.create(model="m", file=file, stream=True)]
        assert events[-1].type == "transcript.text.done" and events[-1].text == said
        with pytest.warns(DeprecationWarning, match="deprecated"):
            assert (await client.audio.translations.create(model="m", file=file)).text == said

    with_openai(run)


def test_responses_are_whole_and_streamed_and_call_tools() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        whole = await client.responses.create(model="m", input="one two three")
        assert whole.output_text == "one two three" and whole.usage and whole.usage.total_tokens == 6
        events = [event async for event in await client.responses.create(model="m", input=USER, stream=True)]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two three"
        last: Any = events[-1]
        assert last.type == "response.completed" and last.response.output_text == "one two three"
        tools: Any = [{"type": "function", "name": "weather", "parameters": {}}]
        called: Any = await client.responses.create(model="m", input="x", tools=tools, tool_choice="required")
        assert (called.output[0].type, called.output[0].name) == ("function_call", "weather")
        async with client.responses.stream(model="m", input="x", tools=tools, tool_choice="required") as stream:
            assert (await stream.get_final_response()).output[0].type == "function_call"
        cut = await client.responses.create(model="m", input="a b", max_output_tokens=1)
        assert (cut.status, cut.output_text) == ("incomplete", "a")

    with_openai(run)


def test_moderation_flags_the_categories_that_a_text_names() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        answer = await client.moderations.create(input=["kind words", "violence"])
        assert [result.flagged for result in answer.results] == [False, True]
        assert answer.results[1].categories.violence

    with_openai(run)


def test_models_are_the_faults_and_each_can_be_looked_up() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        assert [model.id async for model in client.models.list()] == list(MODELS)
        assert (await client.models.retrieve("sandbox/cut")).id == "sandbox/cut"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("sandbox/none")

    with_openai(run)


def test_errors_reach_openai_clients_as_their_own_exceptions() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        for model, expected in (
            ("429", openai.RateLimitError),
            ("503-loading", openai.InternalServerError),
            ("unauthorized", openai.AuthenticationError),
            ("context-length", openai.BadRequestError),
            ("reset", openai.APIConnectionError),
            ("nonesuch", openai.NotFoundError),
        ):
            with pytest.raises(expected):
                await client.chat.completions.create(model=f"sandbox/{model}", messages=USER)

    with_openai(run)


def test_the_hub_client_generates_text_whole_streamed_and_in_detail() -> None:
    async def run(sandbox: Sandbox) -> None:
        async with AsyncInferenceClient(model=sandbox.base_url) as client:
            assert await client.text_generation("one two three", return_full_text=False) == "one two three"
            assert await client.text_generation("one", return_full_text=True) == "oneone"
            details = await client.text_generation(
                "one two three", details=True, return_full_text=False, stop=[" two"], decoder_input_details=True
            )
            assert details.generated_text == "one two" and details.details
            assert details.details.finish_reason == "stop_sequence" and len(details.details.prefill) == 3
            stream = await client.text_generation("one two three", stream=True, details=True, max_new_tokens=2)
            events = [event async for event in stream]
            assert [event.token.text for event in events] == ["one", " two"]
            assert events[-1].details and events[-1].details.finish_reason == "length"
            assert events[-1].details.input_length == 3

    with_sandbox(run)


def test_the_hub_client_chats() -> None:
    async def run(sandbox: Sandbox) -> None:
        async with AsyncInferenceClient(base_url=f"{sandbox.base_url}/v1", api_key="hf_x") as client:
            answer = await client.chat_completion(USER, model="sandbox/echo")
            assert answer.choices[0].message.content == "one two three"
            stream = await client.chat_completion(USER, model="sandbox/echo", stream=True)
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "one two three"

    with_sandbox(run)


def test_many_callers_at_once_each_get_their_own_answer() -> None:
    async def run(client: openai.AsyncOpenAI) -> None:
        async def one(number: int) -> None:
            messages: Any = [{"role": "user", "content": f"number {number}"}]
            answer = await client.chat.completions.create(model="m", messages=messages)
            assert answer.choices[0].message.content == f"number {number}"

        await asyncio.gather(*map(one, range(40)))

    with_openai(run)
