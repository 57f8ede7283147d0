"""Walk a plan until one deployment serves: the one place that acts on `retry.judge`, for every surface and task.

Until the first valid event (or the whole of a JSON answer) is in hand nothing has been said to the caller, so another
try is possible; after that none is. Every try is noted in the story, and a plan that is used up ends in a Refused
whose fault lists them all.
"""

import asyncio
import random
from time import monotonic

import msgspec

from providers.spec import Unreadable
from router import beginning, failures, links, retry, splice, translate
from router.call import Call, Prepared
from router.coldstart import ColdStarts
from router.errors import Refused, unauthorized
from router.exchange import Exchange
from router.failures import Failure
from router.health import Speeds
from router.keypool import Choice, Lent, key_for
from router.load import Load
from router.outgoing import Upstream
from router.record import Record, Try
from router.rests import Rests
from router.retry import Kind, Outcome, RetrySettings, Standing, Verdict
from router.routing import Candidate, Plan
from router.secrets import Scrubber, Secret
from router.served import Served
from router.story import Story
from router.upstream.answer import NEVER, Answer
from router.upstream.faults import Broken

Key = Lent | Secret | None


class Walker:
    """The upstreams, what rests, the policy and the dice; `walk` is the engine."""

    def __init__(
        self,
        upstreams: dict[str, Upstream],
        rests: Rests,
        speeds: Speeds,
        settings: RetrySettings,
        scrubber: Scrubber,
        exchange: Exchange,
        load: Load,
        cold: ColdStarts,
    ) -> None:
        self.load = load
        self.cold = cold
        self._upstreams = upstreams
        self._exchange = exchange
        self._rests = rests
        self._resting = rests.resting
        self._settings = settings
        self._most = settings.deployments
        self._scrubber = scrubber
        self.splices = settings.splice
        self.speeds = speeds
        self.counts_keys = any(each.keys.counted for each in upstreams.values())
        self._dice = random.Random()  # noqa: S311 - jitter, not secrets

    async def walk(self, call: Call, plan: Plan, story: Story) -> Served:
        record, resting = story.record, self._resting
        attempts = rotations = 0
        last: Failure | None = None
        candidates = plan.attempts
        if len(candidates) > self._most:
            candidates = candidates[: self._most]
        for place, candidate in enumerate(candidates):
            upstream = self._upstreams[candidate.deployment.upstream]
            name = candidate.deployment.name
            later = candidates[place + 1 :]
            tries = 0
            paused = 0.0
            verdict: Verdict | None = None
            budget = upstream.budget
            budget.requests += 1
            while True:
                began = monotonic()
                key, usable = self._key(call, plan, upstream, story, began)
                if not usable:
                    shut = upstream.keys.shut(began)
                    left = call.deadline - began
                    if shut.limited and retry.waits_for_key(shut.seconds, bool(later), left, self._settings, paused):
                        paused += shut.seconds
                        await self._pause(shut.seconds, story)
                        continue
                    failed = failures.no_key(candidate, last, shut)
                    record.tries.append(Try(upstream.name, name, 0, "next", "no usable key", 0.0))
                    last = failed if last is None or shut.limited else last
                    break
                if upstream.ceiling is not None:
                    reached = await story.borrow().room(upstream.ceiling)
                    if reached is not None:
                        record.tries.append(Try(upstream.name, name, 0, "next", f"{reached.bound.kind} limit", 0.0))
                        last = last or failures.full(candidate, reached)
                        break
                    began = monotonic()
                _note(story, upstream, candidate, key)
                tries += 1
                attempts += 1
                if not resting.calm:
                    resting.begin(name, began)
                result = await self._attempt(call, candidate, upstream, key, bool(later), began)
                now = monotonic()
                seconds = now - began
                story.waited += seconds
                if isinstance(result, Served):
                    record.tries.append(Try(upstream.name, name, result.answer.status, "serve", "", seconds))
                    self.speeds.note(name, seconds)
                    if not resting.calm:
                        resting.serve(name, now)
                    if self.cold.loading:
                        self.cold.served(name, now)
                    return result
                if story.loans is not None:
                    story.loans.close()
                standing = Standing(
                    tries=tries,
                    attempts=attempts,
                    rotations=rotations,
                    other_key=isinstance(key, Lent) and upstream.keys.has_other(key, now),
                    pooled=not isinstance(key, Secret),
                    others=bool(later),
                    larger=_larger(candidate, later),
                    remaining=call.deadline - now,
                    replay=call.replay and (call.upload is None or call.upload.replayable()),
                    wait=call.wait,
                    affordable=budget.allows(now),
                )
                judged = self._judged(result, standing, upstream, key, now)
                record.tries.append(self._tried(result, judged.verdict, seconds))
                last, verdict = result, judged.verdict
                if verdict is Verdict.AGAIN:
                    budget.retry()
                    await self._pause(judged.wait, story)
                elif verdict is Verdict.ROTATE:
                    rotations += 1
                    tries -= 1  # a rotation is no retry
                else:
                    if isinstance(key, Lent) and self.kind_of(result) is Kind.KEY:
                        shut = upstream.keys.shut(now)  # the others may merely wait for their limits
                        last = failures.no_key(candidate, last, shut)
                    break
            if verdict is Verdict.STOP:
                break
        if last is None:
            raise Refused(failures.nothing_to_try(call, plan))
        record.upstream = last.candidate.deployment.upstream
        record.provider_id = last.candidate.deployment.provider_id
        if last.loading:
            estimated = self.cold.estimate(last.candidate.deployment.name, monotonic(), last.estimated)
            last = msgspec.structs.replace(last, estimated=estimated)
        raise failures.refusal(call, plan, last, record.tries, self.kind_of(last))

    async def resume(
        self, call: Call, plan: Plan, story: Story, broken: Candidate, so_far: splice.Told
    ) -> tuple[Served, bool] | None:
        """A stream that carries on the one of `broken`, and whether it continues its text or says the whole anew; None
        where there is none to be had. A deployment that will not continue is asked to say it anew.
        """
        record = story.record
        shape = (broken.task, broken.dialect)
        place = next(number for number, each in enumerate(plan.attempts) if each is broken)
        later = tuple(each for each in plan.attempts[place + 1 :] if (each.task, each.dialect) == shape)
        if not later and sum(each.deployment == broken.deployment.name for each in record.tries) == 1:
            later = (broken,)
        for number, candidate in enumerate(later):
            upstream = self._upstreams[candidate.deployment.upstream]
            for continues in (True, False) if splice.can_continue(candidate, so_far) else (False,):
                began = monotonic()
                key, usable = self._key(call, plan, upstream, story, began)
                if not usable or len(record.tries) >= self._settings.attempts:
                    break
                others = number + 1 < len(later)
                given = so_far if continues else None
                result = await self._attempt(call, candidate, upstream, key, others, began, given)
                now = monotonic()
                if isinstance(result, Served) and result.form == "events":
                    status = result.answer.status
                    record.tries.append(Try(upstream.name, candidate.deployment.name, status, "serve", "", now - began))
                    _note(story, upstream, candidate, key)
                    return result, continues
                if isinstance(result, Served):
                    result.answer.close()
                    result = Failure(candidate, Outcome(0, now - began, "bad_response"))
                ours = not isinstance(key, Secret)
                standing = Standing(tries=1, attempts=1, rotations=0, other_key=False, pooled=ours,
                                    others=others, larger=False, remaining=0.0, replay=True)  # fmt: skip
                self._judged(result, standing, upstream, key, now)
                record.tries.append(self._tried(result, Verdict.NEXT, now - began))
                if self.kind_of(result) is not Kind.CALLER:
                    break
        return None

    def broke(self, candidate: Candidate) -> None:
        """Its stream broke after it had begun."""
        self._resting.fail(candidate.deployment.name, monotonic())

    def kind_of(self, failure: Failure) -> Kind:
        return retry.kind_of(failure.outcome, self._settings.kinds)

    def _judged(
        self, failure: Failure, standing: Standing, upstream: Upstream, key: Key, now: float
    ) -> retry.Judgement:
        """The verdict, and what it means for the key and the deployment."""
        name = failure.candidate.deployment.name
        if failure.loading:
            self.cold.refused(name, now)
        judged = retry.judge(failure.outcome, standing, self._settings, self._dice)
        if judged.rest_key and isinstance(key, Lent):
            upstream.keys.rest(key, judged.why, judged.rest_key, now)
        if judged.rest:
            self._rests.publish(name, now + judged.rest, "limited")
        if judged.failed:
            self._resting.fail(name, now)
        return judged

    def _tried(self, failure: Failure, verdict: Verdict, seconds: float) -> Try:
        outcome, deployment = failure.outcome, failure.candidate.deployment
        why = self._scrubber.text(outcome.code) or outcome.reason  # an upstream may echo what it was sent
        return Try(deployment.upstream, deployment.name, outcome.status, verdict.value, why, seconds)

    def busy(self, deployment: str) -> float:
        """Requests that run or wait at a deployment's upstream."""
        upstream = self._upstreams.get(deployment.partition("/")[0])
        return 0.0 if upstream is None else self.load.of(upstream)

    def _key(self, call: Call, plan: Plan, upstream: Upstream, story: Story, now: float) -> tuple[Key, bool]:
        """Whose key goes with this attempt, and whether it can be made at all."""
        owner, keys, failed = call.identity, upstream.keys, False
        ours = not (owner.has_keys or keys.empty)  # there is no choice, as nearly always
        while True:
            choice: Choice = "pool" if ours else key_for(
                owner, upstream.name, upstream.provider.name, pooled=not keys.empty, pinned=plan.route.pinned,
                needed=upstream.provider.needs_key and not upstream.settings.base_url, failed=failed,
            )  # fmt: skip
            if choice != "pool":
                break
            lent = keys.lend(now)
            if lent is not None and lent.hold:
                story.borrow().key(keys, lent)
            if lent is not None or ours or failed or owner.own_first:
                return lent, lent is not None
            failed = True  # none of ours: their own, where they stored one
        if choice == "denied" and owner.user_key is not None:
            raise unauthorized()
        return (choice, True) if isinstance(choice, Secret) else (None, choice == "none")

    async def _pause(self, seconds: float, story: Story) -> None:
        await asyncio.sleep(seconds)
        story.waited += seconds

    def spend(self, record: Record) -> None:
        """A request has ended: what it used of a key of ours."""
        if record.key and (upstream := self._upstreams.get(record.upstream)) is not None:
            upstream.keys.spend(record.key, record.cost or 0, record.input_tokens, record.output_tokens)

    async def _attempt(
        self,
        call: Call,
        candidate: Candidate,
        upstream: Upstream,
        key: Key,
        others: bool,
        began: float,
        so_far: splice.Told | None = None,
    ) -> Served | Failure:
        """One try at one deployment: its answer with the first event in hand, or what came instead."""
        lane = call.identity.tenant
        clocks = upstream.clocks
        first = silence = clocks.last_candidate
        if others:
            first, silence = clocks.first_event, clocks.silence
        until = began + clocks.total
        deadline = until if until < call.deadline else call.deadline
        try:
            if candidate.exchanged or call.reshaped:
                return await self._exchange.serve(call, candidate, upstream, key, deadline)
            if call.upload is not None:
                model = candidate.deployment.provider_id
                length = call.upload.outgoing_length(model)
                head = upstream.upload(candidate, key, call.upload.boundary, length)
                prepared = Prepared(b"")
                answer = await upstream.pool.open(
                    head, call.upload.pieces(model), first=NEVER, deadline=deadline, replay=False, lane=lane
                )
            else:
                if upstream.refuses_urls and (field := links.in_call(call, upstream.provider.name)) is not None:
                    raise Unreadable(field, f"'{field}' is a URL, which this server may not fetch; send the data.", 400)
                prepared = translate.prepare(call, candidate, so_far)
                if call.raw or call.accept:
                    head = upstream.file(candidate, key, call, len(prepared.body))
                else:
                    head = upstream.post(candidate, call.stream, key, len(prepared.body))
                wait = first if call.stream else NEVER
                answer = await upstream.pool.open(
                    head, prepared.body, first=wait, deadline=deadline, replay=call.replay, lane=lane
                )
        except Unreadable as unreadable:
            return Failure(candidate, Outcome(unreadable.status, 0.0, code="invalid_request"), unreadable=unreadable)
        if not isinstance(answer, Answer):
            seconds = monotonic() - began
            return Failure(candidate, Outcome(0, seconds, answer.reason, sent=answer.sent), detail=answer.detail)
        if isinstance(key, Lent):
            upstream.keys.learn(key, answer.status, answer.fields, monotonic())
        try:
            if not 200 <= answer.status < 300:
                return await self._failed(candidate, answer, began)
            served = await beginning.read(call, candidate, prepared, answer)
        except Broken as broken:
            answer.close()
            reason = "timeout" if broken.reason in ("silence", "deadline") else "bad_response"
            return Failure(candidate, Outcome(0, monotonic() - began, reason))
        except BaseException:
            answer.close()
            raise
        if isinstance(served, Served):
            served.clocks = (silence, deadline)
        return served

    async def _failed(self, candidate: Candidate, answer: Answer, began: float) -> Failure:
        body = await answer.read(failures.ERROR_LIMIT)
        seconds = monotonic() - began
        return failures.of_answer(candidate, answer.status, answer.headers, body, seconds)


def _larger(candidate: Candidate, later: tuple[Candidate, ...]) -> bool:
    mine = candidate.deployment.context
    return mine is not None and any((each.deployment.context or 0) > mine for each in later)


def _note(story: Story, upstream: Upstream, candidate: Candidate, key: Key) -> None:
    """Who is asked now, and with whose key: also of what its caller does not wait for."""
    story.candidate = candidate
    record = story.record
    record.upstream = upstream.name
    record.provider_id = candidate.deployment.provider_id
    if isinstance(key, Lent):
        record.key, record.billing = key.name, "routed"
    else:
        record.key, record.billing = "", "none" if key is None else "direct"
