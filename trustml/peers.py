"""What the attacks of other libraries are called here, from one table: peers.toml."""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from trustml.errors import UnknownName

TABLE = Path(__file__).with_name("peers.toml")
# How people import them.
_CALLED = {
    "fb": "foolbox", "adversarial_robustness_toolbox": "art", "adversarial_library": "adv_lib",
    "advlib": "adv_lib", "ta": "torchattacks", "aa": "autoattack", "auto_attack": "autoattack",
    "paper": "papers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Likeness:
    """An attack of another library: what to name here, or why there is none.

    Args:
        library: as it is imported; "papers" for methods by the names of their papers.
        name: in that library.
        use: name and options of the plugin, or "".
        kind: of that plugin.
        norm: for `--norm`, where theirs is fixed to one.
        words: further options of `trustml bench`.
        note: what differs.
        none: why there is none, or "".
        near: what comes nearest then.
    """

    library: str
    name: str
    use: str = ""
    kind: str = "attack"
    norm: str = ""
    words: str = ""
    note: str = ""
    none: str = ""
    near: str = ""

    @property
    def command(self) -> str:
        """The command that runs it, or nothing."""
        if not self.use:
            return ""
        words = [
            f"--{self.kind} {self.use}",
            f"--norm {self.norm}" if self.norm else "",
            self.words,
        ]
        return " ".join(["trustml bench", *(word for word in words if word)])

    @property
    def remark(self) -> str:
        """What differs, or why there is none and what comes nearest."""
        if self.use:
            return self.note
        return f"none: {self.none}" + (f"; nearest: {self.near}" if self.near else "")


def libraries() -> dict[str, list[Likeness]]:
    """Return every library's attacks, in the order of the table."""
    return {library: list(entries) for library, entries in _table().items()}


def like(text: str) -> list[Likeness]:
    """Return what `foolbox.LinfPGD`, `LinfPGD` or all of `foolbox` are called here.

    Raises:
        UnknownName: no library, or no attack in it, of that name.
    """
    table = _table()
    first, *rest = text.strip().split(".")
    library = _library(first)
    if not rest and library in table:
        return list(table[library])
    if rest and library not in table:
        raise UnknownName.of("library", first, table)
    wanted = _plain(rest[-1] if rest else first)
    near = [library] if rest else list(table)
    found = [e for name in near for e in table[name] if _plain(e.name) == wanted]
    if not found:
        raise UnknownName(_unknown(rest[-1] if rest else first, near, library if rest else ""))
    return found


def _unknown(name: str, near: list[str], library: str) -> str:
    """Return the line that names the nearest: all two hundred names would say little."""
    known = {_plain(e.name): e.name for one in near for e in _table()[one]}
    close = get_close_matches(_plain(name), known, n=3, cutoff=0.5)
    close += [key for key in known if _plain(name) in key and key not in close][:3]
    guess = f"; did you mean {' or '.join(repr(known[key]) for key in close)}?" if close else "."
    where = library or "LIBRARY"
    given = f"of {library} " if library else f"of {', '.join(near)} "
    return f"no attack {given}named {name!r}{guess} All: trustml list attacks --like {where}"


@cache
def _table() -> dict[str, tuple[Likeness, ...]]:
    parts = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        library: tuple(Likeness(library, name, **facts) for name, facts in entries.items())
        for library, entries in parts.items()
    }


def _library(text: str) -> str:
    plain = text.lower().replace("-", "_")
    return _CALLED.get(plain, plain)


def _plain(name: str) -> str:
    """Return the name as those compare who do not remember its capitals."""
    return name.lower().replace("_", "").replace("-", "")
