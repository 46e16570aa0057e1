"""Minimum-norm attacks against truths: affine models, and a plane searched point by point."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.contracts import Access, Norm
from trustml.errors import MethodFailed, NotApplicable
from trustml.geometry import distance, project
from trustml.randomness import keyed
from trustml.registry import Plugin, get
from trustml.threats import Lp

OPTIONS: dict[str, dict[str, Any]] = {
    "alma": {"steps": 500},
    "carlini_wagner": {"steps": 60, "searches": 6},
    "ddn": {"steps": 100},
    "deepfool": {"steps": 40},
    "ead": {"steps": 60, "searches": 6},
    "fab": {"steps": 40},
    "fmn": {"steps": 60},
    "pdpgd": {"steps": 500},
    "sigma_zero": {"steps": 150},
    "sparse_fool": {"steps": 40},
    "superdeepfool": {"steps": 40},
}
# The first point that wins is its last: there is nothing to be stopped.
WITHOUT_STOP = {"deepfool"}
# The first sphere is as wide as the box, and its steps as long: single samples take most looks.
STOP_LATE = {"ddn"}
ATTACKS = [
    pytest.param(get("attack", name), norm, OPTIONS[name], id=f"{name}-{norm}")
    for name in OPTIONS
    for norm in get("attack", name).facts["norms"]
]
every_attack = pytest.mark.parametrize(("plugin", "norm", "options"), ATTACKS)


def _stopping(plugin: Plugin) -> dict[str, bool]:
    return {} if plugin.name in WITHOUT_STOP else {"stop_inside": True}


EVERYWHERE = float("inf")
# The box of the affine scene, so that nothing can rely on [0, 1].
LOW, HIGH = -1.0, 3.0


@dataclass(frozen=True)
class Scene:
    """A model and rightly read inputs, but for the last, in the box [LOW, HIGH]."""

    model: nn.Sequential
    x: Tensor
    y: Tensor

    def found(
        self, plugin: Plugin, threat: Lp, y: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Handed]:
        """Return what the attack finds, and the model that counted."""
        handed = Handed(self.model, Access.GRADIENTS, len(self.x), block=8)
        random = keyed(3, torch.arange(len(self.x)))
        goals = self.y if y is None else y
        return plugin.function(handed, self.x, goals, threat, random=random, **options), handed


@pytest.fixture(scope="module")
def affine() -> Scene:
    """Four classes, twelve entries, of which some stand at a wall; computed in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(_Double(), nn.Flatten(), nn.Linear(12, 4).double())
        x = LOW + (HIGH - LOW) * torch.rand(12, 1, 3, 4)
        x = torch.where(torch.rand_like(x) < 0.25, torch.where(x > 1, HIGH, LOW), x)
        with torch.no_grad():
            y = model(x).argmax(1)
        y[-1] = (y[-1] + 1) % 4
    return Scene(model, x, y)


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def _truth(scene: Scene, norm: Norm) -> Tensor:
    head = scene.model[-1]
    return minimal_distance(head.weight, head.bias, scene.x, scene.y, norm, (LOW, HIGH)).detach()


@every_attack
def test_affine(plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene) -> None:
    """Closed form: never nearer than possible, at most a quarter farther in the median."""
    found, _ = affine.found(plugin, Lp(norm, EVERYWHERE, LOW, HIGH), **options)
    assert bool((affine.model(found).argmax(1) != affine.y).all())
    ratio = distance(found, affine.x, norm)[:-1] / _truth(affine, norm)[:-1]
    assert ratio.min() >= 1 - 1e-6
    assert ratio.median() <= 1.25
    assert ratio.max() <= 2
    assert torch.equal(found[-1], affine.x[-1]), "what is misread already stays as it is"


@every_attack
def test_affine_targeted(
    plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene
) -> None:
    """The truth is a linear or quadratic programme: the wanted class ahead of all three others."""
    wanted = affine.model(affine.x).topk(2, dim=1).indices[:, 1]
    wanted[-1] = affine.model(affine.x)[-1].argmax()
    threat = Lp(norm, EVERYWHERE, LOW, HIGH, targeted=True)
    found, _ = affine.found(plugin, threat, wanted, **options)
    assert bool((affine.model(found).argmax(1) == wanted).all())
    least = torch.tensor([_targeted_truth(affine, i, wanted, norm) for i in range(11)])
    ratio = distance(found, affine.x, norm)[:-1] / least
    assert ratio.min() >= 1 - 1e-5
    assert ratio.median() <= 1.25
    assert torch.equal(found[-1], affine.x[-1])


