"""CSV files with a header → columns of finite numbers and one column of class names."""

from csv import Error, reader
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trustml.errors import BadInput, UnknownName


@dataclass(frozen=True, slots=True)
class Table:
    """Names of the feature columns (D), values (B, D) float64, class names of the rows (B)."""

    columns: tuple[str, ...]
    values: np.ndarray
    classes: tuple[str, ...]


def read_table(path: Path, label: str, delimiter: str = ",") -> Table:
    """Return the file's table; empty lines are passed over.

    Raises:
        UnknownName: there is no column `label`.
        BadInput: it cannot be read, has no rows or no features, a row is too long or too short, or
            a feature is not a finite number; row (the file's line) and column are named.
    """
    lines = _lines(path, delimiter)
    if len(lines) < 2:
        raise BadInput(f"{path}: wanted a line of column names and rows below it; it has no rows")
    _, header = lines[0]
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInput(f"{path}: two columns are named {twice!r}")
    if label not in header:
        raise UnknownName.of(f"column of {path}", label, header)
    if len(header) < 2:
        raise BadInput(f"{path}: no column beside the label {label!r}")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise BadInput(f"{path}: row {number} has {len(row)} cells, the header {len(header)}")
    place = header.index(label)
    columns = tuple(name for name in header if name != label)
    cells = [row[:place] + row[place + 1 :] for _, row in lines[1:]]
    numbers = [number for number, _ in lines[1:]]
    classes = tuple(row[place].strip() for _, row in lines[1:])
    if "" in classes:
        raise BadInput(f"{path}: row {numbers[classes.index('')]} has no label in column {label!r}")
    return Table(columns, _values(cells, numbers, columns, path), classes)


def _lines(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return each line that is not empty, with its number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = reader(file, delimiter=delimiter, strict=True)
            return [(rows.line_num, row) for row in rows if row]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except (OSError, Error) as error:
        raise BadInput(f"{path}: cannot be read as csv: {error}") from error


def _values(
    cells: list[list[str]], numbers: list[int], columns: tuple[str, ...], path: Path
) -> np.ndarray:
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.array([[_number(cell) for cell in row] for row in cells])
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise BadInput(
            f"{path}: row {numbers[row]}, column {columns[column]!r}: "
            f"{cells[row][column]!r} is not a finite number"
        )
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
