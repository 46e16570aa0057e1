"""How a server is asked: limits, an address without a secret in it, and where the key is."""

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from trustml.errors import BadInput

_SECRET = ("key", "token", "secret", "password", "signature")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a server is asked.

    Args:
        timeout: seconds that one answer may take.
        batch: inputs a request at most.
        workers: requests in flight at most.
        rate: requests a second at most; 0 sets no limit.
        budget: inputs in all at most; 0 sets no limit.
        key_env: environment variable that holds the key.
        key_header: header that carries the key; "Authorization" carries it as a bearer token.
        retries: tries after the first, where the server is busy, broken or away.
    """

    timeout: float = 30.0
    batch: int = 16
    workers: int = 4
    rate: float = 0.0
    budget: int = 0
    key_env: str | None = None
    key_header: str = "Authorization"
    retries: int = 5


def checked_address(url: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        BadInput: it is none, or there is a secret in it.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("it must be http://host:port/… or https://…")
    except ValueError as error:
        raise BadInput(f"{url!r} is no address of a server: {error}") from error
    words = [name.lower() for name, _ in parse_qsl(parts.query)]
    if parts.username or any(w.endswith(_SECRET) or w in ("sig", "code") for w in words):
        raise BadInput(
            f"the address at {parts.hostname} carries a secret, and addresses are written to "
            f"records: put it into an environment variable and name that by key_env="
        )
    return parts


def check_manner(manner: Manner) -> None:
    """Check the numbers.

    Raises:
        BadInput: one is too small.
    """
    least = {"timeout": 1e-3, "retries": 0, "batch": 1, "workers": 1, "rate": 0, "budget": 0}
    for name, value in least.items():
        if not getattr(manner, name) >= value:
            raise BadInput(f"{name}={getattr(manner, name)} must be {value:g} or more")


def key_of(manner: Manner) -> str:
    """Return the key, or "" where none is named.

    Raises:
        BadInput: the environment variable holds none.
    """
    if manner.key_env is None:
        return ""
    key = os.environ.get(manner.key_env, "").strip()
    if not key or not key.isprintable():
        raise BadInput(f"key_env={manner.key_env}: this environment variable holds no key")
    return key
