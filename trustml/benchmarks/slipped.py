"""Inputs that slip past model and gate, as the harness judges them: found, kept, scored again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.aware import Guarded, slip_past, unit_of
from trustml.benchmarks.batch_rows import batch_rows
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.outputs import asked_again
from trustml.benchmarks.plan import Case
from trustml.benchmarks.suspicion import checked
from trustml.contracts import Bayesian, Norm, Outputs, Score
from trustml.errors import BrokenClaim
from trustml.gate import Scorer
from trustml.metrics import proportion
from trustml.progress import progress
from trustml.randomness import keyed
from trustml.threats import Lp

# Parts of a name: "aware linf 0.1", and what stands behind it.
AWARE, PASSED = "aware ", ": passed"
INPUTS, MISREAD, SUSPICION = ": inputs", ": misread", ": suspicion"
PROBED = 500  # validation inputs that tell the spread of margins and suspicions


@dataclass(frozen=True, slots=True, eq=False)
class Posted:
    """A detector at its gate: its scorer, its threshold, and draws of the model that it reads."""

    scorer: Scorer
    threshold: float
    draws: int


def slipped(case: Case, bench: Bench, posted: Posted) -> tuple[dict[str, Tensor], list[str]]:
    """Return for each threat the candidates (N, *S), which are misread, and their suspicions.

    Raises:
        MethodFailed: the scorer raised, or gave something other than one number an input.
    """
    found: dict[str, Tensor] = {}
    notes: list[str] = []
    for norm, epsilon in case.threat["aware"]:
        threat, name = threat_of(bench, norm, epsilon), name_of(norm, epsilon)
        candidate, by_gradient = _candidates(case, bench, posted, threat)
        candidate = threat.project(candidate, bench.setting.split.x)
        inside = threat.contains(candidate, bench.setting.split.x)
        assert bool(inside.all()), "the projection left the ball or the box"
        misread, suspicion = _judged(bench, posted, candidate)
        found |= {name + INPUTS: candidate, name + MISREAD: misread, name + SUSPICION: suspicion}
        if not by_gradient:
            notes.append(
                f"{name}: no gradient goes through model and detector, so that "
                f"a random search had to do"
            )
    return found, notes


def passed(found: Mapping[str, Tensor], threshold: float) -> dict[str, Score]:
    """Return the share of test inputs that are misread and accepted, for each threat."""
    scores = {}
    for key, misread in found.items():
        if key.startswith(AWARE) and key.endswith(MISREAD):
            name = key.removesuffix(MISREAD)
            slips = misread.bool() & (found[name + SUSPICION] <= threshold)
            scores[name + PASSED] = proportion(int(slips.sum()), len(slips), "lower")
    return scores


def check_slipped(case: Case, bench: Bench, found: Mapping[str, Tensor]) -> None:
    """Check that the stored candidates are allowed, and read as was said.

    Raises:
        BrokenClaim: they are not, or not all are there.
    """
    split = bench.setting.split
    for norm, epsilon in case.threat.get("aware", ()):
        name = name_of(norm, epsilon)
        candidate = found.get(name + INPUTS)
        if candidate is None or candidate.shape != split.x.shape:
            raise BrokenClaim(f"{case.name}: the candidates of {name} are not all there")
        outside = ~threat_of(bench, norm, epsilon).contains(candidate, split.x)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise BrokenClaim(f"{case.name}: {name}: sample {row} lies outside the ball or the box")
        again = _misread(bench, asked_again(bench.setting, _moved(bench, candidate), bench.device))
        if not torch.equal(again, found[name + MISREAD]):
            row = int((again != found[name + MISREAD]).nonzero()[0])
            raise BrokenClaim(f"{case.name}: {name}: sample {row} is read otherwise than recorded")


def name_of(norm: Norm, epsilon: float) -> str:
    """Return what a threat is called among scores."""
    return f"{AWARE}{norm} {epsilon:.3g}"


def threat_of(bench: Bench, norm: Norm, epsilon: float) -> Lp:
    """Return what the attacker may do to the test inputs."""
    split = bench.setting.split
    return Lp(norm, epsilon, split.low, split.high)


def _candidates(case: Case, bench: Bench, posted: Posted, threat: Lp) -> tuple[Tensor, bool]:
    split, parts, by_gradient = bench.setting.split, [], True
    guarded = _guarded(bench, posted)
    with progress(f"{case.name} aware", len(split)) as advance:
        for batch in split.batches(batch_rows(bench)):
            random = keyed(case.seed, batch.ids)
            found = slip_past(guarded, batch.x, batch.y, threat, random)
            parts.append(found.candidate)
            by_gradient = by_gradient and found.by_gradient
            advance(len(batch))
    return torch.cat(parts), by_gradient


def _guarded(bench: Bench, posted: Posted) -> Guarded:
    """Return model and gate as the attacker meets them: tensors on the CPU, the model where it is.

    Detectors read outputs on the CPU, as they were fitted to.
    """
    module: Any = bench.setting.module
    shown = hasattr(module, "features")

    def ask(x: Tensor) -> Outputs:
        with frozen(module):
            there = x.to(bench.device)
            logits = module(there).cpu()
            features = module.features(there).flatten(1).cpu() if shown else x[:, :0].flatten(1)
            draws = None
            if posted.draws and isinstance(module, Bayesian):
                draws = module.sample_logits(there, posted.draws).cpu()
        return Outputs(logits, features, x, torch.zeros(len(x), dtype=torch.long), draws)

    known = bench.dataset.validation.at(slice(0, PROBED))
    with torch.no_grad():
        plain = Guarded(ask, posted.scorer, posted.threshold, (1.0, 1.0)).gaps(known.x, known.y)
    units = (unit_of(plain[:, 0]), unit_of(plain[:, 1]))
    return Guarded(ask, posted.scorer, posted.threshold, units)


def _judged(bench: Bench, posted: Posted, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Return which candidates the float32 model, asked again, misreads, and their suspicions."""
    outputs = asked_again(bench.setting, _moved(bench, candidate), bench.device, posted.draws)
    return _misread(bench, outputs), checked(posted.scorer)(outputs)


def _misread(bench: Bench, outputs: Outputs) -> Tensor:
    return (outputs.logits.argmax(1) != bench.setting.split.y).to(torch.uint8)


def _moved(bench: Bench, candidate: Tensor) -> Any:
    return replace(bench.setting.split, x=candidate)