def _targeted_truth(scene: Scene, row: int, wanted: Tensor, norm: Norm) -> float:
    """Return the least norm of a move d = up − down in the box with slopes · d ≥ gaps, by scipy."""
    from scipy.optimize import linprog, minimize

    head, x = scene.model[-1], scene.x[row].flatten().double().numpy()
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    others = np.arange(4) != int(wanted[row])
    slopes = weight[wanted[row]] - weight[others]
    gaps = -(slopes @ x + bias[wanted[row]] - bias[others])
    box = list(zip(LOW - x, HIGH - x, strict=True))
    size = len(x)
    if norm == "l0":
        return _fewest(slopes, gaps, LOW - x, HIGH - x)
    if norm == "l2":
        best = minimize(
            lambda d: d @ d, np.zeros(size), jac=lambda d: 2 * d, bounds=box, method="SLSQP",
            constraints={
                "type": "ineq", "fun": lambda d: slopes @ d - gaps, "jac": lambda d: slopes
            },
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert best.success
        return float(np.linalg.norm(best.x))
    # Variables d and bounds on its sizes: one for all (Linf), or one each (L1).
    count = 1 if norm == "linf" else size
    which = np.ones((size, 1)) if norm == "linf" else np.eye(size)
    rows = [[-slopes, np.zeros((3, count))], [np.eye(size), -which], [-np.eye(size), -which]]
    best = linprog(
        np.r_[np.zeros(size), np.ones(count)], np.block(rows), np.r_[-gaps, np.zeros(2 * size)],
        bounds=[*box, *[(0, None)] * count],
    )  # fmt: skip
    assert best.success
    return float(best.fun)


def _fewest(slopes: Any, gaps: Any, low: Any, high: Any) -> float:
    """Return the least number of entries that must move: a mixed-integer programme, by scipy."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    size, one = len(low), np.eye(len(low))
    # Variables: the moves, then for each whether it may be other than 0.
    answer = milp(
        np.r_[np.zeros(size), np.ones(size)],
        integrality=np.r_[np.zeros(size), np.ones(size)],
        bounds=Bounds(np.r_[low, np.zeros(size)], np.r_[high, np.ones(size)]),
        constraints=[
            LinearConstraint(np.c_[slopes, 0 * slopes], gaps, np.inf),
            LinearConstraint(np.c_[one, -np.diag(high)], -np.inf, 0),
            LinearConstraint(np.c_[one, -np.diag(low)], 0, np.inf),
        ],
    )
    assert answer.success
    return float(round(answer.fun))


@pytest.fixture(scope="module")
def plane() -> Scene:
    """A network on two entries, so that every point of a fine grid can be asked for its class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 3))
        with torch.no_grad():
            model[0].weight.mul_(3)
            x = LOW + (HIGH - LOW) * torch.rand(24, 2)
            y = model(x).argmax(1)
    return Scene(model, x, y)


@every_attack
def test_a_network_on_the_plane(
    plugin: Plugin, norm: Norm, options: dict[str, Any], plane: Scene
) -> None:
    """Brute force over 601² points: none is nearer than the nearest, most are hardly farther.

    Where the network is flat, an attack that follows slopes may find nothing: a few are let off.
    """
    found, _ = plane.found(plugin, Lp(norm, EVERYWHERE, LOW, HIGH), **options)
    won = plane.model(found).argmax(1) != plane.y
    assert won.float().mean() > 0.8
    line = torch.linspace(LOW, HIGH, 601)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        classes = plane.model(grid).argmax(1)
    if norm == "l0":
        # One entry suffices where a line through the input along an axis is misread somewhere.
        lines = plane.x.repeat(2, 601, 1, 1)
        lines[0, :, :, 0], lines[1, :, :, 1] = line[:, None], line[:, None]
        with torch.no_grad():
            misread = plane.model(lines).argmax(-1) != plane.y
        fewest = 2 - misread.any(1).any(0).long()
        far = distance(found, plane.x, norm)[won]
        assert bool((far >= fewest[won]).all())
        assert (far == fewest[won]).float().mean() > 0.75
        return
    order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}[norm]
    least = torch.stack(
        [
            torch.linalg.vector_norm(grid[classes != label] - x, ord=order, dim=1).amin()
            for x, label in zip(plane.x, plane.y, strict=True)
        ]
    )
    # A misread point lies in a cell whose corners the grid has: a cell's width is all it can miss.
    far, cell = distance(found, plane.x, norm), 2 * (HIGH - LOW) / 600
    far = far.masked_fill(~won, torch.inf)
    assert bool((far >= least - cell).all())
    assert (far / (least + cell)).median() <= 1.25


