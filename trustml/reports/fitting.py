"""Tables as they fit a screen: too many columns are told in several tables, no figure is cut."""

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import ConsoleRenderable
from rich.table import Column, Table
from rich.text import Text

# Names are wrapped to so much before columns are told apart; a longer word than that is folded.
_NAMES, _WORD = (100, 24, 20, 16), 32
# What rich puts around a table and between two of its columns.
_EDGES, _BETWEEN = 2, 2


def fitted(parts: Iterable[ConsoleRenderable], width: int) -> list[ConsoleRenderable]:
    """Return what is to be shown, each table as one or more that are at most `width` wide.

    Title and caption stand above and below, so that they may be wider than their table.
    """
    return [shown for part in parts for shown in _shown(part, width)]


def _shown(part: ConsoleRenderable, width: int) -> Iterator[ConsoleRenderable]:
    if not isinstance(part, Table):
        yield part
        return
    title = str(part.title or "")
    for number, columns in enumerate(_groups(part.columns, width)):
        if title:
            yield Text(title + ", continued" * (number > 0), style="table.title")
        yield _of(part, columns, width)
    if part.caption:
        yield Text(str(part.caption), style="table.caption")


def _groups(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Return the columns in as few groups as can be, names folded as little as that takes."""
    ways = [_filled(columns, width, most) for most in _NAMES if most < width]
    return min(ways, key=len) if columns else [[]]


def _filled(columns: Sequence[Column], width: int, most: int) -> list[list[Column]]:
    """Return as many columns as have room beside the first one, then the next ones beside it."""
    name, *others = columns
    least = _EDGES + _least(name, most)
    groups, taken = [[name]], least
    for column in others:
        needs = _longest(column, bool(column.no_wrap)) + _BETWEEN
        if len(groups[-1]) > 1 and taken + needs > width:
            groups.append([name])
            taken = least
        groups[-1].append(column)
        taken += needs
    return groups


def _least(name: Column, most: int = 0) -> int:
    """Return how narrow names may be, that are wrapped where they are longer than `most`."""
    whole, word = (_longest(name, lines) for lines in (True, False))
    return max(min(whole, most), min(word, _WORD), name.min_width or 0)


def _longest(column: Column, lines: bool) -> int:
    """Return how long the longest line of a column is, or the longest word."""
    texts = [_plain(cell) for cell in (column.header, *column.cells)]
    pieces = (p for text in texts for p in (text.split("\n") if lines else text.split()))
    return max((cell_len(piece) for piece in pieces), default=0)


def _of(table: Table, columns: Sequence[Column], width: int) -> Table:
    """Return a table of some columns of another, without its title and caption."""
    part = Table(box=table.box, padding=table.padding, pad_edge=table.pad_edge)
    for column in columns:
        part.add_column(
            column.header, justify=column.justify, no_wrap=column.no_wrap,
            overflow=column.overflow, min_width=column.min_width,
        )  # fmt: skip
    name, *others = columns
    room = width - _EDGES - sum(_longest(column, True) + _BETWEEN for column in others)
    if _longest(name, True) > room:  # else rich takes from all that may be wrapped
        part.columns[0].width = max(room, _least(name))
    rows = zip(*(column.cells for column in columns), strict=True)
    for cells, row in zip(rows, table.rows, strict=True):
        part.add_row(*cells, end_section=row.end_section)
    return part


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
