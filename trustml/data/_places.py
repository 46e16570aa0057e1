"""Where data files are looked for: the given folder, TRUSTML_DATA, then trustml's own cache."""

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from trustml.errors import BadInput, BadOption


def places(folder: str | None) -> dict[str, Path]:
    """Return the folders that are searched, in order, each under the words that tell whence it is.

    Raises:
        BadInput: `folder` is given and is not a folder.
    """
    found: dict[str, Path] = {}
    if folder:
        found["--data-dir"] = Path(folder).expanduser()
        if not found["--data-dir"].is_dir():
            raise BadInput(f"--data-dir {folder}: no such folder")
    if os.environ.get("TRUSTML_DATA"):
        found["TRUSTML_DATA"] = Path(os.environ["TRUSTML_DATA"]).expanduser()
    found["cache"] = cache()
    return found


def cache() -> Path:
    """Return the folder that downloads go to; nothing is written to any other."""
    root = os.environ.get("TRUSTML_CACHE") or platformdirs.user_cache_dir("trustml")
    return Path(root).expanduser() / "data"


def find(folder: str | None, names: Iterable[str]) -> Path | None:
    """Return the first place's first of `names` (relative paths) that exists, or None.

    Raises:
        BadInput: `folder` is given and is not a folder.
    """
    wanted = list(names)
    for place in places(folder).values():
        for name in wanted:
            if os.path.exists(place / name):  # a folder that may not be read has nothing for us
                return place / name
    return None


def searched(folder: str | None) -> str:
    """Return the places as one phrase for a message, saying which do not exist."""
    return ", ".join(
        f"{name} {place}" + ("" if place.is_dir() else " (no such folder)")
        for name, place in places(folder).items()
    )


def own_path(owner: str, path: str, folder: str | None) -> Path:
    """Return the file or folder that a user's `path` option names.

    A relative path is looked for where the program runs, then in the usual places.

    Raises:
        BadOption: `path` is empty.
        BadInput: there is nothing there.
    """
    if not path:
        raise BadOption(f"{owner} needs a path: {owner}:path=…")
    given = Path(path).expanduser()
    if given.exists():
        return given
    inside = None if given.is_absolute() else find(folder, [path])
    if inside is None:
        where = "" if given.is_absolute() else f"; looked in {Path.cwd()}, {searched(folder)}"
        raise BadInput(f"{owner}:path={path}: no such file or folder{where}")
    return inside
