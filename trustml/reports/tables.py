"""What the tables on a terminal share: width, labels, remarks, numbers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

from rich import box
from rich.console import Console, RenderHook
from rich.table import Table
from rich.text import Text

from trustml.contracts import Json, Record
from trustml.options import split_spec, write
from trustml.recipes import split_recipe
from trustml.registry import names
from trustml.reports.fitting import fitted

WIDTH, NARROW = 100, 60
DASH = "–"
Spec = tuple[str, Mapping[str, Json]]
# Options of targets that say where the model is.
_PLACES = ("path", "url", "factory", "name")


def console() -> Console:
    """Return a console on stdout that is as wide as the screen, but for 60 to 100 columns.

    What is wider is told in several tables (`fitted`).
    """
    own = Console()
    known = own.is_terminal or "COLUMNS" in os.environ
    width = max(NARROW, min(WIDTH, own.width)) if known else WIDTH
    # Names and paths may hold square brackets and colons; they are no markup.
    screen = Console(width=width, highlight=False, markup=False, emoji=False)
    hook = SimpleNamespace(process_renderables=lambda parts: fitted(parts, width))
    screen.push_render_hook(cast(RenderHook, hook))
    return screen


def plain_table(title: str, first: str, columns: Sequence[str]) -> Table:
    """Return an empty table with a name column and columns of numbers."""
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column(first, min_width=12, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.caption_justify = "left"
    return table


def apart(specs: Sequence[Spec]) -> list[str]:
    """Return each name, with the options in which it differs from others of that name."""
    found = []
    for name, options in specs:
        others = [other for one, other in specs if one == name]
        differ = [key for key in options if any(other.get(key) != options[key] for other in others)]
        words = [f"{key}={_word(options[key])}" for key in differ]
        found.append(f"{name}:{','.join(words)}" if words else name)
    return found


def spec_of(recipe: str) -> Spec:
    """Return the name of a recipe, and all options in it as text.

    A deployed model is called by its file, its function or its server.
    """
    parts = [split_spec(part) for part in split_recipe(recipe)]
    name = "+".join(_called(name, raw) for name, raw in parts)
    return name, {key: value for _, raw in parts for key, value in raw.items()}


def _called(name: str, raw: Mapping[str, str]) -> str:
    place = next((raw[key] for key in _PLACES if key in raw), "").strip('"')
    if name not in names("target") or not place:
        return name
    if "://" not in place:
        # A function stands behind its file: make.py:build.
        return place.replace("\\", "/").rstrip("/").rpartition("/")[2] or place
    parts = urlsplit(place)
    _, _, served = parts.path.partition("/models/")
    server = parts.netloc.rpartition("@")[2]
    return f"{served.split('/')[0]} at {server}" if served else server


def remarks(group: Sequence[Record], labels: Sequence[str]) -> Iterator[Text]:
    """Yield reasons and notes, each once, with the rows that it is about."""
    about: dict[tuple[str, str], list[str]] = {}
    for record, label in zip(group, labels, strict=True):
        for remark in [*([record.reason] if record.reason else []), *record.notes]:
            word: str = record.status if remark == record.reason else "note"
            about.setdefault((word, remark), []).append(label.split("\n")[0])
    most = sum(record.plugin not in ("all", "certificate") for record in group)
    for (word, remark), rows in about.items():
        line = f"{word}: {remark}" if len(rows) >= most else f"{word}: {', '.join(rows)}: {remark}"
        yield Text(line, style="yellow")


def number(value: float) -> str:
    """Return three digits, two below 1."""
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def percent(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f} %"


def _word(value: Json) -> str:
    return value if isinstance(value, str) else write(value)
