"""The drill as a command; exit code 0 where all that was promised held."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from deploy.drill.story import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.drill", description="Kill, drain and reload under load.")
    parser.add_argument("--without-stores", action="store_true", help="no Redis, no ledger: availability alone")
    parser.add_argument("--without-haproxy", action="store_true", help="the stand-in, even where HAProxy is to be had")
    parser.add_argument("--programs", type=Path, help="a directory where HAProxy is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drill-") as place:
        report = asyncio.run(
            run(
                Path(place),
                stores=not options.without_stores,
                programs=None if options.without_haproxy else options.programs or Path(place) / "programs",
            )
        )
    print(report)
    sys.exit(0 if report.holds else 1)


if __name__ == "__main__":
    main()
