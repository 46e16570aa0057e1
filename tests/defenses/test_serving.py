"""Guards in serving: what they do to an input, against closed forms and another JPEG."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Bayesian, Dataset, Domain, Split
from trustml.defenses.abstain import abstain
from trustml.defenses.bit_depth import bit_depth
from trustml.defenses.jpeg import jpeg
from trustml.defenses.median_filter import median_filter
from trustml.defenses.output_rounding import output_rounding
from trustml.defenses.randomised_smoothing import randomised_smoothing
from trustml.defenses.vae_purification import vae_purification
from trustml.errors import BadInput, BadOption, NotApplicable, UnknownName
from trustml.guarding import accepted, doubt
from trustml.models.bnn import bnn
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.store import trained
from trustml.training import seeded

IMAGE = Domain((1, 16, 16), 3)


class Linear(nn.Module):
    """A linear classifier of flat inputs."""

    def __init__(self, domain: Domain, scale: float = 1.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        size = int(np.prod(domain.shape))
        self.weight = nn.Parameter(scale * torch.randn(domain.classes, size, generator=draw))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) @ self.weight.T


def pictures(count: int = 6, domain: Domain = IMAGE, seed: int = 1) -> Tensor:
    """Return smooth pictures with noise, as photographs have, in the domain's box."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, domain.shape[0], 4, 4, generator=draw)
    fine = nn.functional.interpolate(coarse, domain.shape[1:], mode="bilinear")
    fine = (fine + 0.05 * torch.randn(fine.shape, generator=draw)).clamp(0, 1)
    return domain.low + (domain.high - domain.low) * fine


def test_bit_depth_rounds_to_its_shades() -> None:
    """Two bits in [-1, 2] are the shades -1, 0, 1, 2; the gradient is that of the shades' place."""
    domain = Domain((5,), 3, -1.0, 2.0)
    model = Linear(domain)
    x = torch.tensor([[-1.0, -0.4, 0.6, 1.4, 2.0]])
    shades = torch.tensor([[-1.0, 0.0, 1.0, 1.0, 2.0]])
    assert torch.allclose(bit_depth(model, domain, bits=2)(x), model(shades), atol=1e-5)
    for bpda, factor in ((True, 1.0), (False, 0.0)):
        inputs = x.clone().requires_grad_()
        bit_depth(model, domain, bits=2, bpda=bpda)(inputs)[:, 0].sum().backward()
        assert torch.allclose(inputs.grad, factor * model.weight[:1])  # type: ignore[arg-type]


def test_the_median_is_numpys() -> None:
    """The truth is numpy's median over mirrored windows; a lone white pixel is gone."""
    guard: Any = median_filter(Linear(IMAGE), IMAGE, size=3)
    x = pictures(2)
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    truth = np.median(windows, axis=(-2, -1))
    assert np.allclose(guard.change(x).numpy(), truth)
    lone = torch.zeros(1, 1, 16, 16)
    lone[..., 7, 7] = 1
    assert not guard.change(lone).any()


@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_libjpeg(quality: int, channels: int) -> None:
    """Pillow's JPEG without subsampling; its integers put a few frequencies a step further."""
    from PIL import Image

    domain = Domain((channels, 16, 20), 3)
    x = (pictures(4, domain) * 255).round() / 255
    guard: Any = jpeg(Linear(domain), domain, quality=quality)
    mine = guard.change(x)
    theirs = []
    for picture in (x * 255).round().byte().permute(0, 2, 3, 1).numpy():
        file = BytesIO()
        whole = Image.fromarray(picture.squeeze() if channels == 1 else picture)
        whole.save(file, "JPEG", quality=quality, subsampling=0)
        theirs.append(np.asarray(Image.open(file)).reshape(16, 20, channels))
    truth = torch.from_numpy(np.stack(theirs)).permute(0, 3, 1, 2) / 255
    far = (mine - truth).abs() * 255
    changed = (x - truth).abs().mean() * 255
    assert float(far.mean()) < 0.2 * float(changed), "mine is theirs, not the input"
    assert float((far > 1.5).float().mean()) < 0.25


