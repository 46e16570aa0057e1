"""A table of one's own, in a csv file."""

import numpy as np

from trustml.contracts import Dataset
from trustml.data._budgets import column_budgets
from trustml.data._outside import partners_of
from trustml.data._parts import Shares, class_order, joined, training_rows
from trustml.data._places import own_path
from trustml.data._table import Table, read_table
from trustml.errors import BadInput, BadOption
from trustml.registry import data
from trustml.splits import check_dataset


@data(source="the user's own files")
def csv(
    *,
    folder: str | None,
    path: str = "",
    label: str = "label",
    test_path: str | None = None,
    delimiter: str = ",",
    validation: float = 0.1,
    test: float = 0.2,
) -> Dataset:
    """Return the rows (D,) of a csv file, each column scaled into [0, 1] by the training rows.

    Validation and test rows beyond the training rows' range are moved to the box's edge.

    Args:
        folder: where a relative path is looked for after the current folder.
        path: the file; its first line names the columns, all numbers but the label.
        label: the column of the class.
        test_path: a second file with the test rows; none cuts them from the first.
        delimiter: what stands between two cells; "tab" for a tab.
        validation: share of the rows kept for validation.
        test: share of the rows kept for the test where there is no second file.

    Raises:
        BadOption: no path, a delimiter of several letters, or shares that cannot be had.
        UnknownName: no such column.
        BadInput: a file that is nowhere or damaged, a cell that is no number (row and column are
            named), fewer than two classes, or test rows of other columns or classes.
    """
    delimiter = {"tab": "\t", "comma": ",", "semicolon": ";"}.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise BadOption(f"csv:delimiter={delimiter!r} is not one letter, tab, comma or semicolon")
    tables = {"train": read_table(own_path("csv", path, folder), label, delimiter)}
    if test_path:
        tables["test"] = read_table(own_path("csv", test_path, folder), label, delimiter)
        tables["test"] = _in_order(tables["test"], tables["train"].columns, test_path)
    names = class_order(set(tables["train"].classes))
    if len(names) < 2:
        raise BadInput(f"{path}: every row has the label {names[0]!r}; wanted 2 classes or more")
    labels = {part: _labels(table, names, test_path) for part, table in tables.items()}
    shares = Shares(validation, test)
    counts = {part: len(numbers) for part, numbers in labels.items()}
    fit = tables["train"].values[training_rows(counts, "csv", shares)]
    parts = {part: (_scaled(table.values, fit), labels[part]) for part, table in tables.items()}
    train, held, tested = joined(parts, "csv", shares, len(names))
    budgets = column_budgets(len(tables["train"].columns))
    outside = partners_of(tested, (), folder)
    return check_dataset(Dataset("csv", train, held, tested, tuple(names), budgets, outside))


def _scaled(values: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return values (B, D) with the range of `fit` as [0, 1]; a column of one value becomes 0."""
    least, width = fit.min(0), np.ptp(fit, axis=0)
    return np.clip((values - least) / np.where(width > 0, width, 1), 0, 1)


def _labels(table: Table, names: list[str], test_path: str | None) -> np.ndarray:
    number = {name: place for place, name in enumerate(names)}
    strange = sorted(set(table.classes) - number.keys())
    if strange:
        raise BadInput(f"{test_path}: no training row has the label {strange[0]!r}")
    return np.array([number[name] for name in table.classes])


def _in_order(table: Table, columns: tuple[str, ...], path: str) -> Table:
    """Return the table with its columns in the given order."""
    if set(table.columns) != set(columns):
        odd = sorted(set(table.columns) ^ set(columns))
        raise BadInput(f"{path}: its columns differ from the training file's: {', '.join(odd)}")
    order = [table.columns.index(name) for name in columns]
    return Table(columns, table.values[:, order], table.classes)
