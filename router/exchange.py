"""Plays a provider's Send, Fetch and Wait under the call's deadline: the one place where a play meets the network.

The first Send is an attempt like any other, and what comes of it is the policy's to judge. Behind it stands a job that
somebody pays for: what fails then is asked again here where that is safe (a poll), and is never begun anew. A job that
nobody waits for any more is cancelled upstream, where its provider can. The answer's file is passed on as it comes.
"""

import asyncio
import contextlib
import re
from dataclasses import replace
from time import monotonic
from typing import Any, Final

import msgspec

from providers import media
from providers.spec import Ask, Blob, Failed, Fetch, Play, Reply, Result, Send, Unreadable, Wait, Written
from router import crossing, estimates, failures, links, retry, units, usage
from router.call import Call, Prepared
from router.errors import not_found
from router.failures import Failure
from router.keypool import Lent
from router.outgoing import Upstream
from router.retry import Kind, Outcome
from router.routing import Candidate
from router.secrets import Secret
from router.served import FULL_LIMIT, Served
from router.upstream.answer import NEVER, Answer
from router.upstream.faults import Broken, Silence
from router.upstream.fetch import Fetcher, Forbidden
from router.usage import Usage

POLL: Final = 30.0  # seconds that the answer to a poll may take to begin
AGAIN: Final = 5  # times that a poll is asked again before it is given up
UNDO: Final = 5.0  # seconds that cancelling may take
SILENCE: Final = 60.0  # seconds between two reads of a file
_ID: Final = re.compile(  # of a model, as a path may carry it; Replicate's name a version behind a colon
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95}){0,7}(?::[A-Za-z0-9._-]{1,96})?"
).fullmatch
_NOTHING: Final = Reply(0, {}, b"")
_PASSING: Final = frozenset({Kind.BUSY, Kind.BROKEN, Kind.SLOW, Kind.UNSENT})

Key = Lent | Secret | None


class Exchange:
    """One for each configuration."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._undoing: set[asyncio.Task[None]] = set()

    async def serve(
        self, call: Call, candidate: Candidate, upstream: Upstream, key: Key, deadline: float
    ) -> Served | Failure:
        """One try at one deployment. Raises Unreadable where the call cannot be put into the candidate's form."""
        if not _ID(candidate.deployment.provider_id):
            raise not_found(f"Model {call.model} does not exist", "model", "model_not_found")
        form = await call.upload.held(FULL_LIMIT) if call.upload is not None else None
        ask, want = crossing.read(call, form)
        if upstream.refuses_urls and links.in_ask(ask):
            raise Unreadable("inputs", "'inputs' is a URL, which this server may not fetch; send the data.", 400)
        played = _Played(self._fetcher, call, candidate, upstream, key, deadline, ask)
        play = crossing.play_of(candidate, ask)
        try:
            ended = await played.run(play)
            if isinstance(ended, Failure):
                return ended
            return await played.answer(ended, want)
        except Failed as failed:
            played.undo = None  # it has ended, by its own word
            if played.looked and failed.status not in (400, 422):
                return msgspec.structs.replace(played.lost("job_lost"), message=failed.message)
            code = failed.code or ("content_policy_violation" if failed.status == 400 else "")
            outcome = Outcome(failed.status, monotonic() - played.began, "", code)
            return Failure(candidate, outcome, "", failed.message)
        except failures.UNUSABLE:
            return played.lost("bad_response")
        finally:
            play.close()
            self._undo(played)

    def _undo(self, played: "_Played") -> None:
        """Cancel what was begun upstream and nobody waits for any more, beside the request, which has ended."""
        undo = played.undo
        if undo is not None:
            played.undo = None
            task = asyncio.get_running_loop().create_task(played.cancel(undo))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)

    async def close(self) -> None:
        await asyncio.gather(*self._undoing, return_exceptions=True)


