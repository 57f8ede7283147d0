"""What providers answer, as a server on loopback: one picture, one film, or one word, whatever was asked.

It is a real server in a thread; `asked` keeps method, path and key of each request that came with one.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from router.sandbox.pictures import png
from tests.threaded import Threaded

PICTURE = png("painted elsewhere", 48, 32)
FILM = b"\0\0\0\x18ftypisom" + bytes(40)
CHAT = {
    "id": "o1",
    "object": "chat.completion",
    "created": 1719907176,
    "model": "meta-llama/Llama-3-8b-chat-hf",
    "choices": [{"index": 0, "finish_reason": "eos", "message": {"role": "assistant", "content": "Paris"}}],
    "usage": {"prompt_tokens": 17, "completion_tokens": 1, "total_tokens": 18},
}


@dataclass
class Providers:
    base: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextlib.contextmanager
def providers() -> Iterator[Providers]:
    known = Providers()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """A file, by the end of its name, to whoever asks; and what has become of a job, to who has the key."""
            if self.headers["authorization"] is None:
                film = self.path.endswith(".mp4")
                return self._answer(FILM if film else PICTURE, "video/mp4" if film else "image/png")
            self._note()
            made = f"{known.base}/film.mp4"
            if self.path.endswith("/status"):  # fal's; the first look is too early
                looks = known.asked.count(known.asked[-1])
                return self._tell({"status": "COMPLETED" if looks > 1 else "IN_PROGRESS"})
            if self.path.endswith("/result"):  # wavespeed's
                return self._tell({"code": 200, "data": {"id": "1", "status": "completed", "outputs": [made]}})
            return self._tell({"video": {"url": made}})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._note()
            picture = known.base.replace("127.0.0.1", "localhost") + "/picture.png"  # as from a host of its own
            if self.path.endswith("/predictions"):
                urls = {"get": f"{known.base}/v1/predictions/1", "cancel": f"{known.base}/v1/predictions/1/cancel"}
                made = {"id": "1", "status": "succeeded", "output": [picture], "error": None, "urls": urls}
                self._tell(made, 201)
            elif self.path.endswith("/chat/completions"):
                self._tell(CHAT)
            elif self.path.startswith("/api/v3/"):  # wavespeed
                urls = {"get": f"{known.base}/api/v3/predictions/1/result"}
                self._tell({"code": 200, "data": {"id": "1", "status": "created", "urls": urls, "outputs": []}})
            elif self.path.endswith("/video"):  # fal's queue
                job = f"{known.base}/fal-ai/films/requests/1"
                urls = {"response_url": job, "status_url": f"{job}/status", "cancel_url": f"{job}/cancel"}
                self._tell({"request_id": "1", "status": "IN_QUEUE", **urls})
            else:
                self._tell({"images": [{"url": picture}]})

        def _note(self) -> None:
            known.asked.append((self.command, self.path, self.headers["authorization"]))

        def _tell(self, value: object, status: int = 200) -> None:
            self._answer(json.dumps(value).encode(), "application/json", status)

        def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the name is http.server's
            """Nothing on stderr."""

    with Threaded(("127.0.0.1", 0), Answering) as server:
        known.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
