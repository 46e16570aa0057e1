"""A gate: what the model is unsure of goes to a person."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trustml.access import in_blocks
from trustml.contracts import Domain, Outputs, Split
from trustml.errors import BadOption
from trustml.gate import Scorer, gate
from trustml.guarding import accepted, doubt
from trustml.registry import get, safeguard


@safeguard(
    source="Chow 1970, IEEE Trans. Inf. Theory 16; threshold: Vovk et al. 2005",
    stage="serving",
    beaten_by="the model and its score: a misreading that looks sure is let through",
    does_not_stop="sure misreadings, and a backdoor whose trigger makes the model sure",
)
def abstain(
    model: nn.Module,
    domain: Domain,
    /,
    *,
    rate: float = 0.05,
    score: Literal["mcp", "entropy", "margin", "max_logit", "energy"] = "mcp",
) -> nn.Module:
    """Let the model say which inputs a person should read: `accepts(x)` (B,), beside its logits.

    The logits stay as they are, so that every exam sees what the model would have answered.

    Args:
        model: what is guarded.
        domain: of its inputs.
        rate: share of ordinary inputs that may be sent to a person; the threshold is read off the
            validation split.
        score: the detector that says how suspicious an answer is.

    Raises:
        BadOption: a rate that is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise BadOption(f"abstain: rate={rate:g} is not allowed: above 0 and below 1")
    return Abstaining(model, rate, score)


class Abstaining(nn.Module):
    """A classifier with the greatest suspicion that it still stands by."""

    model: Any
    threshold: Tensor

    def __init__(self, model: nn.Module, rate: float, score: str) -> None:
        super().__init__()
        self.model, self.rate = model, rate
        nothing = Outputs(*[torch.zeros(0, 2)] * 4)
        # These detectors learn nothing from what they are given.
        self._score: Scorer = get("detector", score).function(model, nothing, nothing)
        self.register_buffer("threshold", torch.tensor(torch.finfo(torch.float32).max))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.model(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the model's last layer reads, (B, D)."""
        features: Tensor = self.model.features(x)
        return features

    def accepts(self, x: Tensor) -> Tensor:
        """Return (B,) bool: False where a person should look."""
        with torch.no_grad():
            sure = self._over(in_blocks(self.model, x), x) <= 0
        return sure & accepted(self.model, x)

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) the suspicion above the threshold, or above that of a gate within."""
        over = self._over(self.model(x), x)
        within = doubt(self.model, x)
        return over if within is None else torch.maximum(over, within)

    def _over(self, logits: Tensor, x: Tensor) -> Tensor:
        # Rounded as the threshold is, which a device may have to hold in float32.
        suspicion = self._score(_outputs(logits, x)).float()
        return suspicion - self.threshold

    def learn(self, train: Split, validation: Split, seed: int) -> None:
        """Read the threshold off the validation split.

        Raises:
            BadOption: a rate that takes more validation samples than there are.
        """
        with torch.no_grad():
            outputs = _outputs(in_blocks(self.model, validation.x), validation.x)
        found = gate(self._score, outputs, false_alarms=self.rate).threshold
        self.threshold.fill_(found)


def _outputs(logits: Tensor, x: Tensor) -> Outputs:
    return Outputs(logits, logits[:, :0], x, logits.argmax(1))
