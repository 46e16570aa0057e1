"""A callable that answers for itself is a victim like any other: same answers, nothing added."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadInput, BudgetSpent, MethodFailed, NotApplicable
from trustml.fingerprint import fingerprint
from trustml.oracle import oracle
from trustml.stealing.linear_exact import linear_exact
from trustml.symmetry import affine_difference
from trustml.victim import Service

DOMAIN = Domain((6,), 4)
X = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))


def weights() -> Tensor:
    return torch.arange(28.0).view(4, 7).sin().double()


def logits(x: Tensor) -> Tensor:
    return x.double() @ weights()[:, :-1].T + weights()[:, -1]


def words(level: Access, form: str) -> Any:
    """What an endpoint of that level says, in several forms."""

    def answer(x: Tensor) -> Any:
        z = logits(x)
        p, top = z.softmax(1), z.argmax(1)
        one_hot = nn.functional.one_hot(top, 4)
        tables = {Access.LOGITS: z, Access.PROBABILITIES: p, Access.TOP1: p * one_hot}
        if form == "table":
            return tables.get(level, one_hot)
        if form == "array":
            return tables.get(level, one_hot).numpy()
        if level == Access.TOP1:
            return top.tolist(), p.amax(1).numpy()
        return top.numpy() if form == "short" else top.tolist()

    return answer


@pytest.mark.parametrize(
    ("level", "form"),
    [(level, form) for level in list(Access)[:4] for form in ("table", "array")]
    + [(Access.TOP1, "short"), (Access.LABELS, "short"), (Access.LABELS, "list")],
)
def test_it_answers_as_a_service_of_the_same_model_does(level: Access, form: str) -> None:
    terms = Terms(level, precision="float64")
    mine, theirs = oracle(words(level, form), DOMAIN, terms), Service(logits, DOMAIN, terms)
    torch.testing.assert_close(mine(X), theirs(X), rtol=0, atol=1e-15)
    assert mine.queries == 5
    assert mine.at(Access.LABELS)(X).sum(1).eq(1).all()
    with pytest.raises(NotApplicable):
        mine.explain(X)


def test_no_row_is_asked_that_nobody_wanted() -> None:
    """Endpoints charge by the row: 5 and 70 rows are 5 and 70."""
    seen: list[int] = []

    def answer(x: Tensor) -> Tensor:
        seen.append(len(x))
        return logits(x)

    victim = oracle(answer, DOMAIN, Terms(Access.LOGITS, precision="float64", budget=75))
    victim(X)
    victim(X[:1].expand(70, 6))
    assert (sum(seen), victim.queries) == (75, 75)
    with pytest.raises(BudgetSpent):
        victim(X)
    assert sum(seen) == 75


def test_thieves_work_on_it() -> None:
    """Probabilities give the table up to a shift."""
    random = torch.Generator().manual_seed(0)
    level = Access.PROBABILITIES
    victim = oracle(words(level, "array"), DOMAIN, Terms(level, precision="float64"))
    assert fingerprint(victim, random).methods[0] == "linear_exact"
    theft = linear_exact(victim, torch.empty(0, 6), lambda: None, random=random)
    head = theft.copy.head
    table = torch.cat([head.weight, head.bias[:, None]], 1).detach()
    assert affine_difference(table, weights(), "shift").largest < 1e-12


@pytest.mark.parametrize(
    ("level", "said", "message"),
    [
        (Access.LOGITS, torch.zeros(5, 3), r"\(5, 3\) to 5 queries, where \(5, 4\)"),
        (Access.LOGITS, torch.zeros(4, 4), r"\(4, 4\) to 5 queries"),
        (Access.LOGITS, torch.full((5, 4), torch.nan), "answer to query 1 is not finite"),
        (Access.PROBABILITIES, np.full((5, 4), torch.inf), "query 1 is not finite"),
        (Access.PROBABILITIES, torch.full((5, 4), 2.0), "they look like logits"),
        (Access.TOP1, torch.full((5, 4), 0.25), "state probabilities"),
        (Access.TOP1, ([0, 1], [0.5, 0.5]), r"\(2,\) to 5 queries: one label"),
        (Access.LABELS, [0, 1, 2, 3, 4], "labels from 0 to 4; 4 classes are 0 to 3"),
        (Access.LABELS, [0.5] * 5, "labels from 0.5"),
        (Access.LABELS, "cat", "answered a str"),
        (Access.LABELS, None, "answered a NoneType"),
    ],
)
def test_what_it_says_wrongly_is_named(level: Access, said: Any, message: str) -> None:
    victim = oracle(lambda x: said, DOMAIN, Terms(level))
    with pytest.raises(MethodFailed, match=message):
        victim(X)


def test_terms_that_it_cannot_keep() -> None:
    with pytest.raises(BadInput, match="no gradients"):
        oracle(logits, DOMAIN, Terms(explains="logit"))
    with pytest.raises(BadInput, match="told labels cannot answer probabilities"):
        Service(logits, DOMAIN, Terms(), speaks=Access.LABELS)
