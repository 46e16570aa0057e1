"""The target `hugging_face`: a folder that `save_pretrained` wrote, of an image classifier."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, MissingPackage
from trustml.registry import target
from trustml.targets._face import Found, file_at, target_of
from trustml.targets._inputs import Declared

_WEIGHTS = ("*.safetensors", "*.bin")


@target(
    source="Hugging Face Transformers: AutoModelForImageClassification",
    takes="path",
    looks=(r".+/", r".+/config\.json"),
)
def hugging_face(domain: Domain | None, interface: Interface, /, *, path: str = "") -> Target:
    """An image classifier in a folder, with gradients; nothing is fetched, no code in it is run.

    Mean and spread are those of its preprocessor_config.json, class names those of its config. The
    model is asked about pictures of the data's size: they are not resized.

    Raises:
        BadInput: no such folder, no image classifier in it, or weights that would run code.
        MissingPackage: transformers is not installed.
    """
    folder = file_at(path)
    folder = folder.parent if folder.is_file() else folder
    model = _loaded(folder)
    interface = _normalised(folder, interface)
    labels = getattr(model.config, "id2label", None) or {}
    names = tuple(str(labels[number]) for number in sorted(labels))
    told = f"Hugging Face {type(model).__name__} in {folder}"
    found = Found(_Logits(model), told, _digest(folder), _shape(model.config), names)
    return target_of(found, domain, interface)


class _Logits(nn.Module):
    """A model of Transformers that gives its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        """Return logits (B, K)."""
        return self.model(pixel_values=x).logits


def _loaded(folder: Path) -> Any:
    """Return the model, from this folder alone."""
    try:
        from transformers import AutoModelForImageClassification
    except ImportError as error:
        raise MissingPackage.of("transformers", "transformers", f"opening {folder}") from error
    try:
        return AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{folder} holds weights that are more than tensors and could run code; they were not "
            f"opened: save the model with safe_serialization=True"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{folder} holds no image classifier of Transformers ({said})") from error


def _normalised(folder: Path, interface: Interface) -> Interface:
    """Return the interface with the mean and spread of the folder, where nobody says others."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return interface
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    words: dict[str, Any] = {}
    if held.get("do_rescale") is False and interface.input_range is None:
        words["input_range"] = (0.0, 255.0)
    if held.get("do_normalize", True):
        for name, key in (("mean", "image_mean"), ("std", "image_std")):
            if getattr(interface, name) is None and held.get(key):
                words[name] = tuple(float(value) for value in held[key])
    return replace(interface, **words)


def _shape(config: Any) -> Declared | None:
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if not isinstance(channels, int):
        return None
    sizes = (size, size) if isinstance(size, int) else tuple(size or (None, None))
    return (channels, *sizes)


def _digest(folder: Path) -> str:
    """Return the SHA-256 of the configuration and the weights, in the order of their names."""
    digest = hashlib.sha256()
    files = [folder / "config.json", *(f for kind in _WEIGHTS for f in sorted(folder.glob(kind)))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
