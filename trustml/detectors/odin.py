"""ODIN: inputs moved up their own highest probability, and logits divided by a temperature."""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import log_softmax

from trustml.access import frozen
from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Change, need_between, need_rows
from trustml.detectors._reading import answers, bounds_of, graph_of, in_blocks, uphill
from trustml.detectors._temperature import COOLEST, HOTTEST, least_loss
from trustml.registry import detector

# Steps that are tried, in shares of the box, and validation inputs that they are tried on.
STEPS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
TRIED_ON = 1000


@detector(
    source="Liang et al. 2018, arXiv:1706.02690; step: Hsu et al. 2020, arXiv:2002.11297, eq. 9",
    reads=("x", "gradients"),
    front_end="mcp",
)
def odin(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    temperature: float | None = 1000.0,
    epsilon: float | None = 0.0014,
) -> Change:
    """Return outputs of the inputs (B, *S) after one step, with logits (B, K) over the temperature.

    The step goes up the log of the highest softmax at that temperature; it may leave the box, as
    published. No out-of-distribution data is seen.

    Args:
        temperature: none is the one of least cross-entropy on the validation outputs.
        epsilon: length of the step in every entry, by default the published one; none is the one
            of seven, from 0 to 0.08 of the box, after which validation inputs have the greatest
            mean highest probability. That is mostly the longest, and seldom the best.

    Raises:
        NotApplicable: the model's answers have no gradient.
        BadInput: no validation outputs, or answers that are no numbers.
        BadOption: a temperature outside 0.001 to 1000, or an epsilon that is below 0.
    """
    degrees = least_loss(validation) if temperature is None else temperature
    need_between("odin", COOLEST, HOTTEST, temperature=degrees)
    if epsilon is None:
        epsilon = _best_step(model, train, validation, degrees)
    need_between("odin", 0, 1e6, epsilon=epsilon)
    step = epsilon
    if step:
        # One input tells whether there are gradients, before any are scored.
        need_rows(validation, "validation")
        _direction(model, validation.x[:1], degrees)

    def change(outputs: Outputs) -> Outputs:
        x = outputs.x
        if step:
            x = x + step * _direction(model, x, degrees)
        logits, features = answers(model, x), outputs.features[:, :0]
        if outputs.features.shape[1]:
            with frozen(model), graph_of(x):
                features = in_blocks(model, model.features, x)
        return replace(outputs, x=x, logits=logits / degrees, features=features, draws=None)

    return change


def _direction(model: Classifier, x: Tensor, temperature: float) -> Tensor:
    """Return the sign (B, *S) of the gradient; 0 where there is none."""
    return uphill(model, x, lambda z: log_softmax(z / temperature, 1).amax(1)).sign()


def _best_step(model: Classifier, train: Outputs, validation: Outputs, temperature: float) -> float:
    """Return the step after which the validation inputs look most like their class."""
    need_rows(validation, "validation")
    low, high = bounds_of(train)
    x = validation.x[:TRIED_ON]
    direction = _direction(model, x, temperature)

    def likeness(step: float) -> float:
        logits = answers(model, x + step * direction) / temperature
        return float(logits.softmax(1).amax(1).mean())

    return max(((high - low) * step for step in STEPS), key=likeness)
