"""Whether an inspection can see anything: one that follows gradients cannot where these mislead."""

from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.indicators import model_indicators
from trustml.benchmarks.probes import subject
from trustml.benchmarks.setting import Setting
from trustml.errors import NotApplicable
from trustml.recipes import Choice

# Inspections that follow gradients; sliding_patch and others that ask for answers need none.
_ALONG = ("neural_cleanse", "maximum_margin")
# Signs that what is found along them says nothing of the model (benchmarks/indicators.py).
_BLIND = ("no gradient", "zero gradient", "gradient mismatch", "jumps", "unbounded attack fails")
# How a reason begins, for those who judge what was not examined.
MISLED = "its gradients mislead"


def check_sight(look: Choice, setting: Setting, bench: Bench, seed: int) -> None:
    """Check that the gradients of the inspected model can be followed, if the inspection does so.

    Raises:
        NotApplicable: they cannot: no trigger would be found, whether there is one or not.
    """
    if look.plugin.name not in _ALONG:
        return
    known: dict[str, str] = bench.memory.setdefault("sight", {})
    if setting.weights_hash not in known:
        seen = subject(setting.module, setting.split, setting.right, seed, bench.device)
        signs = [s.sentence for s in model_indicators(seen) if s.fired and s.name in _BLIND]
        known[setting.weights_hash] = signs[0] if signs else ""
    if known[setting.weights_hash]:
        raise NotApplicable(
            f"{MISLED} ({known[setting.weights_hash]}), and {look.plugin.name} follows them, so "
            f"that it would find no trigger where there is one: sliding_patch asks for answers "
            f"alone"
        )
