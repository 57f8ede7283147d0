"""What a request has on loan goes back exactly once, whatever became of it."""

import asyncio

from router.bounds import NANO, LimitSettings
from router.ceiling import Ceiling, Uses
from router.health import Resting
from router.keypool import KeyPool
from router.loans import Loans
from router.stores.memory import MemoryStore
from router.upstream.settings import ProviderKey


def test_what_failed_used_nothing_and_what_served_is_settled_at_its_end() -> None:
    store = MemoryStore(lambda: 0, lambda: 0.0)
    ceiling = Ceiling("groq", LimitSettings.model_validate({"concurrency": 1, "budget": "1 USD"}), store)
    loans = Loans()
    assert asyncio.run(loans.room(ceiling, Uses(nano=NANO))) is None
    assert asyncio.run(loans.room(ceiling, Uses(nano=NANO))) is not None
    loans.close()  # it failed
    assert asyncio.run(loans.room(ceiling, Uses(nano=NANO))) is None
    loans.close(Uses(nano=NANO // 4))
    loans.close(Uses(nano=NANO))  # once
    levels = {bound.kind: store.level(bound).used for bound in ceiling.bounds}
    assert levels == {"concurrency": 0, "budget": NANO // 4}


def test_a_key_is_given_back_once() -> None:
    store = MemoryStore(lambda: 0, lambda: 0.0)
    keys = KeyPool("groq", [ProviderKey.model_validate({"key": "a", "concurrency": 2})], Resting(), store=store)
    loans = Loans()
    for _ in range(2):
        lent = keys.lend(0.0)
        assert lent is not None
        loans.key(keys, lent)
    assert keys.lend(0.0) is None
    loans.close()
    loans.close()
    assert [keys.lend(0.0) is None for _ in range(3)] == [False, False, True]
