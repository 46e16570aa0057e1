"""Softmax regressions stolen from each kind of answer: queries, errors, agreement.

    python comparisons/softmax_theft.py [SEEDS]

Victims: N(0, 0.05²) weights on 784 inputs; N(0, 1/64) weights on 64; the digits' own, trained
(`logistic` on `digits`). 10 classes, inputs in [0, 1]. Parameter errors are modulo what the answers
cannot tell: the largest one, and for labels, whose scale is unknown, the norm of all relative to
the truth's. Agreement is on the test digits (or on uniform inputs, for random weights). Ratio is
queries over the least number of them. Then: the trained victim behind each countermeasure.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from trustml import countermeasures
from trustml.benchmarks.theft import answers, examine
from trustml.contracts import Access, Dataset, Domain, Split, Terms
from trustml.errors import TrustError
from trustml.models.logistic import logistic
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.store import trained
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
    victim: nn.Module, test: Split, pool: torch.Tensor, terms: Terms, method: str, seed: int,
    masks: tuple = (), gates: tuple = (), **options: object,
) -> str:  # fmt: skip
    """Return the row of one theft."""
    service = Service(victim, test.domain, terms, masks=masks, gates=gates)
    began = time.process_time()
    thief = get("stealer", method).function
    try:
        theft = thief(
            service, pool, lambda: None, random=torch.Generator().manual_seed(seed), **options
        )
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


def main(seeds: int) -> None:
    """Print the rows."""
    dataset: Dataset = get("data", "digits").function(folder=None)
    learnt = trained(read_recipe("logistic"), dataset, 0, "cpu").module
    print(
        "victim, answers                      queries  | ratio | largest  relative | test  uniform"
    )
    big = Domain((1, 28, 28), 10)
    rows: list[tuple[str, Callable[[int], nn.Module], Domain, Terms, str, dict[str, object]]] = []
    for answer in (Access.LOGITS, Access.PROBABILITIES):
        for precision in ("float64", "float32"):
            rows.append(
                ("784 drawn", lambda s: drawn(big, 0.05, s), big,
                 Terms(answer, precision=precision, budget=785), "linear_exact", {})
            )  # fmt: skip
    rows.append(("64 drawn", lambda s: drawn(DIGITS, 0.125, s), DIGITS,
                 Terms(Access.TOP1, precision="float64"), "linear_top1", {}))  # fmt: skip
    for precision in ("float64", "float32"):
        rows.append(("64 digits", lambda _: learnt, DIGITS,
                     Terms(Access.LABELS, precision=precision), "linear_labels", {}))  # fmt: skip
    for decimals in (1, 2, 3, 4):
        rows.append(("64 digits", lambda _: learnt, DIGITS,
                     Terms(decimals=decimals), "linear_rounded", {}))  # fmt: skip
    for name, make, domain, terms, method, options in rows:
        for seed in range(seeds):
            model = make(seed)
            real = name.endswith("digits")
            test = dataset.test if real else uniform(domain, model)
            pool = dataset.validation.x if real else test.x[:0]
            what = f"{terms.answers.name.lower()} {terms.precision}"
            if terms.decimals:
                what = f"{terms.decimals} decimals"
            row = steal(model, test, pool, terms, method, seed, **options)
            print(f"{name:10} {what:22} {row}", flush=True)
    behind(learnt, dataset)


def behind(victim: nn.Module, dataset: Dataset) -> None:
    """Print what each countermeasure does to thieves, and to accuracy and ordinary traffic."""
    test, pool = dataset.test, dataset.validation.x
    made = {
        "none": lambda: {},
        "rounded(2)": lambda: {"masks": (countermeasures.rounded(2),)},
        "noisy(0.05)": lambda: {"masks": (countermeasures.noisy(0.05, torch.Generator()),)},
        "reverse_sigmoid": lambda: {"masks": (countermeasures.reverse_sigmoid(),)},
        "misinforming": lambda: {"masks": (countermeasures.misinforming(),)},
        "near_data(0.01)": lambda: {"gates": (countermeasures.near_data(dataset.train.x),)},
        "account(64)": lambda: {"gates": (countermeasures.account(64),)},
        "Monitor": lambda: {"gates": (countermeasures.Monitor(refuses=True),)},
    }
    for name, make in made.items():
        for method in ("linear_exact", "linear_rounded", "linear_labels"):
            level = Access.LABELS if method == "linear_labels" else Access.PROBABILITIES
            extra = {"checks": 0} if method == "linear_exact" else {}
            row = steal(victim, test, pool, Terms(level), method, 0, **make(), **extra)
            print(f"{name:16} {method:15} {row}", flush=True)
        right, refused = 0, 0
        service = Service(victim, test.domain, Terms(), **make())
        for x, y in zip(test.x, test.y, strict=True):
            try:
                right += int(service(x[None]).argmax(1) == y)
            except TrustError:
                refused += 1
        print(f"{name:16} ordinary traffic: {right / len(test):.4f} right, "
              f"{refused / len(test):.4f} refused", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
