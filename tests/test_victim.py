"""A victim shows what its terms say and no more, counts every query, and names what is wrong."""

import pytest
import torch
from torch import Tensor, nn

from trustml.asking import on_levels
from trustml.contracts import Access, Domain, Terms
from trustml.errors import BadInput, BudgetSpent, MethodFailed, NotApplicable, Refused
from trustml.victim import Service, least_access, least_budget

DOMAIN = Domain((2, 3), 4)


class Affine(nn.Module):
    """A softmax regression whose weights are written here."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            self.head.weight.copy_(torch.arange(24.0).view(4, 6).sin())
            self.head.bias.copy_(torch.tensor([0.5, -0.5, 0.25, 0.0]))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def inputs(count: int = 5) -> Tensor:
    return torch.rand(count, 2, 3, generator=torch.Generator().manual_seed(0))


def served(**terms) -> Service:
    return Service(Affine(), DOMAIN, Terms(**terms))


def test_each_level_shows_its_part_of_the_softmax() -> None:
    """The truth is the model's own logits; a level's answer is a function of them."""
    x, logits = inputs(), Affine()(inputs()).detach()
    p, top = logits.softmax(1), logits.argmax(1)
    one_hot = nn.functional.one_hot(top, 4).float()
    for level, expected in {
        Access.LOGITS: logits,
        Access.PROBABILITIES: p,
        Access.TOP1: p * one_hot,
        Access.LABELS: one_hot,
    }.items():
        victim = served(answers=level)
        torch.testing.assert_close(victim(x), expected)
        assert victim.queries == 5


def test_float64_answers_are_the_float32_models_own_arithmetic_in_float64() -> None:
    victim, model = served(answers=Access.LOGITS, precision="float64"), Affine().double()
    x = inputs().double()
    torch.testing.assert_close(victim(x), model(x), rtol=0, atol=1e-15)
    assert victim.dtype == torch.float64
    assert victim(inputs()).dtype == torch.float64  # float32 inputs widen exactly


def test_rounding_leaves_multiples_of_the_last_decimal() -> None:
    shown = served(decimals=2)(inputs())
    torch.testing.assert_close(shown * 100, (shown * 100).round(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("explains", ["logit", "probability"])
def test_explanations_of_a_linear_model_are_its_weights(explains: str) -> None:
    """∇f_c = w_c; ∇p_c = p_c (w_c − Σ_j p_j w_j)."""
    victim, x = served(explains=explains), inputs()
    answers, gradients = victim.explain(x)
    label, weight = answers.argmax(1), Affine().head.weight.detach()
    expected = weight[label]
    if explains == "probability":
        p = answers.gather(1, label[:, None])
        expected = p * (weight[label] - answers @ weight)
    torch.testing.assert_close(gradients.flatten(1), expected, rtol=1e-5, atol=1e-6)
    assert victim.queries == 5
    with pytest.raises(NotApplicable, match="explains nothing"):
        served().explain(x)


def test_a_view_of_lower_access_shares_the_count() -> None:
    victim = served(answers=Access.LOGITS, budget=7)
    labels = victim.at(Access.LABELS)
    assert set(labels(inputs()).flatten().tolist()) == {0.0, 1.0}
    assert victim.queries == labels.queries == 5
    assert victim.left == 2
    assert labels.at(Access.LOGITS).terms.answers == Access.LABELS, "no way up"


def test_a_call_beyond_the_budget_is_neither_answered_nor_counted() -> None:
    victim = served(budget=6)
    victim(inputs())
    with pytest.raises(BudgetSpent, match="budget is 6 queries; 5 were asked and 5 more"):
        victim(inputs())
    assert victim.queries == 5
    victim(inputs(1))
    assert victim.left == 0


def test_an_answer_is_the_same_alone_and_in_company() -> None:
    """Up to float32 rounding (2^-24 of terms of sum below 6) of a row's place in a block."""
    victim, x = served(answers=Access.LOGITS), inputs(130)
    alone = torch.cat([victim(row[None]) for row in x])
    torch.testing.assert_close(victim(x), alone, rtol=0, atol=6 * 2**-23)
    assert torch.equal(victim(x), victim(x))