def test_rounded_outputs_keep_their_labels() -> None:
    """With one decimal the told probabilities are the rounded ones; ties keep the model's label."""
    domain = Domain((8,), 3)
    model = Linear(domain, 0.3)
    guard = output_rounding(model, domain, decimals=1)
    x = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    exact, told = model(x).softmax(1), guard(x).exp()
    assert torch.equal(guard(x).argmax(1), model(x).argmax(1))
    assert torch.allclose(told, (exact * 10).round().div(10).clamp_min(0.01), atol=2e-3)
    assert len(told.detach().mul(10).round().unique()) <= 11


def test_smoothing_is_the_mean_probability_over_its_noise() -> None:
    """The mean is taken by hand; 4000 x 4 normal numbers have their sigma within 4 sd of it."""
    domain = Domain((4,), 2)
    model = Linear(domain)
    guard: Any = randomised_smoothing(model, domain, sigma=0.5, draws=16)
    x = torch.rand(5, 4)
    mean = torch.stack([model(x + one).softmax(1) for one in guard.noise]).mean(0)
    assert torch.allclose(guard(x).exp(), mean, atol=1e-6)
    many: Any = randomised_smoothing(model, domain, sigma=0.25, draws=4000)
    assert abs(float(many.noise.std()) - 0.25) < 0.006


def test_a_certificate_is_never_contradicted() -> None:
    """Points just inside each certified ball, moved straight at the border, are answered alike.

    A linear model's smoothed answer is the model's own, so straight at the border is the worst way;
    beyond the true distance it changes, so the radius is not trivially small either.
    """
    domain = Domain((4,), 2)
    model = Linear(domain)
    guard: Any = randomised_smoothing(model, domain, sigma=0.5, draws=16)
    x = torch.rand(30, 4, generator=torch.Generator().manual_seed(2))
    proof = guard.certify(x, 0.5, keyed(0, torch.arange(30)), draws=2000)
    normal = (model.weight[0] - model.weight[1]).detach()
    distance = (x @ normal).abs() / normal.norm()
    certified = proof.answer >= 0
    assert bool((proof.radius <= distance)[certified].all())
    assert float(proof.radius.sum()) > 0.3 * float(distance.clamp(max=1).sum())
    answers = model(x).argmax(1)
    towards = -normal / normal.norm() * (1 - 2 * answers)[:, None]
    moved = x + 0.999 * proof.radius[:, None].float() * towards
    assert torch.equal(model(moved).argmax(1)[certified], proof.answer[certified])


@pytest.mark.parametrize("score", ["mcp", "entropy", "margin", "max_logit", "energy"])
def test_abstention_keeps_its_rate_and_sends_the_unsure(score: Any) -> None:
    """Of 400 fresh inputs about 10 % are sent (sd 1.5 points, and as much for the threshold)."""
    domain = Domain((8,), 3)
    model = Linear(domain)
    guard: Any = abstain(model, domain, rate=0.1, detector=score)
    x = torch.rand(800, 8, generator=torch.Generator().manual_seed(4))
    assert bool(accepted(guard, x).all()), "before it has learnt it stands by everything"
    split = Split(x, model(x).argmax(1), torch.arange(800), 3)
    guard.learn(split.at(slice(2)), split.at(slice(400)), 0)
    passed = accepted(guard, x[400:])
    assert 0.03 < 1 - float(passed.double().mean()) < 0.17
    assert torch.equal(guard(x), model(x))
    if score in ("mcp", "margin", "entropy"):
        sure = model(x[400:]).detach().softmax(1).amax(1)
        assert float(sure[passed].mean()) > float(sure[~passed].mean())


