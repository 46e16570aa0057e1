"""A batch asked of a server in parts: repeats left out, answers put together again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from trustml.contracts import Domain, Interface
from trustml.errors import MethodFailed
from trustml.targets._face import Found, trials
from trustml.targets._http import Client


def asked(client: Client, x: Tensor, one: Callable[[Tensor], Any]) -> Any:
    """Return scores (B, K) or labels for x (B, …), each part by `one`.

    Rows at the end that repeat the last one, with which the harness fills a block, are asked once.

    Raises:
        BudgetSpent: x holds more inputs than the budget has left.
        MethodFailed: the server fails, or answers one part otherwise than another.
    """
    rows = _distinct(x.detach().cpu())
    said = _joined(client.ask(rows, one))
    lacking = len(x) - len(rows)
    if isinstance(said, Tensor):
        return said[[*range(len(rows)), *[-1] * lacking]].to(x.device, x.dtype)
    return [*said, *said[-1:] * lacking]


def taken(found: Found, client: Client, domain: Domain | None, interface: Interface) -> Found:
    """Return the served model with the shape that it takes: the data's, or else all in one row.

    Raises:
        MethodFailed: it takes neither.
    """
    if found.shape is not None or interface.input_shape is not None or domain is None:
        return found
    with client.hurried():
        try:
            found.body(trials(found, domain, interface)[:1])
            return found
        except MethodFailed as error:
            if len(domain.shape) == 1:
                raise
            flat = replace(
                found,
                shape=(math.prod(domain.shape),),
                notes=(*found.notes, "the server takes inputs as one row of numbers each"),
            )
            try:
                flat.body(trials(flat, domain, interface)[:1])
            except MethodFailed:
                raise MethodFailed(
                    f"{error}. It takes neither inputs of the data's shape {domain.shape} nor one "
                    f"row of numbers: say input_shape="
                ) from error
            return flat


def _distinct(x: Tensor) -> Tensor:
    """Return x without the repeats of its last row."""
    if len(x) < 2:
        return x
    other = (x[:-1] != x[-1:]).flatten(1).any(1)
    return x[: int(other.nonzero()[-1]) + 2] if bool(other.any()) else x[:1]


def _joined(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Tensor) for part in parts):
        if len({part.shape[1:] for part in parts}) > 1:
            raise MethodFailed(
                "the server answers other numbers of classes from request to request"
            )
        return torch.cat(list(parts))
    if any(isinstance(part, Tensor) for part in parts):
        raise MethodFailed("the server answers scores to one request and labels to another")
    return [label for part in parts for label in part]
