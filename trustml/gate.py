"""A gate: a suspicion with a threshold from validation data that accepts, or sends to a person."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from trustml.conformal import conformal_quantile, expected_share, rank
from trustml.contracts import Outputs, Score
from trustml.errors import BadInput, BadOption, MethodFailed
from trustml.metrics import Better, proportion

Scorer = Callable[[Outputs], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """A scorer, the greatest suspicion that it lets pass, and the alarms to be expected.

    Args:
        scorer: outputs → suspicion (B,), higher is odder.
        threshold: what is more suspicious than this is not accepted.
        expected: share of ordinary inputs that will be stopped, with the 95 % that as many
            validation samples leave open.
    """

    scorer: Scorer
    threshold: float
    expected: Score

    def accept(self, outputs: Outputs) -> Tensor:
        """Return (B,) bool: False where a person should look. One input without its axis B is one.

        A suspicion that is not a number is not accepted.

        Raises:
            MethodFailed: the scorer returns something other than one number an input.
        """
        outputs = _batch(outputs)
        return _suspicion(self.scorer, outputs) <= self.threshold

    def stopped(self, outputs: Outputs, better: Better) -> Score:
        """Return the share of the outputs that is stopped, with its 95 % interval.

        Args:
            outputs: of ordinary inputs to measure false alarms, of odd ones to measure hits.
            better: "lower" for the former, "higher" for the latter.

        Raises:
            BadInput: no outputs.
            MethodFailed: the scorer returns something other than one number an input.
        """
        accepted = self.accept(outputs)
        return proportion(int((~accepted).sum()), len(accepted), better)


def gate(scorer: Scorer, validation: Outputs, *, false_alarms: float = 0.05) -> Gate:
    """Return the gate that stops at most this share of ordinary inputs, expected over fits.

    The threshold is the ceil((n + 1)(1 - false_alarms))-th smallest validation suspicion, so the
    promise holds for any scorer and any n, as long as the scorer has not learnt from these samples
    and ordinary inputs come from where they come from.

    Args:
        scorer: what a detector returns.
        validation: outputs for inputs that neither model nor scorer has learnt from.
        false_alarms: share of ordinary inputs that may be stopped.

    Raises:
        BadInput: no validation sample, or a suspicion that is NaN.
        BadOption: a share outside (0, 1), or one that takes more validation samples than there are.
        MethodFailed: the scorer returns something other than one number an input.
    """
    count = len(validation.logits)
    if not count:
        raise BadInput("no validation sample: a gate's threshold is read off some")
    if rank(count, false_alarms) > count:
        # The threshold would lie beyond the last sample, where nothing is ever stopped.
        least = math.ceil(1 / false_alarms - 1e-9) - 1
        raise BadOption(
            f"false_alarms={false_alarms:g} needs {least} validation samples or more, and there "
            f"are {count}: allow {1 / (count + 1):.2g} or more"
        )
    suspicion = _suspicion(scorer, validation)
    threshold = conformal_quantile(suspicion, false_alarms)
    return Gate(scorer, threshold, expected_share(count, false_alarms))


def _suspicion(scorer: Scorer, outputs: Outputs) -> Tensor:
    suspicion = scorer(outputs)
    if not isinstance(suspicion, Tensor) or suspicion.shape != outputs.logits.shape[:1]:
        given = tuple(suspicion.shape) if isinstance(suspicion, Tensor) else type(suspicion)
        raise MethodFailed(f"the scorer returned {given}, not one number an input (B,)")
    return suspicion.detach().double()


def _batch(outputs: Outputs) -> Outputs:
    """Return the outputs with an axis B, which those of one input may lack."""
    if outputs.logits.ndim == 2:
        return outputs
    draws = None if outputs.draws is None else outputs.draws[:, None]
    return replace(
        outputs,
        logits=outputs.logits[None],
        features=outputs.features[None],
        x=outputs.x[None],
        y=outputs.y.reshape(1),
        draws=draws,
    )
