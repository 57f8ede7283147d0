"""A worker that does with a HostStore as it is told on stdin, a line of JSON each, and answers in one."""

import json
import os
import signal
import sys
from pathlib import Path

from router.bounds import Bound
from router.stores.host import HostStore


def main(path: str, index: int, count: int, robust: bool) -> None:
    store = HostStore(Path(path), index, count, robust=robust, slots=4096)
    taken = 0
    for line in sys.stdin:
        told = json.loads(line)
        if told["act"] == "die locked":
            store._lock.__enter__()
            os.kill(os.getpid(), signal.SIGKILL)
        if told["act"] == "stop locked":
            with store._lock:
                print("0", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            continue
        asked = [
            (Bound(name, "key", "k", name.split("/")[-1], amount, 3600.0, told.get("period", "")), 1)
            for name, amount in told["bounds"]
        ]
        fitted = 0
        for _ in range(told["times"]):
            taken += 1
            hold = f"{index}-{taken}"
            if store.take(asked, hold) is None:
                fitted += 1
                if told["act"] == "use":
                    store.settle([(bound, n, n) for bound, n in asked], hold)
        levels = [store.level(bound).used for bound, _ in asked]
        print(json.dumps([fitted, levels, store.alone, store.unlocked]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True")
