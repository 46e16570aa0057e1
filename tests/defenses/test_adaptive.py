"""Guards in serving against who knows them: an attack through the guard does no worse than around.

The static attacker walks on the bare model, and what it finds is shown to the guarded one; the
adaptive attacker walks through the guard. Both are judged by the guarded model's answers.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks.pgd import pgd
from trustml.contracts import Learns, Split, Training
from trustml.data.digits import digits
from trustml.defenses.bit_depth import bit_depth
from trustml.defenses.jpeg import jpeg
from trustml.defenses.median_filter import median_filter
from trustml.defenses.output_rounding import output_rounding
from trustml.defenses.randomised_smoothing import randomised_smoothing
from trustml.defenses.vae_purification import vae_purification
from trustml.guarding import accepted
from trustml.models.cnn import cnn
from trustml.randomness import keyed
from trustml.threats import Lp
from trustml.training import fit, seeded

EPSILON = 0.15
GUARDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "jpeg": (jpeg, {"quality": 50}),
    "bit_depth": (bit_depth, {"bits": 2}),
    "median_filter": (median_filter, {"size": 3}),
    "output_rounding": (output_rounding, {"decimals": 1}),
    "randomised_smoothing": (randomised_smoothing, {"sigma": 0.1, "draws": 8}),
    "vae_purification": (vae_purification, {"size": 16, "hidden": 64, "epochs": 15}),
}


@dataclass(frozen=True)
class Scene:
    """A small CNN that reads digits, clean test samples that it reads rightly, and the rest."""

    model: Any
    train: Split
    held: Split
    test: Split


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Train for a few seconds; 100 samples have an sd of 5 points at most."""
    data = digits(folder=None)
    with seeded(0):
        model = cnn(data.train.domain, channels=(8, 16), kernel=3, hidden=(32,))
    fit(model, data.train, data.validation, Training(epochs=12, learning_rate=3e-3), 0)
    with torch.no_grad():
        right = model(data.test.x).argmax(1) == data.test.y
    return Scene(model, data.train, data.validation, data.test.at(right).at(slice(100)))


def guarded(scene: Scene, name: str, **more: Any) -> Any:
    """Return the model behind the guard, which has learnt if it must."""
    plugin, options = GUARDS[name]
    with seeded(0):
        guard = plugin(scene.model, scene.train.domain, **options | more)
    if isinstance(guard, Learns):
        with frozen(scene.model), seeded(0):
            guard.learn(scene.train, scene.held, 0)
    return guard.eval()


def misread(attacked: Any, judge: Any, test: Split) -> float:
    """Return the share that `judge` misreads after a walk on `attacked`."""
    threat = Lp("linf", EPSILON, 0.0, 1.0)
    with frozen(attacked), frozen(judge):
        found: Tensor = pgd(attacked, test.x, test.y, threat, random=keyed(0, test.ids), steps=20)
        assert bool(threat.contains(found, test.x).all())
        with torch.no_grad():
            return float((judge(found).argmax(1) != test.y).double().mean())


@pytest.mark.parametrize("name", GUARDS)
def test_who_attacks_through_a_guard_does_no_worse_than_around_it(scene: Scene, name: str) -> None:
    """The bare model falls nearly always; a guard that seemed to help must not by hiding slopes.

    Two walks of 20 steps from random points differ by a few samples of 100.
    """
    guard = guarded(scene, name)
    static, adaptive = misread(scene.model, guard, scene.test), misread(guard, guard, scene.test)
    assert adaptive >= static - 0.03, (static, adaptive)
    assert adaptive > 0.5, (static, adaptive)


@pytest.mark.parametrize("name", ["jpeg", "bit_depth", "output_rounding"])
def test_hidden_slopes_only_look_like_safety(scene: Scene, name: str) -> None:
    """Without the straight-through gradient the same walk fails; who knows the guard puts it in."""
    hidden = misread(guarded(scene, name, bpda=False), guarded(scene, name), scene.test)
    shown = misread(guarded(scene, name), guarded(scene, name), scene.test)
    assert shown > hidden + 0.3, (hidden, shown)


def test_a_guard_with_noise_of_its_own_answers_the_same_twice(scene: Scene) -> None:
    """Its expectation is over fixed noise, so that the walk above is one over the transformation.

    Fresh noise at each call would need a mean over many; here one gradient is that mean's.
    """
    guard = guarded(scene, "randomised_smoothing")
    x = scene.test.x[:20]
    with torch.no_grad():
        assert torch.equal(guard(x), guard(x))
        assert bool(accepted(guard, x).all())
    one = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(guard(one)[:, 3].exp().sum(), one)
    parts = []
    for noise in guard.noise:
        point = (x + noise).requires_grad_()
        parts += torch.autograd.grad(scene.model(point).softmax(1)[:, 3].sum(), point)
    assert torch.allclose(slope, torch.stack(parts).mean(0), atol=1e-5)
