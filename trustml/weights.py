"""A module's weights: their hash, and files that hold them, which are never run."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from trustml.errors import BadInput

Weights = Mapping[str, Tensor]
BODY = "body."


def weights_hash(module: nn.Module) -> str:
    """Return the SHA-256 over the names, types, shapes and bytes of the state dict, by name.

    A deployed model says its own: that of its file, which a person can check.
    """
    if isinstance(digest := getattr(module, "digest", None), str):
        return digest
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        bare = plain(tensor)
        digest.update(f"{name}|{bare.dtype}|{tuple(bare.shape)}|".encode())
        digest.update(bare.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a .safetensors, .pt or .pth file of tensors into the module; no code in it is ever run.

    Names may lack the module's leading `body.`, as those of a plain `nn.Sequential` do; the whole
    may lie under the key `state_dict`, or under another one, beside what else was saved, if no
    other value is a dictionary of tensors.

    Raises:
        BadInput: no such file, not a file of tensors, values that are not finite, or the weights
            of another model.
    """
    found = _read_weights(Path(path).expanduser())
    wanted = module.state_dict()
    if not set(found) & set(wanted) and any(name.startswith(BODY) for name in wanted):
        found = {BODY + name: tensor for name, tensor in found.items()}
    _check_weights(found, wanted, str(path))
    module.load_state_dict(found)


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor on the CPU with memory of its own, in one piece."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _read_weights(path: Path) -> Weights:
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise BadInput(f"weights {path}: the name must end in .safetensors, .pt or .pth")
    try:
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        with warnings.catch_warnings():
            # It warns of odd pickles before it refuses them: one line is enough.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadInput(f"weights {path}: no such file") from error
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"weights {path}: it holds more than tensors, which could run code, or is damaged; "
            f"save it again with torch.save(model.state_dict(), path)"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"weights {path}: the file cannot be read ({reason})") from error
    return _weights_in(content, path)


def _weights_in(content: object, path: Path) -> Weights:
    """Return the names and tensors of what a file holds, or of the one place in it that has some.

    Raises:
        BadInput: there are none, or several.
    """
    if _are_weights(content):
        return cast(Weights, content)
    held = content if isinstance(content, dict) else {}
    if _are_weights(held.get("state_dict")):
        return cast(Weights, held["state_dict"])
    places = [str(key) for key, value in held.items() if _are_weights(value)]
    if len(places) == 1:
        return cast(Weights, next(value for value in held.values() if _are_weights(value)))
    keys = ", ".join(map(str, held))
    if places:
        raise BadInput(
            f"weights {path}: {' and '.join(places)} hold tensors each, and only one can be the "
            f"model's: save that alone, torch.save(torch.load({path.name!r})[{places[0]!r}], "
            f"'weights.pt')"
        )
    raise BadInput(
        f"weights {path}: it must hold a state_dict, names with their tensors"
        + (f"; it holds {keys}" if keys else "")
    )


def _are_weights(value: object) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in value.items())
    )


def _check_weights(found: Weights, wanted: Weights, path: str) -> None:
    """Refuse weights of another model.

    Raises:
        BadInput: naming what is missing, unexpected, of another shape or not finite.
    """
    problems = []
    if missing := [name for name in wanted if name not in found]:
        problems.append(f"missing {_some(missing)}")
    if unexpected := [name for name in found if name not in wanted]:
        problems.append(f"unexpected {_some(unexpected)}")
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {_some(shapes)}")
    if odd := [n for n, t in found.items() if t.is_floating_point() and not t.isfinite().all()]:
        problems.append(f"values that are not finite in {_some(odd)}")
    if problems:
        raise BadInput(
            f"weights {path} are not of this model: {'; '.join(problems)}; "
            f"give the model the options that the file was made with"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