@pytest.mark.parametrize(
    ("terms", "x", "message"),
    [
        ({}, torch.zeros(1, 3, 2), r"shape \(3, 2\); this victim takes \(2, 3\)"),
        ({}, torch.full((1, 2, 3), 1.5), "reaches from 1.5 to 1.5"),
        ({}, torch.full((1, 2, 3), torch.nan), "not finite"),
        ({"inputs": "free"}, torch.full((1, 2, 3), torch.inf), "not finite"),
        ({"inputs": "8-bit"}, torch.full((1, 2, 3), 0.5), "between 8-bit levels"),
        ({}, torch.zeros(1, 2, 3, dtype=torch.float64), "round them yourself"),
        ({}, torch.zeros(1, 2, 3, dtype=torch.int64), "round them yourself"),
    ],
)
def test_inputs_outside_the_terms_are_refused(terms: dict, x: Tensor, message: str) -> None:
    victim = served(**terms)
    with pytest.raises(BadInput, match=message):
        victim(x)
    assert victim.queries == 0


def test_eight_bit_inputs_are_taken_and_free_ones_may_leave_the_box() -> None:
    x = on_levels(inputs(), DOMAIN)
    torch.testing.assert_close(x * 255, (x * 255).round(), rtol=0, atol=1e-4)
    assert served(inputs="8-bit")(x).shape == (5, 4)
    assert served(inputs="free")(inputs() * 100 - 50).shape == (5, 4)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"answers": Access.GRADIENTS}, "logits at most"),
        ({"answers": Access.LABELS, "decimals": 2}, "rounds probabilities"),
        ({"decimals": 0}, "decimals=0 is not allowed"),
        ({"budget": 0}, "budget=0 is not allowed"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(terms: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        served(**terms)


def test_a_model_that_misbehaves_is_named() -> None:
    def forgets(x: Tensor) -> Tensor:
        return torch.where(x.sum((1, 2))[:, None] > 0, Affine()(x).detach(), torch.nan)

    with pytest.raises(MethodFailed, match="answer to query 3 is not finite"):
        Service(forgets, DOMAIN)(torch.cat([inputs(2), torch.zeros(1, 2, 3)]))
    with pytest.raises(MethodFailed, match="6 values a query; it has 4 classes"):
        Service(lambda x: x.flatten(1), DOMAIN)(inputs())


def test_gates_see_labels_and_masks_change_what_is_shown() -> None:
    def nobody(x: Tensor, labels: Tensor) -> None:
        raise Refused(f"{len(labels)} queries turned away")

    victim = Service(Affine(), DOMAIN, gates=(nobody,))
    with pytest.raises(Refused, match="5 queries"):
        victim(inputs())
    assert victim.queries == 5, "a refused query was asked all the same"
    flat = Service(Affine(), DOMAIN, masks=(lambda p: torch.full_like(p, 0.25),))
    assert (flat(inputs()) == 0.25).all()
    with pytest.raises(BadInput, match="not logits"):
        Service(Affine(), DOMAIN, Terms(Access.LOGITS), masks=(lambda p: p,))


def test_what_a_method_needs_is_said() -> None:
    labels = served(answers=Access.LABELS, budget=3)
    with pytest.raises(NotApplicable, match="needs logits or more, and this victim answers labels"):
        least_access(labels, Access.LOGITS, "thief")
    with pytest.raises(NotApplicable, match="needs explanations"):
        least_access(labels, Access.GRADIENTS, "thief")
    with pytest.raises(NotApplicable, match=r"at least 7 queries .* 3 are left"):
        least_budget(labels, 7, "thief")


def test_the_model_is_left_as_it_was() -> None:
    model = Affine().train()
    Service(model, DOMAIN, Terms(Access.LOGITS, "logit", precision="float64")).explain(inputs())
    Service(model, DOMAIN, Terms(Access.LOGITS, "logit")).explain(inputs())
    assert model.training
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())
