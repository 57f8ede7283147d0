import contextlib
import itertools
import mmap
import os
import resource
import subprocess
import sys
import timeit
from pathlib import Path

import msgspec
import pytest

from router import orphans
from router import spool as spools
from router.entry import id_of
from router.segment import Segment
from router.spool import ENTRY, INTENT, Full, Spool
from router.state import ledger_url, spool_directory, state_directory
from tests.router.ledger_records import entry, intent

encode = msgspec.msgpack.Encoder().encode
SIZE = 64 << 10


def opened(directory: Path, limit: int = 16 * SIZE, segment: int = SIZE) -> Spool:
    spool = Spool(directory, limit, segment)
    spool.open()
    return spool


def fill(spool: Spool, kind: int) -> int:
    """How many it takes until it refuses."""
    for number in itertools.count():
        try:
            if kind == INTENT:
                spool.intend(intent(f"a{number}"))
            else:
                spool.settle(entry(f"b{number}"))
        except Full:
            return number
    return 0


def has_room(spool: Spool) -> bool:
    return spool.has_room


def is_behind(spool: Spool) -> bool:
    return spool.behind


def segments(spool: Spool) -> list[str]:
    return sorted(each.name for each in spool.directory.iterdir() if each.name != "lock")


def write(spool: Spool) -> int:
    """All there is into imagined books; how many entries that were."""
    fresh = spool.fresh(1 << 20)
    read = spool.read(1 << 20)
    spool.written(len(fresh))
    spool.prepare()
    return len(fresh) + len(read)


def test_what_is_settled_is_had_once_and_in_its_order(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    wanted = [entry(str(number)) for number in range(1000)]
    for each in wanted:
        spool.settle(each)
    assert spool.fresh(600) == wanted[:600]
    assert spool.fresh(600) == wanted[600:]
    assert spool.fresh(600) == []
    assert spool.read(600) == []
    assert spool.directory.stat().st_mode & 0o777 == 0o700
    spool.close()


@pytest.mark.plain
def test_what_memory_has_no_room_for_is_read_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "MIRRORED", 100)
    spool = opened(tmp_path)
    wanted = [entry(str(number)) for number in range(2000)]
    for each in wanted:
        spool.settle(each)
    fresh = spool.fresh(1 << 20)
    assert 100 < len(fresh) < 1000
    assert is_behind(spool)
    assert spool.read(500) == [encode(each) for each in wanted[len(fresh) :][:500]]
    spool.written(len(fresh))
    there = len(segments(spool))
    rest = spool.read(1 << 20)
    assert rest == [encode(each) for each in wanted[len(fresh) + 500 :]]
    assert not is_behind(spool)
    assert len(segments(spool)) == there, "it is read, and in no book yet"
    spool.written(0)
    assert len(segments(spool)) == 1
    while not spool.fresh(1):  # the next segment is mirrored again
        spool.settle(entry("x"))
        spool.read(1)
    spool.close(unwritten=True)


@pytest.mark.plain
def test_what_was_left_behind_gives_its_room_back_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MIRRORED", 0)
    spool = opened(tmp_path, limit=8 * SIZE)
    with contextlib.suppress(Full):
        for number in itertools.count(1):
            spool.intend(intent(f"a{number}"))
            spool.settle(entry(f"a{number - 1}"))  # each has its end behind the next one's beginning
    left = [len(segments(spool))]
    while spool.read(100):
        spool.written(0)
        if is_behind(spool):
            left.append(len(segments(spool)))
    assert left[0] == 8 and left[-1] <= 2, "long before all is had"
    spool.close(unwritten=True)


