"""Virtual adversarial directions against eigenvectors, and the divergence that TRADES climbs."""

import pytest
import torch
from torch import Tensor, nn

from trustml.attacks._losses import divergence
from trustml.attacks.pgd import pgd
from trustml.attacks.virtual_adversarial import virtual_adversarial
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.fixture(scope="module")
def sure() -> tuple[nn.Linear, Tensor, Tensor]:
    """Return a linear model of four classes, inputs far from the walls and far from its borders."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, x = nn.Linear(6, 4).double(), 0.5 + 0.1 * torch.rand(12, 6).double()
    with torch.no_grad():
        model.weight.mul_(0.5)
        model.bias.copy_(torch.tensor([2.0, 0.0, 0.5, 1.0]))
        return model, x, model(x).argmax(1)


def test_the_direction_is_the_hessians_first_eigenvector(
    sure: tuple[nn.Linear, Tensor, Tensor],
) -> None:
    """Of a linear model KL(x ‖ x + d) is ½ dᵀ Wᵀ (diag p − p pᵀ) W d up to third order."""
    model, x, y = sure
    budget = 0.05
    found = virtual_adversarial(
        model, x, y, Lp("l2", budget), random=keyed(0, torch.arange(12)), steps=200, xi=1e-3
    )
    p = model(x).softmax(1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    hessian = model.weight.T @ inner @ model.weight
    first = torch.linalg.eigh(hessian).eigenvectors[:, :, -1]
    move = (found - x).detach()
    assert torch.allclose(move.norm(dim=1), torch.full((12,), budget, dtype=torch.float64))
    # The gap to the second eigenvalue says how fast; 200 iterations leave nothing of it here.
    assert (move * first).sum(1).abs().div(budget).min() > 1 - 1e-4


def test_of_both_ways_the_one_with_more_divergence_is_kept(
    sure: tuple[nn.Linear, Tensor, Tensor],
) -> None:
    """Far off the divergence is not even: the point must beat its mirror image."""
    model, x, y = sure
    found = virtual_adversarial(
        model, x, y, Lp("l2", 0.3), random=keyed(0, torch.arange(12)), steps=30, xi=0.01
    )
    with torch.no_grad():
        clean, kept, mirrored = model(x), model(found), model(2 * x - found)
        open_ = kept.argmax(1) == y
        ahead, behind = divergence(kept, clean)[open_], divergence(mirrored, clean)[open_]
    assert int(open_.sum()) >= 6
    assert bool((ahead >= behind).all())
    assert bool((ahead > 1.01 * behind).any())


def test_a_black_picture_gets_the_whole_budget() -> None:
    """Half of a direction leads out of the box there; what can move takes all of the length."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        model = nn.Linear(8, 3)
    x = torch.zeros(5, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    threat = Lp("l2", 0.1)
    found = virtual_adversarial(model, x, y, threat, random=keyed(0, y))
    assert bool(threat.contains(found, x).all())
    with torch.no_grad():
        still = model(found).argmax(1) == y
    assert torch.allclose((found - x).norm(dim=1)[still], torch.tensor(0.1), rtol=1e-3)


def test_divergence_is_that_of_torch_distributions() -> None:
    """Torch's own Categorical knows KL in closed form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        clean, moved = torch.randn(9, 5).double(), torch.randn(9, 5).double()
    truth = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean), torch.distributions.Categorical(logits=moved)
    )
    assert torch.allclose(divergence(moved, clean), truth)


def test_pgd_climbs_the_divergence() -> None:
    """Along a linear model of two classes its maximum over a cube is a corner: known by hand."""
    model = nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]))
        model.bias.copy_(torch.tensor([3.0, 0.0]))
    x = torch.full((4, 3), 0.5).double()
    y = torch.zeros(4, dtype=torch.long)
    # The sign of a walk is that of its start; of twelve one leads the better way.
    random = keyed(0, torch.arange(4))
    found = pgd(model, x, y, Lp("linf", 0.1), random=random, loss="divergence", restarts=12)
    # From p = 0.94 the divergence grows faster where the logit falls: down along the weights.
    corner = x - 0.1 * torch.tensor([1.0, -1.0, 1.0]).double()
    assert torch.allclose(found, corner)


@pytest.mark.parametrize("options", [{"steps": 0}, {"xi": 0.0}, {"xi": 1.5}])
def test_bad_options(sure: tuple[nn.Linear, Tensor, Tensor], options: dict[str, float]) -> None:
    """What was given is named."""
    model, x, y = sure
    with pytest.raises(BadOption, match="virtual_adversarial"):
        virtual_adversarial(model, x, y, Lp("l2", 0.1), random=keyed(0, y), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("threat", "options"),
    [(Lp("linf", 0.1), {"start": False}), (Lp("linf", 0.1, targeted=True), {})],
)
def test_the_divergence_refuses_what_it_cannot(
    sure: tuple[nn.Linear, Tensor, Tensor], threat: Lp, options: dict[str, bool]
) -> None:
    """At the inputs it is flat, and it leads to no class."""
    model, x, y = sure
    with pytest.raises(BadOption, match="divergence"):
        pgd(model, x, y, threat, random=keyed(0, y), loss="divergence", **options)  # type: ignore[arg-type]
