"""A client of a model server: time limits, back-off, rate, budget, TLS, a key that is not told."""

import http.client
import json
import random
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor

from trustml import ledger
from trustml.errors import BadInput, BudgetSpent, MethodFailed
from trustml.targets._manner import Manner, check_manner, checked_address, key_of

# Answers that a later try may better; and how long a server may ask us to wait.
_AGAIN = {429, 500, 502, 503, 504}
_LONGEST_WAIT, _FIRST_WAIT = 60.0, 0.25
_LARGEST = 1 << 26
_TOLD = 300
# How many inputs the request holds that is being sent.
_ROWS: ContextVar[int] = ContextVar("rows", default=0)


class Client:
    """One server, asked politely; safe to be used by several threads."""

    def __init__(self, url: str, manner: Manner, headers: dict[str, str] | None = None) -> None:
        """Take the address; nothing is asked yet.

        Raises:
            BadInput: no http(s) address, one with a secret in it, or a key that is not set.
        """
        self.url, self.manner = url, manner
        self._parts = checked_address(url)
        check_manner(manner)
        self._key = key_of(manner)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._headers |= headers or {}
        if self._key:
            bearer = manner.key_header.lower() == "authorization"
            self._headers[manner.key_header] = f"Bearer {self._key}" if bearer else self._key
        # It checks the server's certificate and name.
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None
        # Connections that are open and at rest; they are closed with their client.
        self._lock, self._open = threading.Lock(), list[http.client.HTTPConnection]()
        weakref.finalize(self, _close, self._open)
        self._pool = ThreadPoolExecutor(manner.workers, "trustml-http")
        self._free, self._answered = 0.0, False
        self.queries, self.repeated, self._tries = 0, 0, manner.retries + 1

    def __deepcopy__(self, memo: Any) -> "Client":
        """Return itself: there is one server, and one budget."""
        return self

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Try twice at most inside the block: to find out what a server takes, by its refusals."""
        self._tries = min(2, self.manner.retries + 1)
        try:
            yield
        finally:
            self._tries = self.manner.retries + 1

    def get(self, url: str) -> Any:
        """Return the JSON at an address of the server.

        Raises:
            MethodFailed: there is no answer, or none in JSON.
        """
        return self._asked("GET", url, None)

    def ask(self, x: Tensor, one: Callable[[Tensor], Any]) -> list[Any]:
        """Return what `one` makes of each part of x (B, …), in order; parts are asked side by side.

        Raises:
            BudgetSpent: x holds more inputs than the budget has left; none was asked about.
        """
        self._charge(len(x))
        parts = x.split(self.manner.batch)
        if len(parts) == 1:
            return [self._one(parts[0], one)]
        # Threads of the pool know of no open ledger but by the context that they are given.
        contexts = [copy_context() for _ in parts]
        return list(self._pool.map(lambda c, part: c.run(self._one, part, one), contexts, parts))

    def _one(self, part: Tensor, one: Callable[[Tensor], Any]) -> Any:
        # What is asked again is asked, too: a server may charge for it.
        _ROWS.set(len(part))
        return one(part)

    def _charge(self, count: int) -> None:
        """Count inputs that are about to be sent.

        Raises:
            BudgetSpent: there are more than the budget has left; none was counted.
            UsageError: the same, of the ledger in which the whole audit is entered.
        """
        with self._lock:
            left = self.manner.budget - self.queries
            if self.manner.budget and count > left:
                raise BudgetSpent(
                    f"{self.url}: the budget is {self.manner.budget} queries; {self.queries} were "
                    f"asked and {count} more are wanted"
                )
            ledger.charge(count)
            self.queries += count

    def post(self, content: Any, url: str = "") -> Any:
        """Return the JSON that the server answers to JSON.

        Raises:
            MethodFailed: there is no answer, or none in JSON.
        """
        return self._asked("POST", url or self.url, json.dumps(content).encode())

    def _asked(self, method: str, url: str, body: bytes | None) -> Any:
        for tried in range(self._tries):
            self._wait_turn()
            status, wait, text = self._tried(method, url, body)
            if status == 200:
                self._answered = True
                return self._parsed(url, text)
            # A server that has never answered is a wrong address: waiting does not help.
            away = status == 0 and not self._answered
            if status not in (0, *_AGAIN) or away or wait > _LONGEST_WAIT:
                break
            if tried == self._tries - 1:
                break
            with self._lock:
                self.repeated += 1
            # Not all at once again: each waits a little longer or shorter than the others.
            time.sleep(wait or min(30.0, _FIRST_WAIT * 2**tried) * random.uniform(0.75, 1.25))
            if body is not None:
                self._charge(_ROWS.get())
        raise MethodFailed(self._said(method, url, status, wait, text, tried + 1))

    def _tried(self, method: str, url: str, body: bytes | None) -> tuple[int, float, bytes]:
        """Return status (0: no answer), seconds that the server asks us to wait, and the body."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection, used = self._connection()
        try:
            connection.request(method, path or "/", body, self._headers)
            answer = connection.getresponse()
            text = answer.read(_LARGEST)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if used and isinstance(error, ConnectionError):
                return self._tried(method, url, body)  # it was only kept open for too long
            return self._no_answer(error)
        self._open.append(connection)
        if len(text) == _LARGEST:
            raise MethodFailed(f"{url} answers more than {_LARGEST >> 20} MiB")
        # A server may echo what it was sent: the key goes no further than here.
        text = text.replace(self._key.encode(), b"***") if self._key else text
        return answer.status, _wait(answer.getheader("Retry-After")), text

    def _no_answer(self, error: Exception) -> tuple[int, float, bytes]:
        """Return why there is none: 0 where another try may help, 1 where it cannot."""
        if isinstance(error, ssl.SSLCertVerificationError):
            told = f"{error.verify_message}; SSL_CERT_FILE names certificates to trust"
            return 1, 0.0, told.encode()
        if isinstance(error, TimeoutError):
            return 0, 0.0, f"no answer within {self.manner.timeout:g} s".encode()
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return 0, 0.0, told.encode()

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        with self._lock:
            if self._open:
                return self._open.pop(), True
        host, port, limit = self._parts.hostname or "", self._parts.port, self.manner.timeout
        if self._tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=limit, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=limit)
        return connection, False

    def _wait_turn(self) -> None:
        """Wait until the rate allows another request."""
        if not self.manner.rate:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._free)
            self._free = turn + 1 / self.manner.rate
        time.sleep(max(0.0, turn - now))

    def _parsed(self, url: str, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise MethodFailed(f"{url} answers no JSON: {_shown(text)!r}") from error

    def _said(
        self, method: str, url: str, status: int, wait: float, text: bytes, tries: int
    ) -> str:
        """Return what went wrong in a line, without the key, whatever the server says."""
        after = f" after {tries} tries" if tries > 1 else ""
        if status < 100:
            return f"{url} does not answer{after}: {_shown(text)}"
        if wait > _LONGEST_WAIT:
            return f"{url} answers {status} and asks to wait {wait:g} s: try again later"
        hint = ": the key is missing or wrong; name it by key_env=" if status in (401, 403) else ""
        return f"{method} {url} answers {status}{after}{hint}: {_shown(text)}"


@contextmanager
def opening() -> Iterator[None]:
    """Say that a server which fails while it is opened cannot be used: nothing has begun yet.

    Raises:
        BadInput: in place of the failure.
    """
    try:
        yield
    except BudgetSpent:
        raise
    except MethodFailed as error:
        raise BadInput(str(error)) from error


def _wait(text: str | None) -> float:
    """Return the seconds of a Retry-After: a number, or a date."""
    if not text:
        return 0.0
    try:
        if text.strip().isdecimal():
            return float(text)
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _shown(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())[:_TOLD]


def _close(connections: list[http.client.HTTPConnection]) -> None:
    for connection in connections:
        connection.close()
