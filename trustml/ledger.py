"""A ledger of what servers are asked: every query of an audit counted, on disk, and bounded."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from trustml.errors import UsageError
from trustml.files import explained

# The number is written in place, always as wide, so that a kill leaves the old one or the new.
_WIDTH = 20


class Ledger:
    """How many inputs were asked about, and how many may be; safe to be used by several threads."""

    def __init__(self, path: Path, budget: int = 0) -> None:
        """Go on from the number that the file holds; a budget of 0 is no bound.

        Raises:
            UsageError: the file holds something else, or cannot be read.
        """
        self.path, self.budget, self.asked = path, budget, 0
        # Once something was refused all is: what is cheap enough to fit must not run on alone.
        self.spent = False
        self._lock = threading.Lock()
        if path.exists():
            try:
                self.asked = int(path.read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                raise UsageError(f"{path}: not a number of queries ({error})") from error

    def charge(self, count: int) -> None:
        """Count so many inputs, before they are sent.

        Raises:
            UsageError: they go beyond the budget; none of them may be sent. It is no failure of
                the method that asks: a run stops here, and can be gone on with.
        """
        with self._lock:
            if self.budget and (self.spent or self.asked + count > self.budget):
                self.spent = True
                raise UsageError(
                    f"stopped by the query budget: of {self.budget:,} queries {self.asked:,} were "
                    f"asked, and {count:,} more are wanted: --budget names a higher one"
                )
            self.asked += count
            self._write()

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                file.write(f"{self.asked:0{_WIDTH}}".encode())
        except OSError as error:
            raise explained(error, self.path) from error


_OPEN: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


@contextmanager
def entered_in(ledger: Ledger) -> Iterator[None]:
    """Enter what servers are asked inside the block in the ledger, whoever asks."""
    token = _OPEN.set(ledger)
    try:
        yield
    finally:
        _OPEN.reset(token)


def charge(count: int) -> None:
    """Enter so many inputs in the ledger that is open, if there is one.

    Raises:
        UsageError: they go beyond its budget.
    """
    ledger = _OPEN.get()
    if ledger is not None:
        ledger.charge(count)
