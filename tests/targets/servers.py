"""A model server on loopback that speaks three protocols and misbehaves as it is told to."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from torch import Tensor

Answer = Callable[[Tensor], Any]


class StandIn:
    """A server of one model; `trouble` sees each request, and may answer it in the model's place.

    Args:
        answer: inputs (B, …) → scores (B, K) or labels.
        trouble: (how many requests there were, the handler) → whether it has answered.
    """

    def __init__(self, answer: Answer, *, shape: list[int] | None = None) -> None:
        self.answer, self.shape = answer, shape
        self.trouble: Callable[[int, Any], bool] = lambda number, handler: False
        # What the numbers of a request become.
        self.dtype = torch.float32
        self.rows, self.requests, self.flying, self.most = 0, 0, 0, 0
        self.seen: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.lock, self.open = threading.Lock(), []
        self._start(0)

    def _start(self, port: int) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.open.append(self.connection)

            def do_GET(self) -> None:
                outer._get(self)

            def do_POST(self) -> None:
                outer._post(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        # A client that goes away is no trouble of the server's: it says nothing of it.
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.port = self.http.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Go away: the port is closed, open connections are dropped."""
        self.http.shutdown()
        self.http.server_close()
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.open.clear()
        self.thread.join()

    def again(self) -> None:
        """Come back at the same port."""
        self._start(self.port)

    def _get(self, handler: Any) -> None:
        self.seen[handler.path] += 1
        given = {"name": "x", "datatype": "FP32", "shape": [-1, *(self.shape or [64])]}
        if handler.path != "/v2/models/digits":
            say(handler, 404, {"error": f"no {handler.path}"})
            return
        say(handler, 200, {"name": "digits", "versions": ["1"], "platform": "test",
                           "inputs": [given] if self.shape else [], "outputs": []})  # fmt: skip

    def _post(self, handler: Any) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.requests += 1
            number = self.requests
            self.flying += 1
            self.most = max(self.most, self.flying)
            self.keys.add(str(handler.headers.get("Authorization")))
            self.seen[handler.path] += 1
        try:
            if not self.trouble(number, handler):
                try:
                    self._model(handler, body)
                except (AssertionError, ValueError) as error:  # as a model raises in a server
                    say(handler, 500, {"error": str(error)})
        finally:
            with self.lock:
                self.flying -= 1

    def _model(self, handler: Any, body: Any) -> None:
        if handler.path == "/invocations":
            table = body.get("dataframe_split")
            x = torch.tensor(table["data"] if table else body["inputs"], dtype=self.dtype)
            said = self._said(x)
            say(handler, 200, {"predictions": said.tolist() if torch.is_tensor(said) else said})
        elif handler.path == "/classify":
            said = self._said(torch.tensor(body["pixels"], dtype=self.dtype))
            rows = said.tolist() if torch.is_tensor(said) else said
            say(handler, 200, {"result": [{"p": row} for row in rows]})
        elif handler.path == "/one":
            said = self._said(torch.tensor([body["q"]["image"]]))
            say(handler, 200, {"label": said[0]})
        else:
            given = body["inputs"][0]
            said = self._said(torch.tensor(given["data"], dtype=self.dtype).view(given["shape"]))
            say(handler, 200, {"model_name": "digits", "outputs": [output(said)]})

    def _said(self, x: Tensor) -> Any:
        with self.lock:
            self.rows += len(x)
        return self.answer(x)


def output(said: Any) -> dict[str, Any]:
    """Return scores or labels as an output of the Open Inference Protocol."""
    if torch.is_tensor(said):
        kind = "FP64" if said.dtype == torch.float64 else "FP32"
        return {"name": "scores", "datatype": kind, "shape": list(said.shape),
                "data": said.flatten().tolist()}  # fmt: skip
    kind = "BYTES" if isinstance(said[0], str) else "INT64"
    return {"name": "label", "datatype": kind, "shape": [len(said)], "data": said}


def say(handler: Any, status: int, content: Any, **headers: str) -> None:
    """Answer with JSON."""
    body = json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def late(seconds: float) -> Callable[[int, Any], bool]:
    """Return a trouble: every answer comes late."""

    def trouble(number: int, handler: Any) -> bool:
        time.sleep(seconds)
        return False

    return trouble
