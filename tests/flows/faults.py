"""All that can go wrong with a Redis and a PostgreSQL: how it begins, and how it ends."""

import contextlib
from typing import Final

import psycopg

from tests.flows.replicas import Change, Stores


def nothing(_: Stores) -> None:
    pass


def asleep(stores: Stores) -> None:
    with contextlib.suppress(TimeoutError):
        stores.redis.say("DEBUG", "SLEEP", "2.5", timeout=0.05)


def anew(stores: Stores) -> None:
    stores.redis.kill()
    stores.redis.start()


REDIS: Final[dict[str, tuple[Change, Change]]] = {
    "stopped": (lambda s: s.redis.hang(), lambda s: s.redis.go_on()),
    "killed": (lambda s: s.redis.kill(), lambda s: s.redis.start()),
    "restarted empty": (anew, nothing),
    "paused": (lambda s: s.redis.say("CLIENT", "PAUSE", "2500"), lambda s: s.redis.say("PING")),
    "slow": (asleep, lambda s: s.redis.say("PING")),
    "full": (
        lambda s: s.redis.say("CONFIG", "SET", "maxmemory", "1mb"),
        lambda s: s.redis.say("CONFIG", "SET", "maxmemory", "0"),
    ),
    "read-only": (
        lambda s: s.redis.say("REPLICAOF", "127.0.0.1", "1"),
        lambda s: s.redis.say("REPLICAOF", "NO", "ONE"),
    ),
}

_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
)


def slow(stores: Stores) -> None:
    """Somebody else has all tables to himself, for longer than anybody waits for a lock."""
    held = psycopg.connect(stores.url)
    held.execute("LOCK TABLE entries, attempts, totals, virtual_keys, changes IN ACCESS EXCLUSIVE MODE")
    stores.held = held


def quick(stores: Stores) -> None:
    assert stores.held is not None
    stores.held.rollback()
    stores.held.close()


def full(stores: Stores) -> None:
    """As PostgreSQL says that the disk is."""
    stores.say(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER no_room BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION no_room()",
    )


def read_only(stores: Stores) -> None:
    stores.say(f"ALTER DATABASE {stores.name} SET default_transaction_read_only = on", _OTHERS.format(name=stores.name))


def writable(stores: Stores) -> None:
    stores.say(
        f"ALTER DATABASE {stores.name} RESET default_transaction_read_only",
        _OTHERS.format(name=stores.name),
        database="postgres",
    )


def emptied(stores: Stores) -> None:
    stores.say(f"DROP DATABASE {stores.name} WITH (FORCE)", f"CREATE DATABASE {stores.name}", database="postgres")


POSTGRES: Final[dict[str, tuple[Change, Change]]] = {
    "stopped": (lambda s: s.postgres.stop(), lambda s: s.postgres.resume()),
    "killed": (lambda s: s.postgres.kill(), lambda s: s.postgres.start()),
    "slow": (slow, quick),
    "full": (full, lambda s: s.say("DROP FUNCTION no_room CASCADE")),
    "read-only": (read_only, writable),
    "restarted empty": (emptied, nothing),
}


def both(one: str, other: str) -> tuple[Change, Change]:
    def begin(stores: Stores) -> None:
        POSTGRES[other][0](stores)
        REDIS[one][0](stores)

    def end(stores: Stores) -> None:
        REDIS[one][1](stores)
        POSTGRES[other][1](stores)

    return begin, end
