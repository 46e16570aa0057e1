"""Free energy of the logits."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of, need_between
from trustml.errors import NotApplicable
from trustml.registry import detector

# What float32 rounding leaves of log Σ p = 0.
NORMALISED = 1e-5


@detector(source="Liu et al. 2020, arXiv:2010.03759, equation 4", reads=("logits",))
def energy(
    model: Classifier, train: Outputs, validation: Outputs, /, *, temperature: float = 1.0
) -> Scorer:
    """Score by the free energy -T log Σ exp(z / T), (B,).

    Raises:
        NotApplicable: no logits, or log probabilities, whose energy at T = 1 is always 0.
        BadInput: logits that are no numbers.
        BadOption: a temperature that is not above 0.
    """
    need_between("energy", 1e-6, 1e6, temperature=temperature)
    known = logits_of(train)
    if len(known) and bool((known.logsumexp(1).abs() < NORMALISED).all()):
        raise NotApplicable(
            "the logits are log probabilities (a Bayesian network's are), so their energy is 0 "
            "everywhere: take mcp, entropy or mutual_information"
        )

    def score(outputs: Outputs) -> Tensor:
        return -temperature * (logits_of(outputs) / temperature).logsumexp(1)

    return score
