"""How the workers of one host ask each other: a unix socket each, a name in, bytes out.

So any worker can answer for all (`/metrics` summed, a reload made known) without files to share or set-up by the
user. The directory is private to the user (0700), made and removed by the supervisor; alone, there is nobody to ask
and no socket. A sibling that is dead or slow is left out after half a second, never waited for.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

BUDGET = 0.5  # seconds for one sibling's answer
LONGEST_NAME = 1024
LENGTH = 4  # bytes, big endian, before a name and before an answer

Answer = Callable[[str], bytes]


class Siblings:
    def __init__(self, directory: Path | None, index: int, count: int) -> None:
        self.index = index
        self.count = count
        self._directory = directory
        self._server: asyncio.Server | None = None

    @property
    def directory(self) -> Path | None:
        """Private to the workers of one supervisor; None where there is but one."""
        return self._directory

    async def open(self, answer: Answer) -> None:
        if self._directory is None:
            return
        own = self._path(self._directory, self.index)
        own.unlink(missing_ok=True)  # left by the worker whose place this one took

        async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(BUDGET):
                    length = int.from_bytes(await reader.readexactly(LENGTH))
                    if length <= LONGEST_NAME:
                        reply = answer((await reader.readexactly(length)).decode())
                        writer.write(len(reply).to_bytes(LENGTH) + reply)
                        await writer.drain()
            writer.close()

        self._server = await asyncio.start_unix_server(asked, own)

    async def close(self) -> None:
        if self._server is not None and self._directory is not None:
            self._server.close()
            self._path(self._directory, self.index).unlink(missing_ok=True)

    async def ask_all(self, name: str) -> list[bytes]:
        """What the others answer; those who do not are left out."""
        others = [index for index in range(self.count) if index != self.index]
        if self._directory is None or not others:
            return []
        answers = await asyncio.gather(*(self._ask(self._path(self._directory, index), name) for index in others))
        return [each for each in answers if each is not None]

    async def _ask(self, path: Path, name: str) -> bytes | None:
        try:
            async with asyncio.timeout(BUDGET):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    asked = name.encode()
                    writer.write(len(asked).to_bytes(LENGTH) + asked)
                    return await reader.readexactly(int.from_bytes(await reader.readexactly(LENGTH)))
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None

    @staticmethod
    def _path(directory: Path, index: int) -> Path:
        return directory / f"{index}.sock"
