"""The parts of outputs as detectors read them: there, of the right shape, and finite."""

from collections.abc import Callable

from torch import Tensor

from trustml.contracts import Outputs
from trustml.errors import BadInput, BadOption, NotApplicable

Scorer = Callable[[Outputs], Tensor]
Change = Callable[[Outputs], Outputs]


def logits_of(outputs: Outputs) -> Tensor:
    """Return the logits (B, K) in float64, in which sure answers still differ.

    Raises:
        NotApplicable: there are none, or fewer than two classes.
        BadInput: one is not a finite number.
    """
    if outputs.logits is None or outputs.logits.ndim != 2 or outputs.logits.shape[1] < 2:
        raise NotApplicable("it needs logits (B, K) of two classes or more, and there are none")
    return _finite(outputs.logits, "logits").double()


def features_of(outputs: Outputs) -> Tensor:
    """Return the features (B, D).

    Raises:
        NotApplicable: the model shows none.
        BadInput: one is not a finite number.
    """
    if outputs.features is None or not outputs.features.shape[1:].numel():
        raise NotApplicable(
            "it needs features, what the last layer reads, and there are none: a target that is "
            "asked from outside shows none, so take a detector that reads logits"
        )
    return _finite(outputs.features, "features").flatten(1)


def draws_of(outputs: Outputs, least: int) -> Tensor:
    """Return the logits (S, B, K) of drawn networks in float64.

    Raises:
        NotApplicable: the model has none, or fewer than `least`.
        BadInput: one is not a finite number.
    """
    if outputs.draws is None or len(outputs.draws) < least:
        count = 0 if outputs.draws is None else len(outputs.draws)
        raise NotApplicable(
            f"it needs {least} or more draws of a Bayesian network, and there are {count}: take a "
            f"model of kind bnn, or a detector that reads logits"
        )
    return _finite(outputs.draws, "draws").double()


def need_rows(outputs: Outputs, part: str, least: int = 1) -> None:
    """Refuse to learn from too few outputs.

    Raises:
        BadInput: fewer than `least`.
    """
    if len(outputs.y) < least:
        raise BadInput(
            f"{len(outputs.y)} {part} outputs are too few to learn from: give {least} or more"
        )


def need_between(owner: str, low: float, high: float, **options: float) -> None:
    """Refuse options outside [low, high].

    Raises:
        BadOption: the first that is.
    """
    for name, value in options.items():
        if not low <= value <= high:
            raise BadOption(
                f"{owner}: {name}={value} is not allowed: it must be from {low:g} to {high:g}"
            )


def inputs_of(outputs: Outputs) -> Tensor:
    """Return the inputs (B, *S).

    Raises:
        BadInput: one of their entries is not a finite number.
    """
    return _finite(outputs.x, "inputs")


def _finite(values: Tensor, name: str) -> Tensor:
    if not bool(values.isfinite().all()):
        rows = (~values.isfinite()).sum().item()
        raise BadInput(f"{rows} of the {name} are NaN or infinite: the model gave no number there")
    return values