def heap(count: int, seed: int, middle: float = 0.5) -> Split:
    """Return inputs (N, 8) around a place, with the classes that Linear gives them."""
    draw = torch.Generator().manual_seed(seed)
    x = (middle + 0.1 * torch.randn(count, 8, generator=draw)).clamp(0, 1)
    return Split(x, Linear(Domain((8,), 3))(x).argmax(1), torch.arange(count) + 1000 * seed, 3)


@pytest.mark.parametrize("detector", ["knn", "mahalanobis", "ash+energy", "feature_squeezing"])
def test_abstention_learns_with_any_detector(detector: str) -> None:
    """A tenth of fresh inputs is sent (600 of them, 300 for the threshold: sd 2.1 points).

    What it learns it has again from its state_dict, and before that it stands by everything.
    """
    domain = Domain((8,), 3)
    options: Any = {"rate": 0.1, "detector": detector, "samples": 300}
    if detector == "feature_squeezing":
        options["detector"] = "feature_squeezing:bits=3,window=0"
    guard: Any = abstain(Linear(domain), domain, **options)
    fresh = heap(600, 3)
    assert bool(guard.accepts(fresh.x).all())
    held = heap(600, 2)
    guard.learn(heap(400, 1), held, 0)
    # The ceil(301 · 0.9)-th of the 300 that it has not learnt from is the last to pass.
    assert int((~guard.accepts(held.x[300:])).sum()) == 29
    passed = guard.accepts(fresh.x)
    assert 0.03 < 1 - float(passed.double().mean()) < 0.18
    assert torch.equal(guard.doubt(fresh.x) <= 0, passed)
    other: Any = abstain(Linear(domain), domain, **options)
    other.load_state_dict(guard.state_dict())
    assert torch.equal(other.accepts(fresh.x), passed)


def test_abstention_by_distance_sends_what_is_far_and_has_a_slope() -> None:
    """A heap elsewhere is sent, whole; away from the known heap the doubt rises."""
    domain = Domain((8,), 3)
    guard: Any = abstain(Linear(domain), domain, detector="mahalanobis", samples=300)
    guard.learn(heap(400, 1), heap(400, 2), 0)
    far = heap(50, 4, middle=0.95)
    assert not bool(guard.accepts(far.x).any())
    x = far.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(doubt(guard, x).sum(), x)  # type: ignore[union-attr]
    back = (far.x - 0.05 * slope.sign()).clamp(0, 1)
    assert bool((guard.doubt(back) < guard.doubt(far.x)).all())


def test_a_gates_front_end_is_read_from_a_recipe_and_kept(tmp_path: Any) -> None:
    """The text with quotes reads back as itself, and the kept model accepts what it did."""
    text = 'mlp:hidden=[8],epochs=2+abstain:detector="react+energy",rate=0.1,samples=100'
    recipe = read_recipe(text)
    assert read_recipe(recipe.text).text == recipe.text
    dataset = Dataset("heaps", heap(300, 1), heap(200, 2), heap(50, 3), tuple("abc"), {})
    first = trained(recipe, dataset, 0, "cpu", tmp_path)
    again = trained(recipe, dataset, 0, "cpu", tmp_path)
    assert again.from_cache
    x = heap(200, 5).x
    assert torch.equal(accepted(first.module, x), accepted(again.module, x))
    assert not bool(accepted(again.module, x).all())


def test_a_guard_of_a_bayesian_model_is_bayesian() -> None:
    """Its draws are those of the model on the changed input; another model's guard has none."""
    with seeded(0):
        model: Any = bnn(IMAGE)
    model.eval()
    x = pictures(3)
    bits: Any = bit_depth(model, IMAGE, bits=1)
    assert isinstance(bits, Bayesian)
    assert torch.equal(bits.sample_logits(x, 5), model.sample_logits(x.round(), 5))
    for guard in (
        jpeg(model, IMAGE), median_filter(model, IMAGE), abstain(model, IMAGE),
        output_rounding(model, IMAGE), randomised_smoothing(model, IMAGE, draws=3),
        vae_purification(model, IMAGE, size=2, hidden=8), bit_depth(bits, IMAGE),
    ):  # fmt: skip
        assert isinstance(guard, Bayesian)
        assert guard.sample_logits(x, 5).shape == (5, 3, 3)
    rounded: Any = output_rounding(model, IMAGE)
    shown = rounded.sample_logits(x, 5).exp().mul(10).detach()
    assert torch.allclose(shown, shown.round().clamp_min(0.1), atol=0.02)
    assert not isinstance(bit_depth(Linear(IMAGE), IMAGE), Bayesian)