def test_a_segment_goes_once_all_in_it_is_in_the_books_and_no_intent_is_open(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.intend(intent("open"))
    while len(segments(spool)) < 3:
        spool.settle(entry("x"))
    fresh = spool.fresh(1 << 20)
    spool.settle(entry("y"))
    assert len(segments(spool)) == 3
    spool.written(len(fresh) - 1)
    assert len(segments(spool)) == 2, "the first has the open intent, the last is being written"
    spool.settle(entry("open"))
    spool.written(1)
    assert len(segments(spool)) == 2, "the end of the intent is in no book yet"
    assert write(spool) == 2
    assert len(segments(spool)) == 1
    spool.close()
    assert list(tmp_path.iterdir()) == [], "nothing is left behind where nothing is missed"


def test_what_is_not_in_the_books_is_left_behind(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(3):
        spool.settle(entry(str(number)))
    spool.written(len(spool.fresh(2)))
    spool.close()
    (orphan,) = orphans.find(tmp_path)
    with orphan:
        ((*found,),) = orphan.entries(10)
    assert [id_of(each) for each in found] == ["0", "1", "2"], "the books know which they have"


def test_intents_that_stay_open_are_moved_on_when_room_gets_scarce(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=8 * SIZE)
    kept = [f"open-{number}" for number in range(200)]
    for number in range(40_000):
        if number % 200 == 0:
            spool.intend(intent(kept[number // 200]))
        spool.settle(entry("x"))
        if number % 100 == 0:
            write(spool)
    assert len(segments(spool)) <= 8
    for name in kept[:150]:
        spool.settle(entry(name))
    spool.close()
    (orphan,) = orphans.find(tmp_path)
    with orphan:
        assert [*orphan.entries(1000)] != []
        assert {each.id for each in orphan.unended()} == set(kept[150:])


def test_intents_are_refused_before_entries_are(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=4 * SIZE)
    intents = fill(spool, INTENT)
    assert not has_room(spool)
    entries = fill(spool, ENTRY)
    assert intents > 1000 and entries > 250
    assert len(segments(spool)) == 4
    assert write(spool) == entries
    assert not has_room(spool)
    for number in range(intents):
        spool.end(f"a{number}")
    assert write(spool) == 0
    assert has_room(spool)
    spool.intend(intent("b"))
    spool.close()


def test_a_payload_that_no_segment_holds_is_refused_and_the_next_one_taken(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(Full):
        spool.settle(entry("a", request="x" * SIZE))
    spool.settle(entry("a"))
    assert len(spool.fresh(10)) == 1
    spool.close()


def test_a_full_disk_refuses_and_never_kills(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        assert fill(spool, ENTRY) > 0
        assert not has_room(spool)
        spool.prepare()
        assert not has_room(spool)
        with pytest.raises(Full):
            spool.intend(intent("b"))
        late = opened(tmp_path)  # a start on a full disk
        assert not has_room(late)
        late.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    spool.prepare()
    assert has_room(spool)
    spool.intend(intent("b"))
    spool.close()


def test_a_small_tmpfs_is_filled_and_refuses(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        spool = opened(mounted, limit=1 << 30, segment=128 << 10)
        written = fill(spool, ENTRY)
        assert written > 3000
        assert write(spool) == written
        assert has_room(spool)
        spool.close()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_what_was_not_finished_is_not_read(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "s", mmap.PAGESIZE)
    segment.put(ENTRY, b"whole")
    segment.put(ENTRY, b"second")
    segment.close()
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[16:24] = bytes(8)  # the payload is there, its word is not
    (tmp_path / "s").write_bytes(raw)
    assert Segment.load(tmp_path / "s").read(10) == [(ENTRY, b"whole")]


def test_what_was_damaged_is_counted_and_what_follows_is_read(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "s", mmap.PAGESIZE)
    for payload in (b"first", b"second", b"third"):
        segment.put(ENTRY, payload)
    segment.close()
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[25] ^= 1
    (tmp_path / "s").write_bytes(raw)
    loaded = Segment.load(tmp_path / "s")
    assert [payload for _, payload in loaded.read(10)] == [b"first", b"third"]
    assert loaded.damaged == 1
    (tmp_path / "s").write_bytes(os.urandom(mmap.PAGESIZE))
    Segment.load(tmp_path / "s").read(1000)


def test_the_living_are_no_orphans(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.intend(intent("a"))
    assert list(orphans.find(tmp_path)) == []
    spool.close()
    (orphan,) = orphans.find(tmp_path)
    assert list(orphans.find(tmp_path)) == [], "somebody has it"
    with orphan:
        assert list(orphan.entries(10)) == []
        orphan.remove()
    assert list(tmp_path.iterdir()) == []


def test_an_orphan_that_was_removed_halfway_is_still_found(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.intend(intent("a"))
    spool.close()
    (spool.directory / "lock").unlink()
    (orphan,) = orphans.find(tmp_path)
    with orphan:
        assert list(orphan.entries(10)) == []
        assert [each.id for each in orphan.unended()] == ["a"]
        orphan.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_appended_is_there_after_sigkill(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from router.spool import Spool\n"
        "from tests.router.ledger_records import entry\n"
        "spool = Spool(Path(sys.argv[1]), 1 << 20, 1 << 16); spool.open()\n"
        "for number in range(1000): spool.settle(entry('a', request='x' * number))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    (orphan,) = orphans.find(tmp_path)
    with orphan:
        (found,) = orphan.entries(2000)
        assert [len(msgspec.msgpack.decode(each)[2]) for each in found] == list(range(1000))


def test_an_entry_takes_a_microsecond(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=256 << 20, segment=8 << 20)
    made = entry("a" * 24)
    took = min(timeit.repeat(lambda: spool.settle(made), number=20_000, repeat=5)) / 20_000 * 1e6
    print(f"an entry of {len(encode(made))} bytes: {took:.2f} µs")
    assert took < 5
    spool.close()


def test_state_lies_where_the_platform_wants_it() -> None:
    assert state_directory({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x"}) == Path("/var/lib/a")
    assert state_directory({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/inference-router")
    assert state_directory({"HOME": "/h"}) == Path("/h/.local/state/inference-router")
    assert ledger_url(Path("/s")) == "sqlite:////s/router.db"
    assert spool_directory(Path("/s")) == Path("/s/spool")
