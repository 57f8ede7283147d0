"""Processes that keep a ledger until each is killed at random, and say on the output what they have put there.

Usage: keeping_books.py URL SPOOL ROUNDS TOGETHER. A line `i ID` follows an intent, `e ID` an entry; one in nine is left
open. Each round's processes find what the round before has left, and are killed while they write it, too.
"""

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path

from router.ledger import Ledger
from router.stores.sql import database
from tests.router.ledger_records import entry, intent


def keep(url: str, spool: Path, name: str) -> None:
    ledger = Ledger(database(url), spool, 64 << 20, segment=64 << 10)
    ledger.open()
    for number in range(1 << 30):
        made = f"{name}-{number:x}"
        ledger.intend(intent(made))
        os.write(1, f"i {made}\n".encode())
        if number % 9:
            ledger.settle(entry(made))
            os.write(1, f"e {made}\n".encode())
        if not number % 10:
            time.sleep(0.001)


def main(url: str, spool: str, rounds: str, together: str) -> None:
    if url.startswith("postgresql"):
        importlib.import_module("router.stores.postgres")  # once, rather than in each
    for number in range(int(rounds)):
        children = []
        for each in range(int(together)):
            child = os.fork()
            if not child:
                keep(url, Path(spool), f"{number}-{each}")
            children.append(child)
        time.sleep(0.05)
        for child in children:
            time.sleep(random.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
        for child in children:
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


if __name__ == "__main__":
    main(*sys.argv[1:])
