"""What an exported program may hold: tensors and a graph of known operations, no code.

Loading one would run pickles, call any function that a node names, and evaluate expressions of
sizes: a file from elsewhere can hide code in each. So the archive is read first, as bytes.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trustml.errors import BadInput

_CALLS = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|torch\._?sym_\w+|math\.\w+"
    r"|_operator\.(add|sub|mul|neg|eq|ne|lt|le|gt|ge|mod|floordiv|truediv|pow|getitem|and_|or_)"
)
_NAME = re.compile(r"[\w.:\-/ ]*")
# Of an expression of sizes: symbols, numbers, and functions that only compute.
_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORDS = re.compile(
    r"[suz]\w*\d+|FloorDiv|CeilDiv|CleanDiv|PythonMod|Mod|ModularIndexing|Max|Min|Where|True|False"
    r"|CeilToInt|FloorToInt|TruncToInt|ToFloat|IntTrueDiv|PowByNatural|Integer|oo|int_oo"
)
# Texts that nothing reads as code: where a node comes from, and the guards, which are not built.
_TOLD = {"metadata", "guards_code", "in_spec", "out_spec", "torch_version", "verifiers"}


def check_archive(content: bytes, file: Path) -> None:
    """Check that nothing in the archive would run when it is loaded.

    Raises:
        BadInput: something would, or it is no archive of torch.export.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if not any(name.endswith("/archive_format") for name in names):
            raise BadInput(
                f"{file} is no exported program of this format: write it by torch.export.save"
            )
        for name in names:
            if "/aotinductor/" in name or name.endswith((".so", ".dll", ".cubin")):
                raise BadInput(f"{file} holds compiled code ({name}): export it without compiling")
            if "/models/" in name and name.endswith(".json"):
                _check_graph(json.loads(archive.read(name)), file)
            elif name.endswith("_config.json"):
                _check_payloads(json.loads(archive.read(name)), file)


def _check_payloads(config: Any, file: Path) -> None:
    """Refuse payloads other than tensors."""
    for told in (config.get("config") or {}).values():
        path = str(told.get("path_name", ""))
        if not path.startswith(("weight_", "tensor_")):
            raise BadInput(f"{file} holds an object ({path}) that would be unpickled; it was not")


def _check_graph(graph: Any, file: Path) -> None:
    """Refuse calls and expressions that could do anything but compute."""
    for key, text in _texts(graph):
        if key == "target":
            good = _CALLS.fullmatch(text) or (_NAME.fullmatch(text) and not _reaches_out(text))
        elif key == "expr_str":
            good = _computes(text)
        else:
            good = _NAME.fullmatch(text)
        if not good:
            raise BadInput(
                f"{file} has {text[:60]!r} in its graph, which is none of the operations that a "
                f"network computes with; it was not loaded"
            )


def _reaches_out(text: str) -> bool:
    """Return whether a call's name would be looked up in a module."""
    return text.startswith(("torch", "_operator", "math", "#"))


def _computes(expression: str) -> bool:
    rest = _SYMBOL.sub("1", expression)
    if not re.fullmatch(r"[\w+\-*/%(), .<>=]*", rest) or re.search(
        r"[A-Za-z_)]\s*\.|\.\s*[A-Za-z_]", rest
    ):
        return False
    return all(_WORDS.fullmatch(word) for word in _WORD.findall(re.sub(r"\b\d[\w.]*", "1", rest)))


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with the name that it has; names of parts are texts, too."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield "", name
            if name not in _TOLD:
                yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)
