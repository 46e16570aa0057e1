"""The target `timm`: an architecture of PyTorch Image Models with weights from a file."""

from typing import Any

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, MissingPackage
from trustml.registry import target
from trustml.targets._face import Found, file_at, file_hash, target_of
from trustml.weights import load_weights


@target(
    source="PyTorch Image Models (timm): create_model",
    takes="name",
    looks=(r"timm/[\w.]+",),
)
def timm(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    name: str = "",
    weights: str | None = None,
) -> Target:
    """A model of timm, `timm/resnet18:weights=file.safetensors`; nothing is fetched.

    It has as many classes and channels as the data, or as classes= and input_shape= say. Values go
    in as they are: say mean= and std= if it was trained with some.

    Raises:
        BadInput: no such architecture, no weights, or the weights of another one.
        MissingPackage: timm is not installed.
    """
    try:
        import timm as library
    except ImportError as error:
        raise MissingPackage.of("timm", "timm", "a model of timm") from error
    name = name.removeprefix("timm/")
    if not library.is_model(name):
        raise BadInput(f"timm has no architecture {name!r}: timm.list_models() names them")
    if weights is None:
        raise BadInput(f"timm/{name} without weights is untrained: say weights=file.safetensors")
    model = _model(library, name, domain, interface)
    load_weights(model, weights)
    usual = model.default_cfg
    note = f"timm's usual mean and std for it are {usual.get('mean')} and {usual.get('std')}"
    notes = (note,) if interface.mean is None else ()
    found = Found(
        model, f"timm {name} with {weights}", file_hash(file_at(weights, "weights")), notes=notes
    )
    return target_of(found, domain, interface)


def _model(library: Any, name: str, domain: Domain | None, interface: Interface) -> Any:
    shape = interface.input_shape or (domain.shape if domain else None)
    if shape is None or len(shape) != 3:
        raise BadInput(f"timm/{name} takes pictures (C, H, W): say input_shape=, or name such data")
    count = len(interface.classes or ()) or (domain.classes if domain else 0)
    if not count:
        raise BadInput(f"timm/{name}: how many classes? Say classes=[a,b,c], or name the data")
    channels = shape[-1] if interface.layout == "last" else shape[0]
    return library.create_model(name, pretrained=False, num_classes=count, in_chans=channels)
