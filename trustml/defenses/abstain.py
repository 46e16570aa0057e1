"""A gate: what the model is unsure of goes to a person."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trustml.access import in_blocks
from trustml.contracts import Domain, Outputs, Split
from trustml.errors import BadOption
from trustml.gate import Scorer, gate
from trustml.guarding import accepted
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
        # Rounded as the threshold is, which a device may have to hold in float32.
        sure = self._score(self._outputs(x)).float() <= self.threshold
        return sure & accepted(self.model, x)

    def learn(self, train: Split, validation: Split, seed: int) -> None:
        """Read the threshold off the validation split.

        Raises:
            BadOption: a rate that takes more validation samples than there are.
        """
        outputs = self._outputs(validation.x)
        found = gate(self._score, outputs, false_alarms=self.rate).threshold
        self.threshold.fill_(found)

    def _outputs(self, x: Tensor) -> Outputs:
        with torch.no_grad():
            logits = in_blocks(self.model, x)
        return Outputs(logits, logits[:, :0], x, logits.argmax(1))
