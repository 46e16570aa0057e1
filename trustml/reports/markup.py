"""HTML of one page that needs nothing else: tables that sort, pictures inside, light and dark."""

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape

from rich.table import Table
from rich.text import Text

# Colours have a contrast of at least 4.5 against their ground, in both schemes.
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --ground: #ffffff; --quiet: #57606a;
  --line: #d0d7de; --mark: #0a5299; --note: #7a4b00; --stripe: #f4f6f8;
  --bad: #b42318; --warn: #8a5300; --good: #1a6b37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --ground: #11151a; --quiet: #9ba7b4;
  --line: #333c46; --mark: #79b8ff; --note: #e3b341; --stripe: #1a2027;
  --bad: #ff9b90; --warn: #f0b95a; --good: #7ee2a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.2rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1.05rem; }
a { color: var(--mark); } nav ul { padding-left: 1.1rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .9em/1.45 ui-monospace, monospace; }
pre { background: var(--stripe); padding: .7rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; }
/* What is wider than the window has a shadow where it goes on. */
.wide { overflow-x: auto; margin: 1rem 0; background:
  linear-gradient(to right, var(--ground) 30%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--ground) 30%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to right, var(--line), transparent) left / 1rem 100% no-repeat,
  linear-gradient(to left, var(--line), transparent) right / 1rem 100% no-repeat; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: pre-line; vertical-align: top; }
.number { text-align: right; white-space: pre; }
tbody tr:nth-child(even) { background: var(--stripe); }
th button { all: unset; cursor: pointer; white-space: pre-line; }
th button:focus-visible { outline: 2px solid var(--mark); }
th[aria-sort] button::after { content: " ▾"; }
th[aria-sort=ascending] button::after { content: " ▴"; }
.small { color: var(--quiet); font-size: .9rem; white-space: pre-line; }
.note { color: var(--note); } .verdict { font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; } .warn { color: var(--warn); font-weight: 600; }
.good { color: var(--good); font-weight: 600; }
figure { margin: 1rem 0 1.8rem; overflow-x: auto; } figcaption { color: var(--quiet); }
figure img { max-width: 100%; height: auto; background: #ffffff; }
@media (max-width: 40rem) { dl { grid-template-columns: 7rem minmax(0, 1fr); }
  caption { max-width: calc(100vw - 2rem); } th, td { padding: .2rem .4rem; font-size: .9rem; }
  tbody th { position: sticky; left: 0; background: var(--ground); min-width: 7.5rem;
    overflow-wrap: anywhere; box-shadow: inset 0 -1px var(--line); } }
@media print { body { max-width: none; } nav, th button::after { display: none; }
  figure, table { break-inside: avoid; } .wide { overflow: visible; } }
"""

_READABLE = 560  # pixels of a picture at least, if it has as many

_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.title = "sort by this column";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text.replace(",", ""));
        return [Number.isNaN(number) ? null : number, text];
      };
      const compare = (a, b) => {
        const [m, s] = key(a), [n, t] = key(b);
        if (m === null || n === null)
          return m === n ? s.localeCompare(t) : m === null ? 1 : -1;
        return m - n;
      };
      const rows = [...body.rows].sort(compare);
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return the whole page; it asks for nothing from elsewhere, and no other script runs."""
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(title: str, anchor: str, parts: Iterable[str]) -> str:
    """Return a section with its heading, which links can name."""
    body = "\n".join(parts)
    return (
        f'<section aria-labelledby="{escape(anchor)}">\n'
        f'<h2 id="{escape(anchor)}">{escape(title)}</h2>\n{body}\n</section>'
    )


def contents(sections: Iterable[tuple[str, str]]) -> str:
    """Return the list of links to sections, each a title and an anchor."""
    links = "".join(
        f'<li><a href="#{escape(anchor)}">{escape(title)}</a></li>' for title, anchor in sections
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and what they are."""
    return f"<dl>{''.join(f'<dt>{_broken(n)}</dt><dd>{_broken(v)}</dd>' for n, v in pairs)}</dl>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; its kind is "", "small", "note", "verdict", "bad", "warn" or "good"."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def verbatim(text: str) -> str:
    """Return lines as they are, such as a command."""
    return f"<pre>{_broken(text)}</pre>"


def items(texts: Iterable[str]) -> str:
    """Return a plain list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def table(given: Table) -> str:
    """Return a terminal's table as one of the page: first column names, the others as aligned."""
    # A cell that is in a column aligned to the right is a number.
    kinds = [' class="number"' if c.justify == "right" else "" for c in given.columns]
    heads = "".join(
        f'<th scope="col"{kind}>{_words(column.header)}</th>'
        for column, kind in zip(given.columns, kinds, strict=True)
    )
    rows = "".join(
        f"<tr>{_row(cells, kinds)}</tr>"
        for cells in zip(*(column.cells for column in given.columns), strict=True)
    )
    caption = f"<caption>{_words(given.title)}</caption>" if given.title else ""
    # A terminal's lines end where they are full; those of the page only after a semicolon.
    said = re.sub(r"(?<!;)\n", " ", _words(given.caption)) if given.caption else ""
    below = f'<p class="small">{said}</p>' if said else ""
    name = _words(given.title or "table")
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{name}">'
        f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{below}"
    )


def picture(png: bytes, said: str, caption: str) -> str:
    """Return a picture inside the page; `said` is for those who cannot see it."""
    data = base64.b64encode(png).decode()
    # Smaller than this nobody can read it: on a telephone it is moved from side to side.
    wide = int.from_bytes(png[16:20]) or _READABLE
    return (
        f'<figure><img alt="{escape(said)}" style="min-width:{min(wide, _READABLE)}px" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _broken(text: str) -> str:
    """Return the text, to be broken after commas and in names before it is broken anywhere."""
    return re.sub("[,_+]", r"\g<0><wbr>", escape(text))


def _named(cell: object) -> str:
    """Return the name of a row; the spaces before a part of another row are kept."""
    text = _words(cell)
    inner = text.lstrip(" ")
    return "&emsp;" * (len(text) - len(inner) > 0) + re.sub("[,_+]", r"\g<0><wbr>", inner)


def _row(cells: tuple[object, ...], kinds: list[str]) -> str:
    first, *others = cells
    rest = "".join(
        f"<td{kind}>{_words(cell)}</td>" for cell, kind in zip(others, kinds[1:], strict=True)
    )
    return f'<th scope="row"{kinds[0]}>{_named(first)}</th>{rest}'


def _words(cell: object) -> str:
    return escape(cell.plain if isinstance(cell, Text) else str(cell))
