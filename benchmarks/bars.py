"""The bars of "survive everything", each printed as N/N: the suite's own tests, counted, the long ones included.

    python -m benchmarks.bars [--quick]

Needs `.[test]`. A quarter of an hour; `--quick` leaves out what has the mark `long` or `slow`, and takes two minutes.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

# What is shown, and the tests that show it. Each counts for what stands behind it: so many of what a test does.
BARS: Final[Sequence[tuple[str, str, int]]] = (
    ("FailoverBench's faults, streaming, real waits", "tests/chaos/test_failover.py", 16),
    ("the fault matrix, streaming and not, before a fallback and alone", "tests/chaos/test_matrix.py", 1),
    (
        "ways to cut a stream, at every byte of it: none told as a success",
        "tests/chaos/test_splicing.py -k any_byte",
        1,
    ),
    ("splices: continued, restarted, refused, counted", "tests/chaos/test_splicing.py -k 'not any_byte'", 1),
    (
        "keep-alive races of text, at most one more attempt each",
        "tests/chaos/test_storms.py -k thousand_keep_alive",
        1000,
    ),
    ("races of paid media, no second generation", "tests/chaos/test_storms.py -k thousand_races", 1000),
    ("callers who leave at random points", "tests/flows/test_disconnects.py -k thousand", 1000),
    ("storms: churn, a dying upstream, one that is down", "tests/chaos/test_storms.py -k 'not thousand'", 1),
    ("hints of when to come back, in every form", "tests/router/test_retry.py -k 'hint_is_read'", 1),
    ("hints of noise without an exception or a long sleep", "tests/router/test_retry.py -k ten_thousand", 10_000),
    ("streams that a SIGTERM does not cut", "tests/flows/test_drain.py -k two_hundred", 200),
    ("drains with half-open sockets and endless streams", "tests/flows/test_drain.py -k 'not two_hundred'", 1),
    ("reloads under load, half of them bad, no request failed", "tests/flows/test_reload.py -k hundred", 100),
    ("reloads by signal, request and file, one worker and two", "tests/flows/test_reload.py -k 'not hundred'", 1),
    ("raw HTTP: one answer at most, slow callers, floods", "tests/router/server/test_guard.py", 1),
    ("attacks", "tests/chaos/test_attacks.py tests/flows/test_bad_input.py", 1),
    ("walls: plans, queues in turns, few files, browsers", "tests/flows/test_walls.py", 1),
)
QUICK: Final = "not long and not slow and not clients and not backends"
_SAID: Final = re.compile(r"(\d+) (passed|failed|error)")


def count(tests: str, marks: str) -> tuple[int, int]:
    """Passed, and run."""
    words = re.findall(r"'[^']*'|\S+", tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks]
    done = subprocess.run(
        [*command, *(word.strip("'") for word in words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = {what: int(number) for number, what in _SAID.findall(done.stdout.splitlines()[-1])}
    if said.get("failed") or said.get("error"):
        print(done.stdout[-3000:], file=sys.stderr)
    return said.get("passed", 0), sum(said.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    marks = QUICK if parser.parse_args().quick else "not clients and not backends"
    missed = False
    for says, tests, each in BARS:
        passed, ran = count(tests, marks)
        if ran:
            print(f"{passed * each:>6}/{ran * each:<6} {says}", flush=True)
        missed = missed or passed != ran
    sys.exit(missed)


if __name__ == "__main__":
    main()
