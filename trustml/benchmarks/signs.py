"""What is odd about a table of attacks: signs that their numbers are weakness, not strength."""

from typing import get_args

from torch import Tensor

from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.indicators import (
    group_indicators,
    model_indicators,
    notes,
    threat_indicators,
)
from trustml.benchmarks.plan import Case
from trustml.benchmarks.probes import subject
from trustml.contracts import Access, Norm
from trustml.deployment import access_of


def signs(bench: Bench, case: Case, fooled: list[tuple[str, Tensor]]) -> tuple[str, ...]:
    """Return a sentence for each indicator that fires.

    Args:
        bench: the model and the samples.
        case: all attacks together, under one threat.
        fooled: name of each attack, and which samples (N,) it fooled.
    """
    setting, threat = bench.setting, case.threat
    if access_of(setting.module) < Access.PROBABILITIES:
        # One-hot labels jump by their nature: there is nothing to be seen between them.
        return notes(group_indicators(fooled, len(setting.split)))
    seen = subject(setting.module, setting.split, setting.right, case.seed, bench.device)
    found = model_indicators(seen)
    if not threat["whole_box"] and threat["norm"] in get_args(Norm):
        found += threat_indicators(seen, threat["norm"], threat["epsilon"])
    found += group_indicators(fooled, len(setting.split))
    return notes(found)
