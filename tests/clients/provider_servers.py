"""What Replicate, fal and Together answer, as a server on loopback: one picture, or one word, whatever was asked.

It is a real server in a thread; `asked` keeps method, path and key of each request that came with one.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from router.sandbox.pictures import png

PICTURE = png("painted elsewhere", 48, 32)
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
            """The picture, whatever its name, to whoever asks."""
            self._answer(PICTURE, "image/png")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            known.asked.append((self.command, self.path, self.headers["authorization"]))
            picture = known.base.replace("127.0.0.1", "localhost") + "/picture.png"  # as from a host of its own
            if self.path.endswith("/predictions"):
                urls = {"get": f"{known.base}/v1/predictions/1", "cancel": f"{known.base}/v1/predictions/1/cancel"}
                made = {"id": "1", "status": "succeeded", "output": [picture], "error": None, "urls": urls}
                self._answer(json.dumps(made).encode(), "application/json", 201)
            elif self.path.endswith("/chat/completions"):
                self._answer(json.dumps(CHAT).encode(), "application/json")
            else:
                self._answer(json.dumps({"images": [{"url": picture}]}).encode(), "application/json")

        def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the name is http.server's
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        known.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
