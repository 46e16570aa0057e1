"""Records ↔ JSON lines. `from_line(to_line(record)) == record`, always."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from trustml.contracts import Cost, Json, Record, Score, Status
from trustml.errors import BadInput

Facts = dict[str, Any]


def _with_surrogates(facts: Facts) -> Facts:
    """Return facts of schema 1 as of schema 2: attacks saw no model but the examined one."""
    return {**facts, "surrogates": facts.get("surrogates", {})}


# Schema → what makes a record of it one of the next. A record of any of them can be read.
UPGRADES: dict[int, Callable[[Facts], Facts]] = {1: _with_surrogates}
SCHEMA = max(UPGRADES) + 1
_TYPES: dict[type, tuple[str, ...]] = {
    str: (
        "case", "kind", "plugin", "model", "weights", "data", "data_hash", "status", "reason",
        "samples",
    ),
    int: ("seed", "schema"),
    dict: ("options", "threat", "scores", "cost", "place", "surrogates"),
    list: ("notes",),
}  # fmt: skip


def to_line(record: Record) -> str:
    """Return the record as one line of JSON, without the line's end."""
    # ASCII: a reason may hold any character, and some of them end a line.
    return json.dumps(asdict(record), allow_nan=False)


def from_line(line: str) -> Record:
    """Return the record of a line.

    Raises:
        BadInput: the line is not JSON, not a record, or of a schema that this version cannot read.
    """
    try:
        facts = _upgraded(json.loads(line))
        _check_types(facts)
        facts["scores"] = {name: Score(**score) for name, score in facts["scores"].items()}
        facts["cost"] = Cost(**facts["cost"])
        facts["notes"] = tuple(facts["notes"])
        return Record(**{field.name: facts[field.name] for field in fields(Record)})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"not a record: {line[:60]!r} ({type(error).__name__}: {error})") from error


def plain(values: Json) -> Json:
    """Return the values as they come back from JSON: tuples are lists."""
    return json.loads(json.dumps(values))


def read_records(path: Path) -> list[Record]:
    """Return the last record of each case of a file, in the order in which the cases first came.

    Raises:
        BadInput: the file cannot be read, or a complete line of it is not a record.
    """
    return list({record.case: record for record in read_history(path)}.values())


def read_history(path: Path) -> list[Record]:
    """Return every record of a file; a last line that a kill cut short is left out.

    Raises:
        BadInput: the file cannot be read, or a complete line of it is not a record.
    """
    if not path.exists():
        return []
    try:
        *whole, _ = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    records = []
    for number, line in enumerate(whole, 1):
        try:
            records.append(from_line(line.decode()))
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}, line {number}: not a record but damaged text") from error
        except BadInput as error:
            raise BadInput(f"{path}, line {number}: {error}") from error
    return records


def _upgraded(facts: Facts) -> Facts:
    """Return the facts of a record as of today's schema.

    Raises:
        BadInput: they are of a schema that is not known.
    """
    schema = facts["schema"]
    if type(schema) is not int:
        raise TypeError(f"schema is {schema!r}")
    if schema > SCHEMA:
        raise BadInput(
            f"this record has schema {schema}, from a newer trustml; this one reads up to {SCHEMA}:"
            f" upgrade it (pip install --upgrade trustml)"
        )
    if schema < min(UPGRADES):
        raise BadInput(
            f"this record has schema {schema}; there is none before {min(UPGRADES)}: the file is "
            f"damaged, or not trustml's"
        )
    for number in range(schema, SCHEMA):
        facts = {**UPGRADES[number](facts), "schema": number + 1}
    return facts


def _check_types(facts: dict[str, Any]) -> None:
    for kind, names in _TYPES.items():
        for name in names:
            if type(facts[name]) is not kind:
                raise TypeError(f"{name} is {facts[name]!r}")
    if facts["status"] not in get_args(Status):
        raise ValueError(f"status is {facts['status']!r}")
    for name, score in facts["scores"].items():
        if any(type(score[part]) not in (int, float) for part in ("value", "low", "high")):
            raise TypeError(f"{name} is {score!r}")