def test_an_outer_guard_passes_on_what_the_inner_sends() -> None:
    """Rounding before abstention: what is accepted is accepted of the rounded input."""
    domain = Domain((8,), 3)
    inner: Any = abstain(Linear(domain), domain, rate=0.3)
    x = torch.rand(300, 8, generator=torch.Generator().manual_seed(5))
    split = Split(x, torch.zeros(300).long(), torch.arange(300), 3)
    inner.learn(split, split, 0)
    outer = bit_depth(inner, domain, bits=1)
    assert torch.equal(accepted(outer, x), accepted(inner, x.round()))
    assert not bool(accepted(outer, x).all())


def test_purification_draws_what_it_has_learnt() -> None:
    """Two pictures with much noise come back nearer to the clean ones than they went in."""
    domain = Domain((1, 8, 8), 2)
    plain = torch.zeros(2, 1, 8, 8)
    plain[0, :, :4], plain[1, ..., :4] = 1, 1
    y = torch.arange(200) % 2
    split = Split(plain[y], y, torch.arange(200), 2)
    guard: Any = vae_purification(Linear(domain), domain, size=2, hidden=32, epochs=40)
    guard.learn(split, split.at(slice(20)), 0)
    noisy = plain + 0.3 * torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    noisy = noisy.clamp(0, 1)
    with torch.no_grad():
        drawn = guard.within.change(noisy)
    assert float((drawn - plain).square().mean()) < 0.3 * float((noisy - plain).square().mean())


def test_bad_options_and_inputs_are_named() -> None:
    """One line with what is allowed."""
    model, flat = Linear(IMAGE), Domain((5,), 3)
    with pytest.raises(BadOption, match="1 to 8"):
        bit_depth(model, IMAGE, bits=9)
    with pytest.raises(UnknownName, match="no detector named 'nearest'"):
        abstain(model, IMAGE, detector="nearest")
    with pytest.raises(BadOption, match="nothing can follow it"):
        abstain(model, IMAGE, detector="knn+energy")
    with pytest.raises(BadOption, match="2 or more"):
        abstain(model, IMAGE, samples=1)
    gated: Any = abstain(Linear(Domain((8,), 3)), Domain((8,), 3), detector="knn")
    with pytest.raises(BadInput, match="4 validation samples or more"):
        gated.learn(heap(50, 1), heap(3, 2), 0)
    with pytest.raises(BadOption, match="1 to 100"):
        jpeg(model, IMAGE, quality=0)
    with pytest.raises(BadOption, match="odd"):
        median_filter(model, IMAGE, size=4)
    with pytest.raises(BadOption, match="below 1"):
        abstain(model, IMAGE, rate=1.0)
    with pytest.raises(BadOption, match="sigma"):
        randomised_smoothing(model, IMAGE, sigma=0.0)
    with pytest.raises(BadOption, match="0 to 7"):
        output_rounding(model, IMAGE, decimals=8)
    for one in (jpeg, median_filter):
        with pytest.raises(NotApplicable, match="images"):
            one(model, flat)
    guard: Any = abstain(Linear(flat), flat, rate=0.01)
    few = Split(torch.rand(20, 5), torch.zeros(20).long(), torch.arange(20), 3)
    with pytest.raises(BadOption, match="99 validation samples"):
        guard.learn(few, few, 0)
