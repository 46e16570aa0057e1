"""Densities: the mixture over principal components, the autoencoder, and complexity in bits."""

import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from trustml.bayes.cavi_gaussian import fit, log_density
from trustml.bayes.coordinate_ascent import Climb
from trustml.contracts import Outputs
from trustml.detectors._complexity import LEVEL, bernoulli_bits, deflated_bits
from trustml.detectors._shared_noise import SharedNoise
from trustml.detectors.cavi_density import cavi_density
from trustml.detectors.vae import vae
from trustml.errors import BadInput, BadOption, NotApplicable


def test_cavi_density_against_scikit_learn_s_components(model, made) -> None:
    """The mixture on scikit-learn's PCA; a mixture does not care which way an axis points."""
    train, test = made(300), made(40, seed=2)
    pca = PCA(n_components=3).fit(train.features.double().numpy())
    climb = Climb(sweeps=50, tolerance=1e-4, restarts=1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    points = torch.from_numpy(pca.transform(train.features.double().numpy()))
    belief = fit(points[order], components=4, climb=climb).belief
    reduced = torch.from_numpy(pca.transform(test.features.double().numpy()))
    score = cavi_density(model, train, train, dimensions=3, components=4)(test)
    assert torch.allclose(score, -log_density(belief, reduced), rtol=1e-6)


def test_cavi_density_sees_what_lies_between_and_beyond(model, made) -> None:
    """Two clouds at ±5: the middle between them is odder than either, far out is oddest."""
    cloud = torch.randn(400, 12, generator=torch.Generator().manual_seed(2))
    cloud[:, 0] += torch.where(torch.arange(400) < 200, 5.0, -5.0)
    train = replace(made(400), features=cloud)
    at = torch.zeros(3, 12)
    at[:, 0] = torch.tensor([5.0, 0.0, 30.0])
    inside, between, beyond = cavi_density(model, train, train)(replace(made(3), features=at))
    assert inside + 3 < between < beyond


def test_cavi_density_takes_no_more_components_than_there_are(model, made) -> None:
    flat = torch.zeros(200, 12)
    flat[:, :2] = made().features[:, :2]
    train = replace(made(), features=flat)
    assert bool(cavi_density(model, train, train)(train).isfinite().all())
    with pytest.raises(NotApplicable, match="constant"):
        cavi_density(model, replace(train, features=torch.ones(200, 3)), train)
    with pytest.raises(BadInput, match="10 or more"):
        cavi_density(model, made(9), made(9))
    with pytest.raises(BadOption, match="sweeps=0"):
        cavi_density(model, train, train, sweeps=0)


def digits() -> tuple[Outputs, Outputs]:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    whole = Outputs(torch.zeros(len(x), 10), torch.ones(len(x), 1), x, torch.tensor(labels))
    parts = [slice(0, 1400), slice(1400, None)]
    return tuple(
        Outputs(whole.logits[rows], whole.features[rows], whole.x[rows], whole.y[rows])
        for rows in parts
    )  # type: ignore[return-value]


def test_vae_tells_digits_from_noise() -> None:
    """Noise has no short code."""
    train, test = digits()
    scorer = vae(None, train, test, steps=200, hidden=64)
    noise = replace(test, x=torch.rand(test.x.shape, generator=torch.Generator().manual_seed(1)))
    inside, outside = scorer(test), scorer(noise)
    truth = np.repeat([0, 1], len(test.x))
    assert roc_auc_score(truth, torch.cat([inside, outside]).numpy()) > 0.98
    # Grey as a share of white costs at least its own entropy, whatever the model.
    assert bool((inside >= bernoulli_bits(test.x)).all())
    # A score is a sample's own, in bits, and the same each time.
    turned = scorer(replace(test, x=test.x.flip(0))).flip(0)
    assert torch.allclose(turned, inside, rtol=1e-4)


def test_vae_subtracts_complexity() -> None:
    train, test = digits()
    plain = vae(None, train, test, steps=20, hidden=16)(test)
    for name, bits in (("entropy", bernoulli_bits), ("deflate", deflated_bits)):
        score = vae(None, train, test, steps=20, hidden=16, complexity=name)(test)
        assert torch.allclose(plain - score, bits(test.x), rtol=1e-6)


def test_vae_bad_input() -> None:
    train, test = digits()
    for name in ("steps", "draws"):
        with pytest.raises(BadOption, match=f"{name}=0"):
            vae(None, train, test, **{name: 0})
    scorer = vae(None, train, test, steps=1, hidden=8)
    with pytest.raises(BadInput, match="NaN"):
        scorer(replace(test, x=torch.full_like(test.x, math.nan)))


def test_shared_noise_is_the_same_in_every_row_and_new_each_time() -> None:
    with SharedNoise():
        first, second = torch.randn((4, 3)), torch.rand((4, 3))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn((2, 3), generator=generator, dtype=torch.float64)
    assert torch.equal(first, first[:1].expand(4, 3))
    assert torch.equal(second, second[:1].expand(4, 3))
    assert not torch.equal(first[0], second[0])
    again = torch.randn((1, 3), generator=generator.manual_seed(0), dtype=torch.float64)
    assert torch.equal(drawn, again.expand(2, 3))


def test_entropy_in_bits() -> None:
    """Half grey is one bit an entry, black and white none, a quarter 2 - 0.75 log2 3."""
    x = torch.stack([torch.full((2, 2), value) for value in (0.5, 0.0, 1.0, 0.25)])
    expected = torch.tensor([4, 0, 0, 4 * (2 - 0.75 * math.log2(3))]).double()
    assert torch.allclose(bernoulli_bits(x), expected)


def test_deflated_bits_against_png_rows() -> None:
    """Each form is zlib's on bytes built here by hand; the shortest counts."""
    # Up and down again, so that there are differences below 0.
    raw = (3 * (32 - torch.arange(64)).abs()).tolist()
    x = torch.tensor(raw).view(1, 1, 8, 8) / 255
    left = [value - (raw[i - 1] if i % 8 else 0) for i, value in enumerate(raw)]
    up = [value - (raw[i - 8] if i >= 8 else 0) for i, value in enumerate(raw)]
    lengths = [
        len(zlib.compress(struct.pack("64B", *(value % 256 for value in form)), LEVEL))
        for form in (raw, left, up)
    ]
    assert float(deflated_bits(x)) == 8 * min(lengths)
    assert min(lengths) < lengths[0]


def test_noise_is_more_complex_than_a_plain_picture() -> None:
    noise = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    plain, noisy = deflated_bits(torch.cat([torch.zeros(1, 1, 28, 28), noise]))
    assert plain < 300
    # 784 random bytes cannot be compressed.
    assert noisy >= 784 * 8
