"""Cases of the service that thieves meet: its fingerprint, and what ordinary users get of it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from trustml import metrics
from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.plan import Case
from trustml.calibration import calibration_scores
from trustml.contracts import Access, Classifier, Cost, Json, Record, Score, Terms
from trustml.countering import countering
from trustml.deployment import access_of
from trustml.errors import BrokenClaim, NotApplicable, Refused, TrustError
from trustml.fingerprint import fingerprint
from trustml.victim import Gate, Service

# So many test inputs are ordinary traffic, asked one by one from one account.
ORDINARY = 1000
FLOOR = 1e-12


def service(case: Case, bench: Bench) -> tuple[Service, Sequence[Gate]]:
    """Return a new service of the case's terms and countermeasure, and its gates.

    Raises:
        NotApplicable: the model shows less than the terms promise.
    """
    terms = terms_of(case)
    _check_terms(terms, bench)
    text = str(case.threat["countermeasure"])
    against = countering("" if text == "none" else text, bench.dataset.train.x, case.seed)
    model = cast(Classifier, here(bench))
    domain = bench.setting.split.domain
    victim = Service(model, domain, terms, gates=against.gates, masks=against.masks)
    return victim, against.gates


def here(bench: Bench) -> nn.Module:
    """Return the model on the CPU, where thieves are."""
    if bench.device.type == "cpu":
        return bench.setting.module
    if "here" not in bench.memory:
        bench.memory["here"] = deepcopy(bench.setting.module).cpu()
    module: nn.Module = bench.memory["here"]
    return module


def terms_of(case: Case) -> Terms:
    """Return the terms that the case states."""
    facts = dict(case.threat["victim"])
    return Terms(**{**facts, "answers": Access[facts["answers"].upper()]})


def _check_terms(terms: Terms, bench: Bench) -> None:
    """Check that the model behind the victim shows what the terms promise.

    Raises:
        NotApplicable: it shows less; the message says which terms it can keep.
    """
    shown = access_of(bench.setting.module)
    most = min(shown, Access.LOGITS)
    if terms.answers > shown:
        raise NotApplicable(
            f"the terms answer {terms.answers.name.lower()}, and this model shows "
            f"{shown.name.lower()}: give --terms answers={most.name.lower()}"
        )
    if shown < Access.GRADIENTS and (terms.explains != "nothing" or terms.precision == "float64"):
        raise NotApplicable(
            f"this model shows {shown.name.lower()}, in float32: leave explains= and precision= "
            f"out of --terms"
        )


def alarm_of(gates: Sequence[Gate]) -> int | None:
    """Return the number of the query that raised a gate's alarm, if one watches and it did."""
    raised = [getattr(gate, "alarm", None) for gate in gates]
    return min((number for number in raised if number is not None), default=None)


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record: what forty queries tell in its threat, what users get in its scores."""
    seen, notes, queries = _seen(case, bench)
    return replace(
        blank,
        threat={**blank.threat, "seen": seen},
        scores=_ordinary(case, bench),
        cost=Cost(queries=float(queries)),
        status="done",
        notes=tuple(notes),
    )


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Ask again, and see that the same comes out.

    Raises:
        BrokenClaim: it does not.
    """
    seen, _, queries = _seen(case, bench)
    if record.threat.get("seen") != seen or record.cost.queries != queries:
        raise BrokenClaim(f"{record.case}: the fingerprint is not that of the model")
    if not close(_ordinary(case, bench), record.scores):
        raise BrokenClaim(f"{record.case}: the scores are not what ordinary queries get")


def _seen(case: Case, bench: Bench) -> tuple[dict[str, Json], list[str], int]:
    """Return the fingerprint's facts, what in them belies the terms, and its queries."""
    victim, _ = service(case, bench)
    random = torch.Generator().manual_seed(case.seed)
    try:
        found = fingerprint(victim, random, bench.dataset.validation.x)
    except TrustError as error:
        return {"stopped": str(error)}, [f"the fingerprint was stopped: {error}"], victim.queries
    return found.facts(), found.against(victim.terms), found.queries


def _ordinary(case: Case, bench: Bench) -> dict[str, Score]:
    """Return accuracy, calibration, refusals and false alarms on test inputs asked one by one."""
    victim, gates = service(case, bench)
    victim.terms = replace(victim.terms, budget=None)  # that is the thief's, not the users'
    split = bench.setting.split.at(slice(0, ORDINARY))
    shown, answered = _asked_by_users(victim, split.x.to(victim.dtype), bool(gates))
    count = len(split)
    scores = {"refused": metrics.proportion(count - len(answered), count, "lower")}
    refused = sorted(set(range(count)) - set(answered))
    first = refused[0] + 1 if refused else None
    alarm = alarm_of(gates)
    for name, number in (("first refusal", first), ("false alarm", alarm)):
        if number is not None:
            scores[name] = Score(float(number), float(number), float(number), "higher")
    if not answered:
        return scores
    y = split.y[answered].cpu()
    p = _shares(torch.cat(shown), victim.terms.answers).cpu()
    scores["accuracy"] = metrics.proportion(int((p.argmax(1) == y).sum()), len(y))
    scores["ece"] = calibration_scores(p.clamp_min(FLOOR).log(), y)["ece"]
    return scores


def _asked_by_users(victim: Service, x: Tensor, watched: bool) -> tuple[list[Tensor], list[int]]:
    """Return the answers, and the rows of x (B, *S) that got one; one by one where gates watch."""
    if not watched:
        return [victim(x)], list(range(len(x)))
    shown, answered = [], []
    for row in range(len(x)):
        try:
            shown.append(victim(x[row : row + 1]))
        except Refused:
            continue
        answered.append(row)
    return shown, answered


def _shares(shown: Tensor, level: Access) -> Tensor:
    """Return probabilities (B, K) as a user reads them; what a top-1 answer leaves is even."""
    if level == Access.LOGITS:
        return shown.double().softmax(1)
    p = shown.double()
    left: Any = (1 - p.sum(1, keepdim=True)).clamp_min(0) / max(p.shape[1] - 1, 1)
    return torch.where(p > 0, p, left) if level == Access.TOP1 else p
