"""Lines for a person's eyes: at most 100 columns wide, or as wide as a narrower terminal."""

import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

_WIDEST, _NARROWEST = 100, 40


def say(text: str, hang: int = 2) -> None:
    """Print a text; what does not fit into its first line hangs below, so far to the right."""
    click.echo(_wrapped(text, hang, sys.stdout.isatty()))


def say_error(text: str) -> None:
    """Print an error on stderr: wrapped on a terminal, one line where a program or a log reads."""
    line = f"Error: {' '.join(text.split())}"
    click.echo(_wrapped(line, 2, True) if sys.stderr.isatty() else line, err=True)


def say_command(label: str, words: Sequence[str]) -> None:
    """Print a label and a command, which may be copied whole, on lines that a shell joins."""
    lines = [""]
    for part in _options(words):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > _WIDEST - 4:
            lines.append("")
        lines[-1] += f" {part}" if lines[-1] else part
    click.echo(f"{label}:\n  " + " \\\n    ".join(lines))


def _wrapped(text: str, hang: int, terminal: bool) -> str:
    # A path or a command is not cut: it is copied.
    return textwrap.fill(
        text, _width(terminal), subsequent_indent=" " * hang, break_long_words=False,
        break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip


def _width(terminal: bool) -> int:
    columns = shutil.get_terminal_size((_WIDEST, 24)).columns if terminal else _WIDEST
    return max(_NARROWEST, min(_WIDEST, columns))


def _options(words: Sequence[str]) -> list[str]:
    """Return the words with each option and its value as one part."""
    parts: list[str] = []
    for word in map(shlex.quote, words):
        option = parts and parts[-1].startswith("--") and " " not in parts[-1]
        if option and not word.startswith("--"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts
