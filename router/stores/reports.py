"""What the ledger says: sums of its entries in groups, and the entries themselves, page by page. It only reads.

Sums are made by the database, over a plain scan: 10⁶ entries take it about a second, which is why there is neither a
second copy of the sums nor an index that each insert would pay for. Entries are read in pages, so that an export of any
length takes the memory of one page, on PostgreSQL too, whose client would fetch the whole answer.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from router.entry import Attempt, Entry
from router.stores.sql import Database, Row

Dimension = Literal["tenant", "key", "model", "provider", "upstream", "task", "billed_to", "day", "hour"]

PAGE: Final = 500  # entries read at a time
ASKED: Final = 10_000  # requests whose cost may be asked for at once


def _floor(value: str) -> str:
    """The whole number below. A cast cuts off in SQLite and rounds in PostgreSQL; `floor` is not in every SQLite."""
    whole = f"CAST({value} AS BIGINT)"
    return f"{whole} - CASE WHEN {whole} > {value} THEN 1 ELSE 0 END"


# What each is in SQL, and nothing else ever gets into a statement: names by this table, values as parameters.
DIMENSIONS: Final[Mapping[str, str]] = {
    **{name: name for name in ("tenant", "key", "model", "upstream", "task", "billed_to")},
    "provider": "upstream",
    "day": _floor("time / 86400.0"),
    "hour": _floor("time / 3600.0"),
}
FILTERS: Final = ("tenant", "key", "model", "provider", "upstream", "task", "billed_to", "request")

_MOMENTS: Final = {"day": (86_400, "%Y-%m-%d"), "hour": (3_600, "%Y-%m-%dT%H:00Z")}
_COLUMNS: Final = Entry.__struct_fields__[:-1]  # the attempts are in a table of their own
_COUNTED: Final = (
    "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "images", "characters", "cost", "charge",
)  # fmt: skip
_SUMS: Final = (
    "COUNT(*), CAST(SUM(CASE WHEN outcome IN ('ok', 'client_gone') THEN 0 ELSE 1 END) AS BIGINT), "
    + ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in _COUNTED)
    + ", SUM(media_seconds), CAST(SUM(CASE WHEN cost IS NULL THEN 1 ELSE 0 END) AS BIGINT)"
    + ", CAST(SUM(estimated) AS BIGINT)"
)


class Sum(msgspec.Struct, frozen=True):
    """The entries of one group. `cost` and `charge` in nano-USD: of those with a price, None where none has one.

    `errors`: what ended otherwise than well, but those whose caller left. `unpriced`: entries whose cost nobody knows.
    """

    group: tuple[str, ...]
    requests: int
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    characters: int = 0
    cost: int | None = None
    charge: int | None = None
    media_seconds: float = 0.0
    unpriced: int = 0
    estimated: int = 0


class Reports:
    """Blocking; everything may raise Away. Times are Unix; `until` is not included. `where`: values by FILTERS."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def totals(
        self,
        by: Sequence[Dimension] = (),
        since: float | None = None,
        until: float | None = None,
        where: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Sum]:
        """In the order of the groups, at most `limit` of them. Without `by`, one for all, where there are any."""
        conditions, values = _conditions(since, until, where or {})
        groups = [DIMENSIONS[each] for each in by]
        places = ", ".join(str(place) for place in range(1, len(groups) + 1))
        sql = f"SELECT {', '.join([*groups, _SUMS])} FROM entries{conditions}"  # noqa: S608 - of constants
        if groups:
            sql += f" GROUP BY {places} ORDER BY {places}"
        if limit is not None:
            sql += f" LIMIT {int(limit)}"
        return [_sum(by, row) for row in self._database.rows(sql, values) if row[len(groups)]]

    def count(
        self, since: float | None = None, until: float | None = None, where: Mapping[str, str] | None = None
    ) -> int:
        conditions, values = _conditions(since, until, where or {})
        return int(next(self._database.rows(f"SELECT COUNT(*) FROM entries{conditions}", values))[0])  # noqa: S608

    def entries(
        self,
        since: float | None = None,
        until: float | None = None,
        where: Mapping[str, str] | None = None,
        after_id: str = "",
    ) -> Iterator[Entry]:
        """By time, with their failed tries. `after_id`: only those behind that entry."""
        at = self._place(after_id)
        while True:
            page = self._page(since, until, where or {}, at)
            yield from page
            if len(page) < PAGE:
                return
            at = page[-1].time, page[-1].id

    def request(self, request: str, tenant: str | None = None) -> list[Entry]:
        """The entries under an x-request-id, which more than one may have: callers may choose it."""
        where = {"request": request} if tenant is None else {"request": request, "tenant": tenant}
        return self._page(None, None, where, None)

    def charges(self, requests: Sequence[str], since: float, tenant: str | None = None) -> dict[str, int]:
        """What is charged for each request, in nano-USD; those that are not known, or not known of, are left out."""
        asked = list(dict.fromkeys(requests))[:ASKED]
        conditions, values = _conditions(since, None, {} if tenant is None else {"tenant": tenant})
        sql = (
            f"SELECT request, CAST(SUM(charge) AS BIGINT) FROM entries{conditions}"  # noqa: S608 - of constants
            f" AND charge IS NOT NULL AND request IN ({_marks(asked)}) GROUP BY request"
        )
        return {row[0]: max(0, row[1]) for row in self._database.rows(sql, [*values, *asked])} if asked else {}

    def _place(self, after_id: str) -> tuple[float, str] | None:
        if not after_id:
            return None
        return next(((row[0], after_id) for row in self._database.rows(_TIME, (after_id,))), (float("inf"), after_id))

    def _page(
        self, since: float | None, until: float | None, where: Mapping[str, str], at: tuple[float, str] | None
    ) -> list[Entry]:
        conditions, values = _conditions(since, until, where)
        if at is not None:
            conditions += f"{' AND' if conditions else ' WHERE'} time >= ? AND (time, id) > (?, ?)"
            values += [at[0], *at]
        sql = f"SELECT {', '.join(_COLUMNS)} FROM entries{conditions} ORDER BY time, id LIMIT {PAGE}"  # noqa: S608
        rows = list(self._database.rows(sql, values))
        failed = self._failed([row[0] for row in rows])
        return [_entry(row, failed.get(row[0], ())) for row in rows]

    def _failed(self, ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
        if not ids:
            return {}
        sql = f"{_FAILED} WHERE entry IN ({_marks(ids)}) ORDER BY entry, number"
        found: dict[str, tuple[Attempt, ...]] = {}
        for entry, upstream, deployment, status, reason, seconds, sent, cost in self._database.rows(sql, ids):
            tried = Attempt(upstream, deployment, status, reason, seconds, bool(sent), cost)
            found[entry] = (*found.get(entry, ()), tried)
        return found


_FAILED: Final = "SELECT entry, upstream, deployment, status, reason, seconds, sent, cost FROM attempts"
_TIME: Final = "SELECT time FROM entries WHERE id = ?"


def _conditions(since: float | None, until: float | None, where: Mapping[str, str]) -> tuple[str, list[Any]]:
    told: list[tuple[str, Any]] = [("time >= ?", since), ("time < ?", until)]
    for name, value in where.items():
        if name not in FILTERS:
            raise ValueError(f"nothing is filtered by {name}")
        told.append((f"{DIMENSIONS.get(name, name)} = ?", value))
    given = [(text, value) for text, value in told if value is not None]
    return (" WHERE " + " AND ".join(text for text, _ in given) if given else ""), [value for _, value in given]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _sum(by: Sequence[Dimension], row: Row) -> Sum:
    group = tuple(_worded(name, value) for name, value in zip(by, row, strict=False))
    return Sum(group, *row[len(by) :])


def _worded(dimension: str, value: Any) -> str:
    if dimension not in _MOMENTS:
        return str(value)
    seconds, form = _MOMENTS[dimension]
    return datetime.datetime.fromtimestamp(value * seconds, datetime.UTC).strftime(form)


def _entry(row: Row, failed: tuple[Attempt, ...]) -> Entry:
    told = dict(zip(_COLUMNS, row, strict=True))
    return Entry(**{**told, "stream": bool(told["stream"]), "estimated": bool(told["estimated"])}, failed=failed)
