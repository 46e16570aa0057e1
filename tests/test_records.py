"""Records through JSON lines: nothing is lost, and what is no record is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trustml.contracts import Cost, Record, Score
from trustml.errors import BadInput
from trustml.records import SCHEMA, UPGRADES, from_line, plain, read_history, read_records, to_line

numbers = some.floats(allow_nan=False, allow_infinity=False)
# Characters that end a line for Python (U+2028, NEL, form feed) are among them.
texts = some.text(some.characters(codec="utf-8"), max_size=20)
json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | numbers | texts,
    lambda inner: (
        some.lists(inner, max_size=3) | some.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
mappings = some.dictionaries(texts, json_values, max_size=4)
scores = some.builds(Score, numbers, numbers, numbers, some.sampled_from(["higher", "lower"]))
costs = some.builds(Cost, numbers, numbers, numbers, numbers, some.none() | numbers)
records = some.builds(
    Record,
    **dict.fromkeys(("case", "kind", "plugin", "model", "weights", "data", "data_hash"), texts),
    options=mappings,
    seed=some.integers(),
    threat=mappings,
    scores=some.dictionaries(texts, scores, max_size=3),
    cost=costs,
    place=mappings,
    status=some.sampled_from(["done", "failed", "skipped"]),
    reason=texts,
    notes=some.lists(texts, max_size=3).map(tuple),
    samples=texts,
    schema=some.just(SCHEMA),
)
ONE = Record(
    "a", "attack", "pgd", {"steps": 3}, "mlp", "w", "digits", "d", 0, {"norm": "linf"},
    {"robust accuracy": Score(0.5, 0.4, 0.6, "higher")}, Cost(1.0, 2.0, 3.0, 4.0), {}, "done",
)  # fmt: skip


@given(records)
def test_a_record_is_the_same_after_its_line(record: Record) -> None:
    assert from_line(to_line(record)) == record


@given(some.lists(records, max_size=4))
def test_records_are_the_same_after_their_file(
    tmp_path_factory: pytest.TempPathFactory, written: list[Record]
) -> None:
    path = tmp_path_factory.mktemp("run") / "records.jsonl"
    path.write_text("".join(to_line(record) + "\n" for record in written))
    assert read_history(path) == written
    last = {record.case: record for record in written}
    assert {record.case: record for record in read_records(path)} == last
    assert [record.case for record in read_records(path)] == list(last)


def test_the_last_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    """At whichever byte: a line counts once its end is written."""
    path, whole = tmp_path / "records.jsonl", to_line(ONE).encode() + b"\n"
    for cut in range(len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert read_records(path) == [ONE]
    path.write_bytes(whole + whole)
    assert read_history(path) == [ONE, ONE]


def test_no_file_holds_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "records.jsonl") == []


def test_a_newer_schema_is_refused() -> None:
    with pytest.raises(BadInput, match=rf"schema {SCHEMA + 1}.*upgrade"):
        from_line(to_line(replace(ONE, schema=SCHEMA + 1)))


def test_a_record_of_each_older_schema_is_read() -> None:
    """One of schema 1, as it was written before attacks could see surrogates."""
    facts = json.loads(to_line(ONE))
    del facts["surrogates"]
    assert from_line(json.dumps({**facts, "schema": 1})) == ONE
    assert sorted(UPGRADES) == list(range(1, SCHEMA)), "no schema without a way to the next"


def test_what_no_trustml_ever_wrote_is_refused() -> None:
    with pytest.raises(BadInput, match="schema 0; there is none before 1"):
        from_line(_changed(schema=0))


def test_nan_is_never_written() -> None:
    """NaN is not JSON; a reader in another language would choke on it."""
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line(replace(ONE, options={"step": float("nan")}))


def _changed(**facts: Any) -> str:
    return to_line(replace(ONE, **facts))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "3",
        "{}",
        '{"schema": 1}',
        '{"schema": "1"}',
        '{"schema": null}',
        to_line(ONE)[:-1],
        to_line(ONE).replace('"seed"', '"sed"'),
        to_line(ONE).replace('"done"', '"finished"'),
        _changed(case=3),
        _changed(threat=[]),
        _changed(notes="abc"),
        _changed(scores={"robust accuracy": Score("high", 0, 0, "higher")}),  # type: ignore[arg-type]
        _changed(scores={"robust accuracy": None}),
        to_line(ONE).replace('"seconds"', '"minutes"'),
    ],
)
def test_what_is_no_record_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a record"):
        from_line(line)
    path = tmp_path / "records.jsonl"
    path.write_text(f"{to_line(ONE)}\n{line}\n")
    with pytest.raises(BadInput, match=r"records\.jsonl, line 2: not a record"):
        read_records(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadInput, match="line 1: not a record but damaged text"):
        read_records(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_records(tmp_path)


def test_plain_values_are_those_that_come_back() -> None:
    """A tuple would come back as a list, and the record would not equal itself."""
    assert plain({"hidden": (1, (2,)), "step": None}) == {"hidden": [1, [2]], "step": None}