class _Played:
    """One play at one upstream."""

    def __init__(
        self,
        fetcher: Fetcher,
        call: Call,
        candidate: Candidate,
        upstream: Upstream,
        key: Key,
        deadline: float,
        ask: Ask,
    ) -> None:
        self.ask = ask
        self._fetcher = fetcher
        self._call = call
        self._candidate = candidate
        self._upstream = upstream
        self._key = key
        self._deadline = deadline
        self.began = monotonic()
        self.begun = False  # a Send was answered: there may be a job
        self.looked = False  # and what came of it was asked after
        self.undo: Send | None = None  # what cancels the job, while there is one
        self._last: Answer | None = None

    async def run(self, play: Play) -> Result | Failure:
        try:
            step = next(play)
            while True:
                if isinstance(step, Wait):
                    self.undo = step.undo or self.undo
                    left = self._deadline - monotonic()
                    if left <= step.seconds:
                        return self.lost("timeout")
                    await asyncio.sleep(step.seconds)
                    step = play.send(_NOTHING)
                    continue
                got = await self._reply(step)
                if isinstance(got, Failure):
                    return got
                step = play.send(got)
        except StopIteration as stop:
            ended: Result = stop.value
            self.undo = None
            return ended

    async def _reply(self, step: Send | Fetch) -> Reply | Failure:
        """The whole of a 2xx answer. A poll that fails in passing is asked again."""
        for times in range(AGAIN + 1):
            got = await self._once(step)
            if isinstance(got, Reply):
                return got
            if not (self.begun and isinstance(step, Send) and step.safe):
                return got if not self.begun else self._after(got)
            pause = got.outcome.hint or min(8.0, 0.5 * 2**times)
            passing = retry.kind_of(got.outcome) in _PASSING
            if not passing or times == AGAIN or monotonic() + pause >= self._deadline:
                return self._after(got)
            await asyncio.sleep(pause)
        raise AssertionError("the last round returns")

    async def _once(self, step: Send | Fetch) -> Reply | Failure:
        if isinstance(step, Fetch) and step.url[:5].lower() == "data:":
            blob = media.from_data_url(step.url)
            return Reply(200, {"content-type": blob.mime}, blob.data)
        answer = await self._open(step)
        if isinstance(answer, Failure):
            return answer
        try:
            body = await answer.read(FULL_LIMIT)
        except Broken as broken:
            answer.close()
            return self._silent("timeout" if broken.reason in ("silence", "deadline") else "bad_response")
        self.looked = self.begun
        self.begun = True
        self._last = answer
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        return Reply(answer.status, headers, body)

    async def _open(self, step: Send | Fetch) -> Answer | Failure:
        """A 2xx answer with its head in hand."""
        if isinstance(step, Fetch):
            opened = await self._fetched(step)
        else:
            body = step.body or b""
            head, pool = self._upstream.send(step, self._candidate.deployment.provider_id, self._key, len(body))
            first = POLL if step.safe else NEVER
            replay = self._call.replay or step.safe
            lane = self._call.identity.tenant
            opened = await pool.open(head, body, first=first, deadline=self._deadline, replay=replay, lane=lane)
        if isinstance(opened, Silence):
            outcome = Outcome(0, monotonic() - self.began, opened.reason, sent=opened.sent)
            return Failure(self._candidate, outcome, opened.detail)
        if 200 <= opened.status < 300:
            opened.clocks(SILENCE if isinstance(step, Fetch) or step.safe else NEVER)
            return opened
        try:
            said = await opened.read(failures.ERROR_LIMIT)
        except Broken:
            opened.close()
            said = b""
        seconds = monotonic() - self.began
        return failures.of_answer(self._candidate, opened.status, opened.headers, said, seconds)

    async def _fetched(self, step: Fetch) -> Answer | Silence:
        try:
            return await self._fetcher.open(step.url, self._upstream.allowed, self._deadline)
        except Forbidden as forbidden:
            raise ValueError(f"a URL that is not fetched: {forbidden}") from None

    def _silent(self, reason: str) -> Failure:
        return Failure(self._candidate, Outcome(0, monotonic() - self.began, reason))

    def lost(self, reason: str) -> Failure:
        return self._silent(reason)

    def _after(self, failure: Failure) -> Failure:
        """What fails behind the first answer: the job is begun, and its refusals are no word about the deployment."""
        if retry.kind_of(failure.outcome) is Kind.CALLER:
            return failure
        reason = "timeout" if failure.outcome.reason == "timeout" else "job_lost"
        outcome = Outcome(0, monotonic() - self.began, reason)
        return Failure(self._candidate, outcome, failure.detail, failure.message)

    async def cancel(self, undo: Send) -> None:
        head, pool = self._upstream.send(undo, self._candidate.deployment.provider_id, self._key, len(undo.body or b""))
        with contextlib.suppress(Broken):
            until = monotonic() + UNDO
            answer = await pool.open(head, undo.body or b"", first=UNDO, deadline=until, replay=True)
            if isinstance(answer, Answer):
                await answer.read(failures.ERROR_LIMIT)

    # The answer

    async def answer(self, result: Result, want: Any) -> Served | Failure:
        codec = self._call.task_codec
        assert codec is not None
        if isinstance(result.value, Fetch) and result.value.url[:5].lower() == "data:":
            result = replace(result, value=media.from_data_url(result.value.url))
        file = isinstance(result.value, Send | Fetch)
        if file and (codec.gathers(want) or (isinstance(result.value, Send) and not self._call.endpoint.media)):
            step: Send | Fetch = result.value
            got = await self._once(step)
            if isinstance(got, Failure):
                return self._after(got) if self.begun else got
            mime = got.headers.get("content-type", "") or (step.mime if isinstance(step, Fetch) else "")
            if _is_page(mime):
                raise ValueError("a page")
            result = replace(result, value=Blob(got.body, mime))
        written = codec.write(result, want)
        used = self._used(result)
        if isinstance(written, Send | Fetch):
            return await self._streamed(written, want)
        if isinstance(written, Blob):
            written = Written(written.data, media.mime_of(written))
        answer = self._last or _whole()
        prepared = Prepared(b"", True, want)
        return Served(self._candidate, prepared, answer, "full", written.body, used=used, mime=written.mime)

    def _used(self, result: Result) -> Usage | None:
        """What was used: as the answer says, then as its head does and the files in hand."""
        told = usage.of_value(result.usage)
        if self._candidate.task in units.TASKS:
            return usage.both(told, units.units_of(self._call, self._candidate, ask=self.ask))
        head = self._last.fields if self._last is not None else {}
        said = msgspec.json.encode(result.value) if self._candidate.task in estimates.WRITES else b""
        return estimates.completed(self._call, self._candidate, told, head, said)

    async def _streamed(self, step: Send | Fetch, want: Any) -> Served | Failure:
        """The file on its way, its first bytes in hand."""
        answer = await self._open(step)
        if isinstance(answer, Failure):
            return self._after(answer) if self.begun else answer
        kind = answer.fields.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        try:
            if _is_page(kind):
                raise ValueError("a page")
            if kind == "application/json" and isinstance(step, Send):
                return await self._said(answer, step, want)
            answer.clocks(SILENCE)
            first = await answer.chunk()
        except BaseException as error:
            answer.close()
            if isinstance(error, Broken):
                return self._silent("timeout" if error.reason in ("silence", "deadline") else "bad_response")
            raise
        expected = step.mime if isinstance(step, Fetch) else ""
        mime = media.mime_of(Blob(first[:64], kind), expected or "application/octet-stream")
        used = units.units_of(self._call, self._candidate, ask=self.ask)
        served = Served(self._candidate, Prepared(b"", True, want), answer, "bytes", first, used=used, mime=mime)
        served.clocks = (SILENCE, self._deadline)
        return served

    async def _said(self, answer: Answer, step: Send, want: Any) -> Served | Failure:
        """JSON where a file was wanted: an error, or the file as base64 in it."""
        body = await answer.read(FULL_LIMIT)
        codec = self._call.task_codec
        assert codec is not None
        if usage.says_error(body):
            return failures.of_error_body(self._candidate, answer.headers, body)
        self._last = answer
        return await self.answer(codec.decode(Reply(200, {"content-type": "application/json"}, body), self.ask), want)


def _is_page(mime: str) -> bool:
    return mime.lower().startswith("text/html")


def _whole() -> Answer:
    """What stands for an upstream's answer where a play asked nobody."""
    answer = Answer(_Nowhere(), asyncio.get_running_loop(), NEVER, NEVER)
    answer.status, answer.complete = 200, True
    return answer


class _Nowhere:
    def abort(self) -> None: ...
    def resume(self) -> None: ...
