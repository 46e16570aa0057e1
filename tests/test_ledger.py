"""The ledger counts what is charged, from any thread, past any stop, and never beyond its bound."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trustml import ledger
from trustml.errors import MethodFailed, UsageError
from trustml.ledger import Ledger, entered_in


def test_it_goes_on_from_where_it_was(tmp_path: Path) -> None:
    """5 and 7 are 12, also for who opens the file again; a higher bound allows the rest."""
    book = Ledger(tmp_path / "queries", 13)
    book.charge(5)
    book.charge(7)
    with pytest.raises(UsageError, match="of 13 queries 12 were asked, and 2 more are wanted"):
        book.charge(2)
    assert Ledger(tmp_path / "queries").asked == 12
    again = Ledger(tmp_path / "queries", 20)
    again.charge(8)
    assert again.asked == 20


def test_what_was_refused_once_is_refused_for_good(tmp_path: Path) -> None:
    """One more would fit; a method that fails for want of queries must not be followed by others.

    The error is none of a failed method, which thieves and searches catch as the end of theirs.
    """
    book = Ledger(tmp_path / "queries", 10)
    with pytest.raises(UsageError) as raised:
        book.charge(11)
    assert not isinstance(raised.value, MethodFailed)
    with pytest.raises(UsageError):
        book.charge(1)
    assert book.asked == 0
    assert book.spent


@given(some.lists(some.integers(1, 50), max_size=30), some.integers(1, 400))
def test_the_bound_holds_for_any_order(counts: list[int], budget: int) -> None:
    """What was let through is the longest beginning that fits."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        book = Ledger(Path(folder) / "queries", budget)
        let = 0
        for count in counts:
            try:
                book.charge(count)
                let += 1
            except UsageError:
                break
        assert book.asked == sum(counts[:let]) <= budget
        assert let == len(counts) or sum(counts[: let + 1]) > budget


def test_threads_of_the_block_are_entered_and_others_are_not(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "queries")
    with ThreadPoolExecutor(4) as pool:
        with entered_in(book):
            contexts = [copy_context() for _ in range(40)]
            list(pool.map(lambda context: context.run(ledger.charge, 3), contexts))
        ledger.charge(1000)
    assert book.asked == 120
    assert Ledger(tmp_path / "queries").asked == 120


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "queries").write_text("many")
    with pytest.raises(UsageError, match="not a number of queries"):
        Ledger(tmp_path / "queries")
