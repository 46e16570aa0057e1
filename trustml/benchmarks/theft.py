"""The exam of a theft: how like its victim a copy is, and its cost beside the least possible."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor, nn

from trustml import metrics
from trustml.access import frozen, in_blocks
from trustml.contracts import Access, Domain, Score, Split, Terms, Theft
from trustml.errors import MethodFailed
from trustml.symmetry import Difference, Hidden, affine_difference, centred, units_difference

UNIFORM = 2000
EXACT = 1e-9  # of the largest value: an affine map read off a module must answer like it


@dataclass(frozen=True, slots=True)
class Exam:
    """What is found of one theft: scores with intervals, and plain numbers that have none.

    Args:
        scores: agreement on test data and on uniform inputs, and the copy's accuracy.
        parameters: the error modulo symmetry; None where none is claimed or they do not compare.
        worst_gap: the largest difference of logits, of centred ones where the shift is unknown,
            on all those inputs; None where the copy claims behaviour alone.
        queries: what the theft took.
        least: what it must take at least, by counting what an answer can tell; None if unknown.
    """

    scores: Mapping[str, Score]
    parameters: Difference | None
    worst_gap: float | None
    queries: int
    least: int | None

    @property
    def ratio(self) -> float | None:
        """Queries over the least number of them."""
        return self.queries / self.least if self.least else None


def examine(
    victim: nn.Module,
    theft: Theft,
    test: Split,
    terms: Terms,
    seed: int = 0,
    told: Mapping[str, Tensor] | None = None,
) -> Exam:
    """Return the exam of a theft, both modules seen from inside and in float64.

    Args:
        victim: what was stolen from.
        theft: what was stolen.
        test: inputs and labels to judge it on.
        terms: what the victim was said to answer.
        seed: of the uniform inputs.
        told: the victim's answers to each of `inputs_of`, where it has been asked already.

    Raises:
        MethodFailed: the copy's answers have another shape, or are not finite.
    """
    scores: dict[str, Score] = {}
    gaps = []
    for name, x in inputs_of(test, seed).items():
        mine, theirs = answers(theft.copy, x), told[name] if told else answers(victim, x)
        if mine.shape != theirs.shape or not bool(torch.isfinite(mine).all()):
            raise MethodFailed(
                f"the copy answers {tuple(mine.shape)} where the victim answers "
                f"{tuple(theirs.shape)}, or not finitely"
            )
        alike = int((mine.argmax(1) == theirs.argmax(1)).sum())
        scores[f"agreement ({name})"] = metrics.proportion(alike, len(x), better="lower")
        gaps.append(_gap(mine, theirs, theft))
        if name == "test":
            right = int((mine.argmax(1) == test.y.to(mine.device)).sum())
            scores["accuracy of the copy"] = metrics.proportion(right, len(x), better="lower")
    claimed = [gap for gap in gaps if gap is not None]
    return Exam(
        scores,
        parameter_error(victim, theft, test.domain),
        max(claimed) if claimed else None,
        theft.queries,
        least_queries(victim, test.domain, terms),
    )


def inputs_of(test: Split, seed: int) -> dict[str, Tensor]:
    """Return what copies are judged on: the test inputs, and as "uniform" points of the box."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(UNIFORM, *test.x.shape[1:], generator=generator).to(test.x)
    return {"test": test.x, "uniform": test.low + (test.high - test.low) * spread}


