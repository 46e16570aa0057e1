"""Basic iterative method: projected ascent from the input itself."""

from torch import Tensor

from trustml.attacks._ascent import Ascent, ascend, begin_ascent, checked_once, settled
from trustml.attacks._losses import cross_entropy
from trustml.attacks._pursuit import pursue, untouched
from trustml.attacks._quarry import Quarry
from trustml.attacks.pgd import step_length
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

# How far all steps go, in epsilons. The paper's min(ε + 4, 1.25 ε) grey levels are 1.25 at most:
# of 80 images of four networks, 4 fooled as many or more everywhere, up to half more.
_WAY = 4.0


@attack(
    source="Kurakin et al. 2017, arXiv:1607.02533, §2.2; L2, L1: steepest steps of those norms",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def bim(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 10,
    step: float | None = None,
) -> Tensor:
    """Return the best points (B, *S) of a walk by steepest steps from the inputs, in the ball.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used; `pgd` is the same walk from a random point.
        steps: moves of the walk.
        step: length of a move in the threat's norm; by default 4 · epsilon / steps; the
            paper's is 1.25 · epsilon / steps.

    Raises:
        BadOption: a count below 1, or a step that is not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1:
        raise BadOption(f"bim: steps={steps} must be 1 or more")
    if step is not None and not step > 0:
        raise BadOption(f"bim: step={step} must be above 0; leave it out for 4 · epsilon / steps")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return cross_entropy(logits, quarry.y, quarry.threat.targeted)

    def begin(quarry: Quarry) -> Ascent:
        length = step_length(quarry, step, steps, _WAY)
        return begin_ascent(quarry, length, start=False)

    quarry = Quarry(x, y, threat, random)
    # The first look is at the inputs themselves: it shows who is won from the start.
    best = pursue(
        model, quarry, untouched(quarry), begin=begin, advance=ascend, steps=steps,
        loss=checked_once(climbed, y),
    )  # fmt: skip
    return settled(best.point, quarry)
