"""JSON answers → scores (B, K) or labels; and the little path language that finds them."""

import re
from typing import Any

import torch
from torch import Tensor

from trustml.errors import BadInput, MethodFailed

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+|\*)\]|\['([^']+)'\]")


def scores_or_labels(value: Any, count: int, where: str) -> Tensor | list[str | int]:
    """Return the answers to `count` inputs: a tensor (B, K) or (B,) of scores, or labels.

    Rows of numbers are scores; a row that maps names to numbers is read in the names' order; whole
    numbers alone, and texts, are labels.

    Raises:
        MethodFailed: it is something else, not for so many inputs, or not finite.
    """
    if isinstance(value, dict) and value:  # a table by columns
        value = [dict(zip(value, row, strict=True)) for row in _columns(value, where)]
    if not isinstance(value, list) or len(value) != count:
        shown = f"{len(value)} answers" if isinstance(value, list) else type(value).__name__
        raise MethodFailed(f"{where}: expected {count} answers, and there is {shown}")
    if all(isinstance(row, dict) for row in value):
        names = sorted(value[0])
        if any(sorted(row) != names for row in value):
            raise MethodFailed(f"{where}: the answers name other classes from row to row")
        value = [[row[name] for name in names] for row in value]
    if all(isinstance(row, str) or _is_whole(row) for row in value):
        return list(value)
    try:
        scores = torch.tensor(value, dtype=torch.float64)
    except (ValueError, TypeError) as error:
        raise MethodFailed(f"{where}: neither rows of numbers nor labels ({error})") from error
    if not bool(scores.isfinite().all()):
        raise MethodFailed(f"{where}: an answer is NaN or infinity")
    if scores.dim() > 2:
        raise MethodFailed(f"{where}: answers of shape {tuple(scores.shape[1:])}, not one row each")
    return scores


def class_names(value: Any) -> tuple[str, ...]:
    """Return the names of the classes where the answers carry them, in the order of the scores."""
    row = value[0] if isinstance(value, list) and value else value
    return tuple(sorted(row)) if isinstance(row, dict) else ()


def found_at(value: Any, path: str) -> Any:
    """Return what lies at a path such as `$.result[0].scores` or `$.rows[*].label`.

    Raises:
        MethodFailed: nothing lies there.
    """
    for step in steps(path):
        if step == "*":
            rest = path.partition("[*]")[2]
            if not isinstance(value, list):
                raise MethodFailed(f"no list at [*] of {path} in the answer")
            return [found_at(part, "$" + rest) for part in value]
        if isinstance(step, int):
            known = isinstance(value, list) and step < len(value)
        else:
            known = isinstance(value, dict) and step in value
        if not known:
            there = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise MethodFailed(
                f"nothing at {step!r} of {path} in the answer; there is {there[:100]}"
            )
        value = value[step]
    return value


def steps(path: str) -> list[str | int]:
    """Return the steps of a path.

    Raises:
        BadInput: it is none.
    """
    rest, found = path.removeprefix("$"), list[str | int]()
    while rest:
        step = _STEP.match(rest)
        if not path.startswith("$") or step is None:
            raise BadInput(f"{path!r} is no path into an answer, such as $.scores or $.rows[*].p")
        name = step[1] or step[3]
        found.append(name if name else "*" if step[2] == "*" else int(step[2]))
        rest = rest[step.end() :]
    return found


def _columns(table: dict[str, Any], where: str) -> list[tuple[Any, ...]]:
    columns = list(table.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise MethodFailed(f"{where}: a table whose columns are not equally long")
    return list(zip(*columns, strict=True))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
