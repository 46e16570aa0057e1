"""Tables of explanations: marks for the best and what is level with it, agreement, the verdict."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from trustml.contracts import Cost, Record, Score
from trustml.reports.explanation_table import explanation_tables


def row(plugin: str, road: float, **changes: Any) -> Record:
    """Return a finished row with one figure."""
    known: dict[str, Any] = {
        "case": f"net-{plugin}", "kind": "attribution", "plugin": plugin, "options": {},
        "model": "net", "weights": "", "data": "toy", "data_hash": "", "seed": 0,
        "threat": {"explained": "the answered class"},
        "scores": {"ROAD": Score(road, road, road, "higher")}, "cost": Cost(), "place": {},
        "status": "done",
    }  # fmt: skip
    return Record(**{**known, **changes})


ROWS = [
    row("random", 0.1), row("gradient", 0.5, notes=("stability under attack: attacked by moves",)),
    row("lrp", 0.4), row("lime", 0.2, notes=("ROAD: something of one row",)),
]  # fmt: skip
ASIDE = row(
    "beside_random", 0.0, kind="attributions", notes=("ROAD: not distinguishable …: lime",),
    scores={"agreement of gradient and lrp": Score(0.75, 0.75, 0.75, "higher")},
    options={
        "of": [],
        "best": {"ROAD": {"case": "net-gradient", "not distinguishable": ["net-lrp"]}},
    },
)  # fmt: skip


def shown(records: list[Record]) -> str:
    """Return what stands on a terminal of 100 columns."""
    console = Console(width=100, record=True, file=StringIO())
    for part in explanation_tables(records, "net", "toy"):
        console.print(part)
    return console.export_text()


def test_the_best_is_marked_and_what_cannot_be_told_from_it() -> None:
    lines = shown([*ROWS, ASIDE]).splitlines()
    figures = {words[0]: words[1] for words in map(str.split, lines) if len(words) == 2}
    wanted = {"random": "0.1", "gradient": "0.5*", "lrp": "0.4=", "lime": "0.2"}
    assert wanted.items() <= figures.items()


def test_agreements_stand_in_a_square() -> None:
    """The pair is found whichever of the two is named first; no row agrees with itself."""
    lines = shown([*ROWS, ASIDE]).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("agreement of"))
    cells = {words[1]: words[2:] for words in map(str.split, lines[start:]) if len(words) == 6}
    assert cells["gradient"] == ["–", "–", "0.75", "–"]
    assert cells["lrp"] == ["–", "0.75", "–", "–"]


def test_notes_and_verdict() -> None:
    """Notes of rows and of the comparison are told; how each was attacked stays in the record."""
    text = " ".join(shown([*ROWS, ASIDE]).split())
    assert "note: lime: ROAD: something of one row" in text
    assert "note: ROAD: not distinguishable …: lime" in text
    assert "attacked by" not in text
    assert text.endswith(
        "gradient is the most telling. Not distinguishable from it: lrp. "
        "Not every method can be told from a random map."
    )


@pytest.mark.parametrize("words", ["not distinguishable from", "worse than"])
def test_the_best_that_is_no_better_than_random_is_not_the_most_telling(words: str) -> None:
    aside = replace(ASIDE, notes=(f"ROAD: {words} a random map: lime, gradient",))
    text = " ".join(shown([*ROWS, aside]).split())
    assert "most telling" not in text
    assert "Verdict: none, for taking away" in text
    assert "even with the best, gradient (ROAD)." in text
    other = replace(ASIDE, notes=(f"deletion: {words} a random map: gradient",))
    assert "gradient is the most telling" in " ".join(shown([*ROWS, other]).split())


def test_nothing_to_say_of_what_knows_nothing() -> None:
    failed = replace(ASIDE, status="failed", scores={}, options={}, notes=())
    assert "Verdict: none" in shown([ROWS[0], failed])


def test_what_was_not_measured_has_no_table() -> None:
    """Only ROAD was: nothing is said of the model's part; costs always are."""
    text = shown([*ROWS, ASIDE])
    assert "faithful?" in text
    assert "of this model?" not in text
    assert "their price" in text
