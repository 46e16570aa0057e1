"""Records ↔ JSON lines. `from_line(to_line(record)) == record`, always."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from trustml.contracts import Cost, Record, Score
from trustml.errors import BadInput

SCHEMA = 1


def to_line(record: Record) -> str:
    """Return the record as one line of JSON, without the line's end."""
    return json.dumps(asdict(record), ensure_ascii=False, allow_nan=False)


def from_line(line: str) -> Record:
    """Return the record of a line.

    Raises:
        BadInput: the line is not JSON, not a record, or of a schema newer than this version.
    """
    try:
        facts = json.loads(line)
        if facts["schema"] > SCHEMA:
            raise BadInput(
                f"the record has schema {facts['schema']}, newer than {SCHEMA}: upgrade trustml"
            )
        facts["scores"] = {name: Score(**score) for name, score in facts["scores"].items()}
        facts["cost"] = Cost(**facts["cost"])
        facts["notes"] = tuple(facts["notes"])
        return Record(**{field.name: facts[field.name] for field in fields(Record)})
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"not a record: {line[:60]!r} ({type(error).__name__}: {error})") from error


def to_lines(records: Iterable[Record]) -> str:
    """Return the records as text, a line each."""
    return "".join(to_line(record) + "\n" for record in records)


def read_records(path: Path) -> list[Record]:
    """Return the records of a file; a last line that a kill cut short is left out.

    Raises:
        BadInput: a complete line that is not a record.
    """
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [from_line(line) for line in whole.splitlines()]