def stages(theft: Theft, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the queries (N,) of the theft's earlier copies and its last, and their labels (N, B).

    An earlier copy of as many queries as a later one is left out.
    """
    every = {stage.queries: stage for stage in (*theft.earlier, theft)}
    order = sorted(every)
    said = torch.stack([answers(every[queries].copy, x).argmax(1) for queries in order])
    return torch.tensor(order), said


def curve(queries: Tensor, said: Tensor, labels: Tensor) -> list[tuple[int, Score]]:
    """Return (queries, agreement) of each stage's labels said (N, B) with the victim's (B,)."""
    alike = (said == labels).sum(1).tolist()
    points = zip(queries.tolist(), alike, strict=True)
    return [(asked, metrics.proportion(same, len(labels), "lower")) for asked, same in points]


def queries_to(points: list[tuple[int, Score]], agreement: float) -> int | None:
    """Return the least queries from which on a curve stays at the agreement or above it."""
    found = None
    for queries, score in reversed(points):
        if score.value < agreement:
            break
        found = queries
    return found


def answers(module: nn.Module, x: Tensor) -> Tensor:
    """Return the logits (B, K) of a module in float64; the module is left as it was."""
    # A converted model has its weights as buffers.
    held = [*module.parameters(), *module.buffers()]
    single = any(w.is_floating_point() and w.dtype != torch.float64 for w in held)
    double = _doubled(module) if single else module
    with torch.no_grad(), frozen(double):
        # Labels, and callables that compute in float32, answer in float32 whatever is asked.
        return in_blocks(double, x.double()).double()


def parameter_error(victim: nn.Module, theft: Theft, domain: Domain) -> Difference | None:
    """Return how far the copy's parameters are from the victim's, modulo what no answer tells.

    None where it claims behaviour alone, or where the victim is not of the kind that it claims.
    """
    if theft.up_to in ("nothing", "shift", "shift and scale"):
        mine, theirs = affine_table(theft.copy, domain), affine_table(victim, domain)
        if mine is None or theirs is None:
            return None
        return affine_difference(mine, theirs, theft.up_to)
    if theft.up_to in ("units", "units and shift"):
        stolen, truth = hidden_layer(theft.copy, domain), hidden_layer(victim, domain)
        if stolen is None or truth is None or stolen.inner.shape != truth.inner.shape:
            return None
        return units_difference(stolen, truth, theft.up_to)
    return None


def affine_table(module: nn.Module, domain: Domain) -> Tensor | None:
    """Return weights and biases (K, D+1) of an affine module, read off its answers; else None."""

    def logits(x: Tensor) -> Tensor:
        return answers(module, x.view(-1, *domain.shape))

    table = _affine_through(logits, prod(domain.shape))
    x = _trial_points(domain)
    return table if _same(x @ table[:, :-1].T + table[:, -1], logits(x)) else None


def hidden_layer(module: nn.Module, domain: Domain) -> Hidden | None:
    """Return the parameters of a module that is one hidden ReLU layer; None if it is not."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if len(linear) != 2:
        return None
    seen: list[Tensor] = []
    double = _doubled(module)
    first = next(part for part in double.modules() if isinstance(part, nn.Linear))
    hook = first.register_forward_hook(lambda _, __, out: seen.append(out.detach()))

    def inside(x: Tensor) -> Tensor:
        seen.clear()
        count = len(x)
        with torch.no_grad(), frozen(double):
            double(x.view(-1, *domain.shape))
        return seen[0][:count]

    try:
        inner = _affine_through(inside, prod(domain.shape))
    finally:
        hook.remove()
    outer = linear[1].weight.detach().double()
    bias = linear[1].bias
    offset = torch.zeros(len(outer)).double() if bias is None else bias.detach().double()
    if outer.shape[1] != len(inner):
        return None
    x = _trial_points(domain)
    said = (x @ inner[:, :-1].T + inner[:, -1]).relu() @ outer.T + offset
    true = answers(module, x.view(-1, *domain.shape))
    return Hidden(inner, outer, offset) if _same(said, true) else None


def least_queries(victim: nn.Module, domain: Domain, terms: Terms) -> int | None:
    """Return the unknowns modulo symmetry over the numbers that an answer holds, rounded up.

    For labels an answer is one of K, so it cannot be counted in real numbers: each unknown takes a
    query at least. None for a model that is neither affine nor one hidden ReLU layer.
    """
    classes, size = domain.classes, prod(domain.shape)
    told = {Access.LOGITS: classes, Access.PROBABILITIES: classes - 1}.get(terms.answers, 1)
    if affine_table(victim, domain) is not None:
        shown = classes if terms.answers == Access.LOGITS else classes - 1
        unknown = shown * (size + 1) - (terms.answers == Access.LABELS)
    elif (net := hidden_layer(victim, domain)) is not None:
        units, shown = len(net.inner), classes if terms.answers == Access.LOGITS else classes - 1
        unknown = units * (size + 1) + shown * (units + 1) - units
    else:
        return None
    return ceil(unknown / told)


def _doubled(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double()


def _affine_through(answer: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Return the table (K, D+1) of the affine map through answers at 0 and the unit vectors."""
    points = torch.cat([torch.zeros(1, size), torch.eye(size)]).double()
    heights = answer(points)
    return torch.cat([(heights[1:] - heights[0]).T, heights[0][:, None]], 1)


def _trial_points(domain: Domain) -> Tensor:
    spread = torch.rand(
        64, prod(domain.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return domain.low + (domain.high - domain.low) * spread


def _same(said: Tensor, true: Tensor) -> bool:
    if said.shape != true.shape:
        return False
    return float((said - true).abs().max()) <= EXACT * (1 + float(true.abs().max()))


def _gap(mine: Tensor, theirs: Tensor, theft: Theft) -> float | None:
    if theft.up_to in ("nothing", "units"):
        return float((mine - theirs).abs().max())
    if theft.up_to in ("shift", "units and shift"):
        return float((centred(mine.T) - centred(theirs.T)).abs().max())
    return None
