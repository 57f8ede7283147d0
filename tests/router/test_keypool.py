"""Which of our keys is lent next: in turn, by weight, by what is left of it; and what a refusal does to one."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from router.bounds import NANO
from router.ceiling import LOOK
from router.health import Resting
from router.keypool import Choice, KeyPool, Lent, key_for
from router.rests import Rests
from router.retry import Outcome, RetrySettings, Standing, Verdict, judge, waits_for_key
from router.secrets import Secret
from router.stores.memory import MemoryStore
from router.upstream.settings import ProviderKey, UpstreamSettings

SETTINGS = RetrySettings()


def settings(*keys: Any) -> list[ProviderKey]:
    return UpstreamSettings.model_validate({"provider": "groq", "keys": list(keys)}).keys


def pool(*keys: Any, **more: Any) -> KeyPool:
    return KeyPool("groq", settings(*keys), more.pop("resting", None) or Resting(), **more)


def secrets(pool: KeyPool, times: int, now: float = 0.0) -> list[str]:
    return [each.secret.reveal() if (each := pool.lend(now)) else "" for _ in range(times)]


def lent(pool: KeyPool, secret: str) -> Lent:
    return next(each.lent for each in pool._keys if each.lent.secret.reveal() == secret)


def left(of: int, limit: int = 100, reset: str = "60s") -> dict[bytes, bytes]:
    return {
        b"x-ratelimit-limit-requests": b"%d" % limit,
        b"x-ratelimit-remaining-requests": b"%d" % of,
        b"x-ratelimit-reset-requests": reset.encode(),
    }


# In turn and by weight


def test_keys_are_lent_in_turn_and_those_at_rest_passed_over() -> None:
    resting = Resting()
    keys = pool("gsk_1", "", "gsk_2", "gsk_3", "gsk_1", resting=resting)
    assert secrets(keys, 4) == ["gsk_1", "gsk_2", "gsk_3", "gsk_1"]
    resting.rest(keys.names()[1], until=10.0)
    assert secrets(keys, 3, 5.0) == ["gsk_3", "gsk_1", "gsk_3"]
    resting.rest(keys.names()[0], until=10.0)
    resting.rest(keys.names()[2], until=20.0)
    assert keys.lend(5.0) is None
    assert secrets(keys, 1, 10.0) == ["gsk_1"]


def test_a_lent_key_is_named_by_its_upstream_and_four_digits_of_its_hash_or_by_its_own_name() -> None:
    keys = pool("gsk_canary", {"key": "gsk_canary_two", "name": "team-b"})
    assert keys.names() == [f"groq/…{hashlib.sha256(b'gsk_canary').hexdigest()[-4:]}", "groq/…team-b"]
    assert "canary" not in repr(keys.lend(0.0)) + repr(keys.state(0.0))


def test_a_pool_without_keys_lends_none() -> None:
    keys = pool("")
    assert keys.lend(0.0) is None and keys.empty and keys.names() == [] and keys.state(0.0) == []


def test_bare_secrets_make_a_pool_too() -> None:
    assert secrets(KeyPool("groq", (Secret("a"), Secret("b")), Resting()), 3) == ["a", "b", "a"]


def test_a_key_of_weight_two_is_lent_twice_as_often_and_smoothly() -> None:
    keys = pool({"key": "a", "weight": 2}, "b", "c")
    assert secrets(keys, 8) == ["a", "b", "c", "a"] * 2


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([{"name": "x"}], "Field required"),
        ([{"key": "a", "weight": 0}], "greater than 0"),
        ([{"key": "a", "budgets": "1 USD"}], "Extra inputs"),
        ([{"key": "a", "name": "b c"}], "pattern"),
        ([{"key": "a", "name": "x"}, {"key": "b", "name": "x"}], "two keys are named x"),
        (["ca nary"], "cannot be sent in a header"),
    ],
)
def test_a_key_that_cannot_be_right_is_a_fault(keys: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        settings(*keys)
    assert "nary" not in str(caught.value)


# By what is left


def test_a_key_with_five_percent_left_gets_five_percent_of_its_share() -> None:
    keys = pool("a", "b")
    keys.learn(lent(keys, "a"), 200, left(5), 0.0)
    found = Counter(secrets(keys, 1050, 1.0))
    assert found == {"b": 1000, "a": 50}
    keys.learn(lent(keys, "b"), 200, left(5), 1.0)  # no more than the other: they are alike again
    assert Counter(secrets(keys, 100, 2.0)) == {"a": 50, "b": 50}


def test_above_half_a_limit_a_key_counts_as_whole_and_at_its_reset_it_does_again() -> None:
    keys = pool("a", "b")
    keys.learn(lent(keys, "a"), 200, left(60), 0.0)
    assert secrets(keys, 4) == ["a", "b", "a", "b"]
    keys.learn(lent(keys, "a"), 200, left(1, reset="30s"), 0.0)
    assert Counter(secrets(keys, 100, 29.0))["a"] == 1
    assert Counter(secrets(keys, 100, 30.0)) == {"a": 50, "b": 50}
    assert keys.state(30.0)[0].resets is None


def test_a_key_with_nothing_left_is_passed_over_until_its_reset_and_lent_where_nothing_else_is_left() -> None:
    resting = Resting()
    keys = pool("a", "b", resting=resting)
    keys.learn(lent(keys, "a"), 200, left(0, reset="6m0s"), 0.0)
    assert set(secrets(keys, 10, 359.0)) == {"b"}
    assert keys.has_other(lent(keys, "b"), 1.0)
    resting.rest(lent(keys, "b").name, 500.0)
    assert secrets(keys, 2, 359.0) == ["a", "a"]  # what its headers said is a guess; the upstream may serve
    assert set(secrets(keys, 4, 501.0)) == {"a", "b"}


def test_of_keys_with_nothing_left_the_first_to_have_some_is_tried() -> None:
    keys = pool("a", "b")
    keys.learn(lent(keys, "a"), 200, left(0, reset="60s"), 0.0)
    keys.learn(lent(keys, "b"), 200, left(0, reset="20s"), 0.0)
    assert secrets(keys, 3, 1.0) == ["b"] * 3
    assert set(secrets(keys, 3, 21.0)) == {"b"}


def test_what_is_said_of_a_reset_is_believed_for_an_hour_at_most() -> None:
    keys = pool("a", "b")
    keys.learn(lent(keys, "a"), 200, left(0, reset="24h"), 0.0)
    assert keys.state(0.0)[0].resets == 3600.0 and "a" in secrets(keys, 2, 3600.0)


def test_the_only_key_is_lent_whatever_its_headers_say() -> None:
    keys = pool("a")
    keys.learn(lent(keys, "a"), 200, left(0, reset="24h"), 0.0)
    assert secrets(keys, 2, 1.0) == ["a", "a"]


# Refusals


def refused(keys: KeyPool, secret: str, status: int, now: float, code: str = "", hint: float | None = None) -> float:
    """As the walk does it: judged, then rested. Seconds of rest."""
    standing = Standing(1, 1, 0, keys.has_other(lent(keys, secret), now), True, False, False, 60.0, True)
    judged = judge(Outcome(status, 0.1, "", code, hint), standing, SETTINGS, random.Random(1))
    if judged.rest_key:
        keys.rest(lent(keys, secret), judged.why, judged.rest_key, now)
    return max(keys._resting.until(lent(keys, secret).name) - now, 0.0)


def test_a_key_that_is_refused_rests_ten_minutes_and_twice_as_long_each_time_up_to_an_hour() -> None:
    keys, now, rests = pool("a", "b"), 0.0, []
    for _ in range(5):
        rests.append(refused(keys, "a", 401, now))
        now += rests[-1]
    assert rests == [600.0, 1200.0, 2400.0, 3600.0, 3600.0]
    keys.learn(lent(keys, "a"), 200, {}, now)
    assert refused(keys, "a", 401, now) == 600.0


def test_refusals_of_what_was_sent_together_count_once() -> None:
    keys = pool("a", "b")
    assert [refused(keys, "a", 401, now) for now in (0.0, 0.1, 0.2)] == [600.0] * 3
    assert keys.state(1.0)[0].refusals == 1


@pytest.mark.parametrize(
    ("status", "code", "seconds", "why"),
    [
        (401, "", 600.0, "refused"),
        (400, "invalid_api_key", 600.0, "refused"),
        (402, "", 3600.0, "credit"),
        (429, "insufficient_quota", 3600.0, "credit"),
        (429, "billing_hard_limit_reached", 3600.0, "credit"),
        (400, "credit_balance_too_low", 3600.0, "credit"),
        (429, "enforced_spend_limit_reached", 3600.0, "credit"),
        (403, "exhausted_balance", 3600.0, "credit"),
        (403, "", 60.0, "forbidden"),
    ],
)
def test_a_key_rests_by_what_it_is_at_fault_for(status: int, code: str, seconds: float, why: str) -> None:
    keys = pool("a", "b")
    assert refused(keys, "a", status, 0.0, code) == seconds
    state = keys.state(1.0)[0]
    assert (state.why, state.rests) == (why, seconds - 1)
    assert secrets(keys, 3, 1.0) == ["b"] * 3


def test_a_limit_is_waited_out_as_its_hint_says() -> None:
    keys = pool("a", "b")
    assert refused(keys, "a", 429, 0.0, hint=7.5) == 7.5
    assert refused(keys, "b", 429, 0.0) == 0.0  # it was the last, and nobody said how long
    assert keys.state(1.0)[0].why == "limited"


def test_a_reload_keeps_what_is_known_of_a_key_that_stays() -> None:
    resting = Resting()
    rests = Rests(resting)
    before = pool("a", "b", resting=resting, rests=rests)
    refused(before, "a", 401, 0.0)
    before.learn(lent(before, "b"), 200, left(5), 0.0)
    after = pool("c", "b", "a", resting=resting, rests=rests, before=before)
    assert [each.refusals for each in after.state(1.0)] == [0, 0, 1]
    assert [each.left for each in after.state(1.0)] == [None, 0.05, None]
    assert after.state(1.0)[2].why == "refused"
    assert Counter(secrets(after, 105, 1.0)) == {"c": 100, "b": 5}
    assert refused(after, "a", 401, 600.0) == 1200.0


# None left


def test_where_one_of_the_keys_only_waits_for_a_limit_that_is_when_there_is_one_again() -> None:
    keys = pool("a", "b", "c")
    refused(keys, "a", 401, 0.0)
    refused(keys, "b", 429, 0.0, hint=30.0)
    refused(keys, "c", 429, 0.0, hint=12.0)
    keys._resting.rest(lent(keys, "c").name, 12.0)
    keys._rests.publish(lent(keys, "c").name, 12.0, "limited")
    assert keys.lend(2.0) is None and keys.shut(2.0).limited and keys.shut(2.0).seconds == 10.0


def test_where_all_keys_are_at_fault_themselves_none_is_waited_for() -> None:
    keys = pool("a", "b")
    refused(keys, "a", 401, 0.0)
    refused(keys, "b", 402, 0.0)
    assert keys.lend(1.0) is None and not keys.shut(1.0).limited
    assert not keys.has_other(lent(keys, "a"), 1.0)


@pytest.mark.parametrize(
    ("wait", "others", "remaining", "pause"),
    [(5.0, False, 60.0, 5.0), (5.0, True, 60.0, None), (5.0, False, 9.0, None), (21.0, False, 600.0, None)],
)
def test_a_key_is_waited_for_where_it_comes_soon_and_nobody_else_could_serve(
    wait: float, others: bool, remaining: float, pause: float | None
) -> None:
    assert (wait if waits_for_key(wait, others, remaining, SETTINGS) else None) == pause
    assert not waits_for_key(wait, others, remaining, SETTINGS, paused=16.0), "its patience is used up"


def test_rotations_have_a_bound_of_their_own_and_ask_nothing_of_the_budget_for_retries() -> None:
    def verdict(**changes: Any) -> Verdict:
        given: dict[str, Any] = {
            "tries": 2,
            "attempts": 3,
            "rotations": 0,
            "other_key": True,
            "pooled": True,
            "others": False,
        }
        given |= {"larger": False, "remaining": 60.0, "replay": True, "affordable": False}
        return judge(Outcome(401, 0.1), Standing(**{**given, **changes}), SETTINGS, random.Random(1)).verdict

    assert verdict() is Verdict.ROTATE
    assert verdict(rotations=SETTINGS.rotations - 1) is Verdict.ROTATE
    assert verdict(rotations=SETTINGS.rotations) is Verdict.STOP
    assert verdict(attempts=SETTINGS.attempts) is Verdict.STOP


# What the configuration lets a key be used for


@pytest.fixture
def clock() -> list[float]:
    return [1_795_255_200.0]  # 2026-11-21T10:00:00Z


@pytest.fixture
def store(clock: list[float]) -> MemoryStore:
    return MemoryStore(lambda: int(clock[0] * NANO), lambda: clock[0])


def test_a_key_that_has_spent_its_budget_is_passed_over_until_the_period_ends(store: MemoryStore) -> None:
    keys = pool({"key": "a", "budget": "5 USD/month", "name": "small"}, "b", store=store)
    assert set(secrets(keys, 4)) == {"a", "b"}
    keys.spend("groq/…small", 5 * NANO - 1)
    assert set(secrets(keys, 4, 1.0)) == {"a", "b"}
    keys.spend("groq/…small", 1)
    assert set(secrets(keys, 4, 1.0 + LOOK)) == {"b"}  # a level is believed for a moment
    state = keys.state(2.0)[0]
    assert (state.spent, state.budget, state.reached) == (5 * NANO, 5 * NANO, "budget")


def test_a_pool_whose_budgets_are_spent_waits_for_the_first_period_to_end(
    store: MemoryStore, clock: list[float]
) -> None:
    keys = pool({"key": "a", "budget": "5 USD/day", "name": "a"}, store=store)
    keys.spend("groq/…a", 6 * NANO)
    assert keys.lend(1.0) is None
    shut = keys.shut(1.0)
    assert shut.limited and shut.seconds == 14 * 3600
    clock[0] += 14 * 3600
    assert secrets(keys, 1, 2.0) == ["a"]


def test_tokens_of_a_key_are_counted_once_they_are_known(store: MemoryStore) -> None:
    keys = pool({"key": "a", "tokens": "1000/minute", "name": "a"}, store=store)
    keys.spend("groq/…a", 0, 600, 400)
    assert keys.lend(1.0) is None
    assert keys.shut(1.0).seconds == pytest.approx(LOOK, abs=0.1)


def test_requests_of_a_key_are_exact(store: MemoryStore) -> None:
    keys = pool({"key": "a", "requests": "3/minute"}, {"key": "b", "requests": "4/minute"}, store=store)
    found = Counter(secrets(keys, 20))
    assert found == {"a": 3, "b": 4, "": 13}
    assert keys.shut(0.0).limited and 0 < keys.shut(0.0).seconds <= 20


def test_a_key_runs_as_many_calls_at_once_as_it_may_and_a_loan_is_given_back_once(store: MemoryStore) -> None:
    keys = pool({"key": "a", "concurrency": 2}, store=store)
    loans = [keys.lend(0.0) for _ in range(3)]
    assert loans[2] is None and loans[0] is not None and loans[1] is not None
    assert loans[0].hold and loans[0].hold != loans[1].hold
    keys.give_back(loans[0])
    assert keys.lend(0.0) is not None and keys.lend(0.0) is None


def test_a_loan_without_bounds_has_nothing_to_give_back() -> None:
    keys = pool("a")
    loan = keys.lend(0.0)
    assert loan is not None and loan.hold == "" and loan is keys.lend(0.0)
    keys.give_back(loan)
    keys.spend(loan.name, 5)


def test_a_question_that_is_no_call_counts_nowhere(store: MemoryStore) -> None:
    keys = pool({"key": "a", "concurrency": 1}, store=store)
    assert keys.peek(0.0) is not None and keys.lend(0.0) is not None and keys.peek(0.0) is not None
    refused(keys, "a", 401, 0.0)
    assert keys.peek(1.0) is None


class Remote(MemoryStore):
    """One that must not be waited for here."""

    remote = True

    def take(self, asked: Any, hold: str) -> Any:
        raise AssertionError("a key is lent without asking another machine")


@pytest.mark.plain
def test_of_a_remote_store_only_what_is_known_here_is_looked_at(clock: list[float]) -> None:
    store = Remote(lambda: int(clock[0] * NANO), lambda: clock[0])
    keys = pool({"key": "a", "concurrency": 2, "requests": "3/minute", "name": "a"}, store=store)
    loans = [keys.lend(0.0) for _ in range(2)]
    assert keys.lend(0.0) is None
    for each in loans:
        assert each is not None
        keys.give_back(each)
    assert keys.lend(1.0) is not None
    assert keys.lend(2.0) is None  # as many as it may in a minute


# Whose key


@dataclass
class Caller:
    user_key: Secret | None = None
    stored_keys: dict[str, Secret] = field(default_factory=dict)
    own_first: bool = True


OWN = Secret("own")
STORED = Caller(stored_keys={"groq": OWN})
BEHIND = Caller(stored_keys={"groq": OWN}, own_first=False)
BROUGHT = Caller(user_key=OWN)


@pytest.mark.parametrize(
    ("caller", "given", "choice"),
    [
        (Caller(), {}, "pool"),
        (Caller(), {"failed": True}, "pool"),
        (Caller(), {"pooled": False}, "denied"),
        (Caller(), {"pooled": False, "needed": False}, "none"),
        (STORED, {}, OWN),
        (STORED, {"failed": True}, "pool"),
        (STORED, {"failed": True, "pooled": False}, OWN),
        (BEHIND, {}, "pool"),
        (BEHIND, {"failed": True}, OWN),
        (BEHIND, {"pooled": False}, OWN),
        (Caller(stored_keys={"maker": OWN}), {}, OWN),
        (Caller(stored_keys={"else": OWN}), {}, "pool"),
        (BROUGHT, {}, "denied"),
        (BROUGHT, {"pinned": True}, OWN),
        (BROUGHT, {"pinned": True, "failed": True}, OWN),
    ],
)
def test_whose_key_goes_with_an_attempt(caller: Caller, given: dict[str, bool], choice: Choice) -> None:
    asked = {"pooled": True, "needed": True, "pinned": False, "failed": False, **given}
    choose: Callable[..., Choice] = key_for
    assert choose(caller, "groq", "maker", **asked) == choice
