"""A server on the loopback that answers each path with what it was given: for clients that fetch what they are told."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Thread
from typing import Any

from tests.threaded import Threaded


@contextmanager
def canned(answers: Mapping[str, Any]) -> Iterator[str]:
    """Its URL. Bytes are answered as a file, anything else as JSON in which `{here}` stands for that URL."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[self.path]
            body = answer if isinstance(answer, bytes) else json.dumps(answer).replace("{here}", here).encode()
            self.send_response(200)
            self.send_header("content-type", "application/octet-stream" if answer is body else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = Threaded(("127.0.0.1", 0), Answering)
    here = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
