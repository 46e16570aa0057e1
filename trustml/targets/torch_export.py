"""The target `torch_export`: a program that `torch.export.save` wrote, `model.pt2`."""

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput
from trustml.registry import target
from trustml.targets._exported_checks import check_archive
from trustml.targets._face import Found, file_at, file_hash, target_of

_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@target(source="PyTorch: torch.export, the PT2 archive", takes="path", looks=(r".+\.pt2",))
def torch_export(domain: Domain | None, interface: Interface, /, *, path: str = "") -> Target:
    """A program exported by torch.export, with gradients; its file is checked to run no code.

    Raises:
        BadInput: no such file, one of another kind, or one that would run code.
    """
    file = file_at(path)
    program = _loaded(file)
    shape = _input_shape(program, file)
    body = program.module(check_guards=False)
    fixed = None if isinstance(shape[0], torch.SymInt) else int(shape[0])
    sizes = tuple(None if isinstance(size, torch.SymInt) else int(size) for size in shape[1:])
    notes = () if fixed is None else (f"exported for batches of {fixed}: asked in these",)
    exported = _Exported(body, fixed)
    told = f"exported program {file}"
    return target_of(Found(exported, told, file_hash(file), sizes, notes=notes), domain, interface)


class _Exported(nn.Module):
    """An exported graph, which has no training mode, asked in batches of the size it takes."""

    def __init__(self, graph: nn.Module, batch: int | None) -> None:
        super().__init__()
        self.graph, self.batch = graph, batch

    def forward(self, x: Tensor) -> Any:
        """Return what the graph answers."""
        if self.batch is None:
            return self.graph(x)
        return in_batches(self.graph, x, self.batch)

    def train(self, mode: bool = True) -> "_Exported":
        """Stay as exported: a graph has one mode, and refuses to be put into another."""
        self.training = mode
        return self


def in_batches(graph: Any, x: Tensor, size: int) -> Tensor:
    """Return the answers (B, K) of a model that takes just `size` inputs at a time."""
    lacking = -len(x) % size
    if lacking:
        x = torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])])
    parts = [graph(part) for part in x.split(size)]
    bare = [part[0] if isinstance(part, tuple | list) else part for part in parts]
    return torch.cat(bare)[: len(x) - lacking]


def _loaded(file: Path) -> Any:
    """Return the exported program.

    Raises:
        BadInput: the file is none, or would run code.
    """
    try:
        content = file.read_bytes()
        check_archive(content, file)
        with _tensors_only():
            return torch.export.load(io.BytesIO(content))
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"{file} is no exported program ({error}): write it by "
                       f"torch.export.save") from error  # fmt: skip
    except pickle.UnpicklingError as error:
        raise BadInput(f"{file} holds a pickle that would run code; it was not run") from error
    except (RuntimeError, AssertionError, ValueError, KeyError, TypeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"{file} does not load in torch {torch.__version__} ({said}): export it again"
        ) from error


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let torch.load read tensors and nothing else, whatever its caller asks for."""
    before = os.environ.get(_ONLY)
    os.environ[_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ONLY]
        else:
            os.environ[_ONLY] = before


def _input_shape(program: Any, file: Path) -> tuple[Any, ...]:
    """Return the shape of the program's one input, with the batch.

    Raises:
        BadInput: it has several inputs, or one without a batch.
    """
    names = program.graph_signature.user_inputs
    held = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    if len(names) != 1 or not isinstance(held.get(names[0]), Tensor) or not held[names[0]].dim():
        raise BadInput(f"{file} takes {len(names)} inputs; a classifier takes one, (B, …)")
    return tuple(held[names[0]].shape)
