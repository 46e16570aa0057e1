"""Every figure of docs/stealing.md: queries, errors, agreement, for each kind of answer.

    python comparisons/thefts.py [SEEDS [NAME …]]

Softmax regressions: N(0, 0.05²) weights on 784 inputs; N(0, 1/64) weights on 64; the digits' own,
trained (`logistic` on `digits`). Networks with one hidden ReLU layer: 64-H-10, trained (`mlp` on
`digits`); 784-128-10, drawn. 10 classes; parameter errors are modulo what the answers cannot tell:
the largest one, and the norm of all relative to the truth's. Agreement is on the test digits (on
uniform inputs for drawn weights) and on uniform inputs. Ratio is queries over the least number of
them. With NAMEs, only rows whose names hold one. Countermeasures are measured by
`trustml bench --stealer … --countermeasure …`.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from trustml.benchmarks.theft import answers, examine
from trustml.contracts import Access, Dataset, Domain, Split, Terms
from trustml.errors import TrustError
from trustml.models.logistic import logistic
from trustml.models.mlp import mlp
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
from trustml.training import seeded
from trustml.victim import Service

DIGITS = Domain((1, 8, 8), 10)


def drawn(domain: Domain, scale: float, seed: int) -> nn.Module:
    """Return an untrained softmax regression with weights and biases from N(0, scale²)."""
    model = logistic(domain)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.parameters():
            part.copy_(torch.randn(part.shape, generator=draw) * scale)
    return model


def uniform(domain: Domain, model: nn.Module) -> Split:
    """Return 2000 uniform inputs with the model's own labels."""
    x = torch.rand(2000, *domain.shape, generator=torch.Generator().manual_seed(1))
    return Split(x, answers(model, x).argmax(1), torch.arange(2000), domain.classes)


def steal(
    victim: nn.Module, test: Split, pool: torch.Tensor, terms: Terms, method: str, seed: int
) -> str:
    """Return the row of one theft."""
    service = Service(victim, test.domain, terms)
    began = time.process_time()
    thief = get("stealer", method).function
    try:
        theft = thief(service, pool, lambda: None, random=torch.Generator().manual_seed(seed))
    except TrustError as error:
        return f"{service.queries:>6} queries | {type(error).__name__}: {error}"
    seconds = time.process_time() - began
    found = examine(victim, theft, test, terms)
    error = found.parameters
    wrong = f"{error.largest:8.1e} {error.relative:8.1e}" if error else "       -        -"
    ratio = f"{found.ratio:5.2f}" if found.ratio else "    -"
    test_, unif = (found.scores[f"agreement ({name})"].value for name in ("test", "uniform"))
    alike = f"{test_:.4f} {unif:.4f}"
    return f"{theft.queries:>6} queries | {ratio} | {wrong} | {alike} | {seconds:4.1f} s"


@dataclass(frozen=True)
class Row:
    """A victim by its name and how it is made from a seed, its terms, and who steals it."""

    name: str
    made: Callable[[int], nn.Module]
    domain: Domain
    terms: Terms
    method: str


def rows(digits: Dataset) -> list[Row]:
    """Return all rows, in the order of the page."""

    def learnt(recipe: str) -> Callable[[int], nn.Module]:
        return lambda seed: trained(read_recipe(recipe), digits, seed, "cpu").module

    big, found = Domain((1, 28, 28), 10), []
    for answer in (Access.LOGITS, Access.PROBABILITIES):
        for precision in ("float64", "float32"):
            terms = Terms(answer, precision=precision, budget=785)
            found.append(
                Row("784 drawn", lambda s: drawn(big, 0.05, s), big, terms, "linear_exact")
            )
    top1 = Terms(Access.TOP1, precision="float64")
    found.append(Row("64 drawn", partial(drawn, DIGITS, 0.125), DIGITS, top1, "linear_top1"))
    found.append(Row("64 digits", learnt("logistic"), DIGITS, top1, "linear_top1"))
    for precision in ("float64", "float32"):
        terms = Terms(Access.LABELS, precision=precision)
        found.append(Row("64 digits", learnt("logistic"), DIGITS, terms, "linear_labels"))
    for decimals in (1, 2, 3, 4):
        terms = Terms(decimals=decimals)
        found.append(Row("64 digits", learnt("logistic"), DIGITS, terms, "linear_rounded"))
    for width in (16, 32, 64):
        for answer in (Access.LOGITS, Access.PROBABILITIES):
            for precision in ("float64", "float32"):
                terms = Terms(answer, precision=precision, inputs="free")
                made = learnt(f"mlp:hidden=[{width}]")
                found.append(Row(f"64-{width}-10 digits", made, DIGITS, terms, "relu_exact"))
    terms = Terms(Access.LOGITS, precision="float64", inputs="free")
    made = partial(network, big, 128)
    found.append(Row("784-128-10 drawn", made, big, terms, "relu_exact"))
    return found


def network(domain: Domain, width: int, seed: int) -> nn.Module:
    """Return an untrained network with one hidden layer."""
    with seeded(seed):
        return mlp(domain, hidden=(width,)).eval()


def main(seeds: int, names: list[str]) -> None:
    """Print the rows."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    digits: Dataset = get("data", "digits").function(folder=None)
    print(
        "victim, answers                           queries  | ratio | largest  relative | test  "
        "uniform"
    )
    for row in rows(digits):
        what = f"{row.terms.answers.name.lower()} {row.terms.precision}"
        if row.terms.decimals:
            what = f"{row.terms.decimals} decimals"
        if names and not any(name in f"{row.name} {what}" for name in names):
            continue
        for seed in range(seeds):
            model = row.made(seed)
            real = row.name.endswith("digits")
            test = digits.test if real else uniform(row.domain, model)
            pool = digits.validation.x if real else test.x[:0]
            line = steal(model, test, pool, row.terms, row.method, seed)
            print(f"{row.name:16} {what:22} {line}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, sys.argv[2:])