@every_attack
def test_stopping_inside_saves_passes(
    plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene
) -> None:
    """With twice the least budget a sample is soon inside, and then left alone."""
    if plugin.name in WITHOUT_STOP:
        pytest.skip("a sample is done when it has won")
    epsilon = 2 * _truth(affine, norm)
    threat = Lp(norm, epsilon, LOW, HIGH)
    found, stopped = affine.found(plugin, threat, **options, stop_inside=True)
    assert bool((affine.model(found).argmax(1) != affine.y).all())
    assert bool(threat.contains(found, affine.x).all())
    _, gone_on = affine.found(plugin, threat, **options)
    assert bool((stopped.backwards <= gone_on.backwards).all())
    assert float(stopped.backwards.sum()) < 0.75 * float(gone_on.backwards.sum())
    if plugin.name not in STOP_LATE:
        assert bool((stopped.backwards[:-1] < 0.9 * gone_on.backwards[:-1]).all())
    assert stopped.backwards[-1] == gone_on.backwards[-1] == 0


@every_attack
def test_an_infinite_budget_ends_no_search(
    plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene
) -> None:
    """Any winning point is inside and ends a sample's search, but having none does not."""
    found, _ = affine.found(plugin, Lp(norm, EVERYWHERE, LOW, HIGH), **options, **_stopping(plugin))
    assert bool((affine.model(found).argmax(1) != affine.y).all())


@every_attack
def test_the_budget_changes_nothing_unless_asked(
    plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene
) -> None:
    """The search is that of the whole box; what it finds beyond the budget is pulled inside."""
    free, _ = affine.found(plugin, Lp(norm, EVERYWHERE, LOW, HIGH), **options)
    epsilon = _truth(affine, norm) * torch.linspace(0.5, 2, len(affine.x))
    threat = Lp(norm, epsilon, LOW, HIGH)
    found, _ = affine.found(plugin, threat, **options)
    assert torch.equal(found, project(free, affine.x, norm, threat.budget(affine.x), (LOW, HIGH)))


@every_attack
def test_parts_of_a_batch(
    plugin: Plugin, norm: Norm, options: dict[str, Any], affine: Scene
) -> None:
    """A sample's companions, and the moment at which they leave, change nothing."""
    threat = Lp(norm, 1.2 * _truth(affine, norm), LOW, HIGH)
    together, _ = affine.found(plugin, threat, **options, **_stopping(plugin))
    for rows in (torch.tensor([7]), torch.arange(12).flip(0)[2:9]):
        handed = Handed(affine.model, Access.GRADIENTS, len(rows), block=8)
        alone = plugin.function(
            handed, affine.x[rows], affine.y[rows], threat.at(rows), random=keyed(3, rows),
            **options, **_stopping(plugin),
        )  # fmt: skip
        assert torch.equal(alone, together[rows])


@every_attack
def test_nothing_to_be_found(plugin: Plugin, norm: Norm, options: dict[str, Any]) -> None:
    """A model that always answers 1, with a gradient that leads nowhere: the inputs come back."""
    x, y = torch.rand(3, 5), torch.ones(3, dtype=torch.long)
    random = keyed(0, torch.arange(3))

    def stubborn(z: Tensor) -> Tensor:
        return torch.stack([z.sum(1) * 1e-3, z.sum(1) * 0 + 9, -z[:, 0]], 1)

    threat = Lp(norm, EVERYWHERE)
    assert torch.equal(plugin.function(stubborn, x, y, threat, random=random, **options), x)


@every_attack
def test_models_that_cannot_be_attacked(
    plugin: Plugin, norm: Norm, options: dict[str, Any]
) -> None:
    """No gradient, and no number: each is said."""
    x, y = torch.rand(3, 5), torch.ones(3, dtype=torch.long)
    random, threat = keyed(0, torch.arange(3)), Lp(norm, EVERYWHERE)
    with pytest.raises(NotApplicable, match="no gradient"):
        plugin.function(
            lambda z: (z[:, :3] * 0 + torch.eye(3)[1]).detach(),
            x,
            y,
            threat,
            random=random,
            **options,
        )
    with pytest.raises(MethodFailed, match="NaN"):
        plugin.function(
            lambda z: torch.where((z > 0.999).any(), torch.nan, z[:, :3] * 0.1 + torch.eye(3)[1]),
            x, y, threat, random=random, **options,
        )  # fmt: skip
