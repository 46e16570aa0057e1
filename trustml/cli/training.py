"""`trustml train`: fit a model, say how well it reads, draw its training figure."""

from pathlib import Path

import click


def print_training(
    model: str, out: Path | None, *, data: str, seed: int, device: str,
    data_dir: str | None, plugins: tuple[str, ...], fresh: bool,
) -> None:  # fmt: skip
    """Train, print test accuracy and where figure and weights lie.

    Raises:
        TrustError: names, options, data or training that fail.
    """
    raise NotImplementedError
