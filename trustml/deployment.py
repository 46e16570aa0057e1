"""A deployed model by its text: recognised by what it looks like, opened, and what it allows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from trustml.contracts import Access, Domain, Interface, Target
from trustml.errors import BadInput, MethodFailed, NotApplicable, TrustError
from trustml.registry import Plugin, all_of, names

_INTERFACE = tuple(field.name for field in fields(Interface))
# Formats that are no target, and what their owner can do.
_ADVICE = {
    (".pt", ".pth", ".ckpt", ".safetensors"): (
        "it holds weights, not the model: name the function that builds it, "
        "make.py:build:weights={}, or export it as .pt2 or .onnx"
    ),
    (".pkl", ".pickle", ".p"): (
        "a pickle runs code when it is opened: save the estimator with skops (.skops), or name it "
        ".joblib and set trust_pickle=true if you made it yourself"
    ),
    (".h5", ".keras", ".pb", ".tflite", ".mar", ".torchscript"): "convert it to .onnx",
}


def recognised(text: str) -> str | None:
    """Return `target:option=value,…` for what names a deployed model; None for anything else.

    That is the name of a target with its options, or a file, an address or a `module:function`,
    which may be followed by options: `model.onnx:input_range=[0,255]`.

    Raises:
        BadInput: it names a file of a kind that cannot be opened; the message says what to do.
    """
    subject, options = apart(text.strip())
    if subject in names("target"):
        return text.strip()
    shape = f"{subject.rstrip('/')}/" if Path(subject).expanduser().is_dir() else subject
    for plugin in all_of("target"):
        if any(re.fullmatch(pattern, shape) for pattern in plugin.facts["looks"]):
            taken = f"{plugin.name}:{plugin.facts['takes']}={json.dumps(subject)}"
            return f"{taken},{options}" if options else taken
    for endings, advice in _ADVICE.items():
        if subject.lower().endswith(endings):
            raise BadInput(f"{subject} cannot be opened: {advice.format(subject)}")
    return None


def opened(plugin: Plugin, options: Mapping[str, Any], domain: Domain | None) -> Target:
    """Return the deployed model of a target with all its options.

    Args:
        plugin: of the kind "target".
        options: every option, as its recipe has them.
        domain: of the data that it shall be asked about, where they are known.

    Raises:
        TrustError: there is none, or it does not answer as a classifier for the domain.
    """
    own = {name: value for name, value in options.items() if name not in _INTERFACE}
    interface = Interface(**{name: options[name] for name in _INTERFACE})
    try:
        target = plugin.function(domain, interface, **own)
    except TrustError:
        raise
    except Exception as error:  # a stranger's target, or a stranger's model in it, may raise all
        said = " ".join(str(error).split())[:300]
        raise MethodFailed(f"target {plugin.name}: {type(error).__name__}: {said}") from error
    if not isinstance(target, Target):
        raise MethodFailed(f"target {plugin.name} returned {type(target).__name__}, not a Target")
    return target


def access_of(module: nn.Module) -> Access:
    """Return what may be seen of a model: all of it, but for what a deployed one in it hides."""
    levels = [getattr(part, "access", None) for part in module.modules()]
    return min((one for one in levels if isinstance(one, Access)), default=Access.GRADIENTS)


def says_of(module: nn.Module) -> Access:
    """Return what a model itself says: logits, but for what a deployed one in it answers instead.

    A file that answers probabilities may show its gradients, too, and is read by their logarithms.
    """
    told = [getattr(getattr(part, "reading", None), "says", None) for part in module.modules()]
    return min((one for one in told if isinstance(one, Access)), default=Access.LOGITS)


def is_remote(module: nn.Module) -> bool:
    """Return whether a server answers for the model, or for a part of it."""
    return any(getattr(part, "remote", False) for part in module.modules())


def allowance(module: nn.Module) -> tuple[float, int]:
    """Return how many requests a second its server may be sent, 0 for any, and inputs in each."""
    for part in module.modules():
        manner = getattr(part, "manner", None)
        if manner is not None:
            return float(manner.rate), int(manner.batch)
    return 0.0, 1


def check_names(module: nn.Module, wanted: tuple[str, ...]) -> None:
    """Check that a deployed model numbers the classes as the data do, where it names them.

    Raises:
        BadInput: it has them in another order, or by other names, and nobody has said which is
            which; the message says the option that does.
    """
    for part in module.modules():
        names: tuple[str, ...] = getattr(part, "class_names", ())
        if names and names != wanted and sorted(names) == sorted(wanted):
            raise BadInput(
                f"the model has the classes in the order {', '.join(names)}; the data number them "
                f"{', '.join(wanted)}: give the model classes=[{','.join(wanted)}]"
            )
        own: tuple[str, ...] = getattr(part, "own_names", ())
        if own and sorted(own) != sorted(wanted) and not only_count(own):
            raise BadInput(
                f"the model names its classes {', '.join(own)}, and the data {', '.join(wanted)}: "
                f"give the model classes=[…], its names in the data's order"
            )


def only_count(names: Sequence[str]) -> bool:
    """Return whether names only count: 0, 1, 2, or LABEL_0, LABEL_1."""
    bare = [name.removeprefix("LABEL_") for name in names]
    return bare == [str(number) for number in range(len(names))]


def check_access(plugin: Plugin, shown: Access) -> None:
    """Check that a model which shows so much is enough for the method.

    Raises:
        NotApplicable: it is not; the message names methods that would do.
    """
    needs: Access = plugin.facts["needs"]
    if needs <= shown:
        return
    able = [other.name for other in all_of(plugin.kind) if other.facts["needs"] <= shown]
    raise NotApplicable(
        f"{plugin.name} needs {needs.name.lower()}, and this model shows {shown.name.lower()}; "
        f"these would do: {', '.join(able) or 'none'}"
    )


def apart(text: str) -> tuple[str, str]:
    """Return what names the model, and the text of the options after it.

    Raises:
        BadInput: a quote has no partner.
    """
    if text.startswith('"'):
        try:
            subject, end = json.JSONDecoder().raw_decode(text)
        except ValueError as error:
            raise BadInput(f"{text}: a quote has no partner ({error})") from error
        return str(subject), text[end:].lstrip(":")
    found = re.fullmatch(r"(.*?)(?::(?=\s*\w+\s*=)(.*))?", text, flags=re.DOTALL)
    assert found is not None, "the pattern fits any text"
    return found[1], found[2] or ""
