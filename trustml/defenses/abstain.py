"""A gate: what a detector finds odd, or the model is unsure of, goes to a person."""

from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen, in_blocks
from trustml.chains import Chain, learnt, read_chain
from trustml.contracts import Bayesian, Domain, Outputs, Split
from trustml.defenses._before import keep_draws
from trustml.errors import BadInput, BadOption
from trustml.gate import Scorer, gate
from trustml.guarding import accepted, doubt
from trustml.registry import safeguard
from trustml.training import seeded

# These read an answer off the logits as they are, so that they have nothing to learn.
PLAIN = {"mcp", "entropy", "margin", "max_logit", "energy"}
DRAWS = 20  # networks that a Bayesian model is asked as


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
    detector: str = "mcp",
    samples: int = 2000,
) -> nn.Module:
    """Let the model say which inputs a person should read: `accepts(x)` (B,), beside its logits.

    The logits stay as they are, so that every exam sees what the model would have answered.

    Args:
        model: what is guarded.
        domain: of its inputs.
        rate: share of ordinary inputs that may be sent to a person; the threshold is read off the
            validation split, or off the half of it that the detector has not learnt from.
        detector: says how suspicious an answer is; one with front ends stands in double quotes,
            as in abstain:detector="react+energy".
        samples: training samples that a detector may learn from, and half as many validation
            samples; they are kept with the weights. One that has nothing to learn needs none.

    Raises:
        BadOption: a rate that is not between 0 and 1, fewer than 2 samples, or detectors in an
            order that cannot work.
        UnknownName: no such detector, or an option that it does not have.
    """
    if not 0 < rate < 1:
        raise BadOption(f"abstain: rate={rate:g} is not allowed: above 0 and below 1")
    if samples < 2:
        raise BadOption(f"abstain: samples={samples} is not allowed: 2 or more")
    return Abstaining(model, domain, rate, read_chain(detector), samples)


class Abstaining(nn.Module):
    """A classifier with the greatest suspicion that it still stands by.

    A detector is a function, and no weights hold one: what is kept is what it learns from, so that
    it can learn the same again.
    """

    model: Any
    threshold: Tensor
    counts: Tensor

    def __init__(
        self, model: nn.Module, domain: Domain, rate: float, chain: Chain, samples: int
    ) -> None:
        super().__init__()
        self.model, self.rate, self.chain = model, rate, chain
        self.learns = chain.front_ends != () or chain.back_end.plugin.name not in PLAIN
        self._known: tuple[Any, Scorer] | None = None
        self.register_buffer("threshold", torch.tensor(torch.finfo(torch.float32).max))
        if self.learns:
            for part, size in (("train", samples), ("held", samples // 2)):
                self.register_buffer(f"{part}_x", torch.zeros(size, *domain.shape))
                self.register_buffer(f"{part}_y", torch.zeros(size, dtype=torch.int64))
            self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))
        keep_draws(self, model, self._draws)

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
            sure = self._over(self._outputs(x, whole=False)) <= 0
        return sure & accepted(self.model, x)

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) the suspicion above the threshold, or above that of a gate within."""
        over = self._over(self._outputs(x, whole=True))
        within = doubt(self.model, x)
        return over if within is None else torch.maximum(over, within)

    def learn(self, train: Split, validation: Split, seed: int) -> None:
        """Let the detector learn, and read the threshold off validation samples that it has not.

        Raises:
            BadOption: a rate that takes more validation samples than there are.
            BadInput: fewer than two training samples, or four validation samples, to learn from.
            NotApplicable: the detector does not suit the model.
        """
        kept = validation
        if self.learns:
            if len(train) < 2 or len(validation) < 4:
                raise BadInput(
                    f"abstain:detector={self.chain.name} learns from 2 training and 4 validation "
                    f"samples or more, and there are {len(train)} and {len(validation)}"
                )
            half = len(validation) // 2
            self._keep("train", train, 0, seed)
            self._keep("held", validation.at(slice(half)), 1, seed)
            kept = validation.at(slice(half, None))
        with torch.no_grad():
            outputs = self._outputs(kept.x, whole=False)
            found = gate(self._scorer(), outputs, false_alarms=self.rate).threshold
        self.threshold.fill_(found)

    def _keep(self, part: str, split: Split, place: int, seed: int) -> None:
        """Keep samples of the split, any ones of it, as many as there is room for."""
        x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        rows = order[: len(x)].to(split.x.device)
        x[: len(rows)], y[: len(rows)] = split.x[rows].to(x), split.y[rows].to(y)
        self.counts[place] = len(rows)

    def _over(self, outputs: Outputs) -> Tensor:
        if self.learns and not int(self.counts[0]):
            return torch.full_like(outputs.logits[:, 0], -1)  # it has learnt nothing to doubt by
        # Rounded as the threshold is, which a device may have to hold in float32.
        return self._scorer()(outputs).to(self.threshold) - self.threshold

    def _scorer(self) -> Scorer:
        """Return the detector's scorer, learnt anew where what it learns from is another."""
        kept = [getattr(self, f"{part}_x") for part in ("train", "held")] if self.learns else []
        # A state that is loaded, or a move to another device, shows here.
        state = [(part.device, part.data_ptr(), part._version) for part in kept]
        if self._known is None or self._known[0] != state:
            with torch.no_grad(), seeded(0):
                train, held = self._set("train", 0), self._set("held", 1)
                self._known = state, learnt(self.chain, self.model, train, held)
        return self._known[1]

    def _set(self, part: str, place: int) -> Outputs:
        if not self.learns:
            return Outputs(*[torch.zeros(0, 2)] * 4)
        count = int(self.counts[place])
        x, y = getattr(self, f"{part}_x")[:count], getattr(self, f"{part}_y")[:count]
        return self._outputs(x, whole=False, y=y)

    def _outputs(self, x: Tensor, *, whole: bool, y: Tensor | None = None) -> Outputs:
        """Return what the detector reads of x; whole in one piece, with a graph."""

        def asked(call: Any) -> Tensor:
            part: Tensor = call(x) if whole else in_blocks(call, x)
            return part

        logits = asked(self.model)
        features, draws = logits[:, :0], None
        with frozen(self.model):
            if "features" in self.chain.reads:
                features = asked(lambda z: self.model.features(z).flatten(1))
            if "draws" in self.chain.reads and isinstance(self.model, Bayesian):
                draws = self.model.sample_logits(x, DRAWS)
        return Outputs(logits, features, x, logits.argmax(1) if y is None else y, draws)

    def _draws(self, x: Tensor, draws: int) -> Tensor:
        logits: Tensor = self.model.sample_logits(x, draws)
        return logits
