"""Autoencoders: closed-form divergences, bounds against the exact evidence, pictures in the box."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Exponential as Waiting
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from trustml.contracts import Domain, Split, Training
from trustml.errors import BadOption, NotApplicable
from trustml.models._latents import BOUND, Categorical, Exponential, Gaussian, Latent
from trustml.models.vae import Autoencoder, vae
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import evaluate, fit, seeded

KINDS: dict[str, Latent] = {
    "gaussian": Gaussian(3),
    "exponential": Exponential(3),
    "gumbel": Categorical(3, 4, 0.5),
}
on_every_kind = pytest.mark.parametrize("kind", KINDS)


def known(kind: str, read: Tensor) -> tuple[Independent, Independent]:
    """Return posterior and prior as torch.distributions, from what the encoder says."""
    if kind == "gaussian":
        scale = torch.nn.functional.softplus(read[:, 3:]) + math.exp(-BOUND)
        posterior, prior = Normal(read[:, :3], scale), Normal(torch.zeros(3), torch.ones(3))
    elif kind == "exponential":
        posterior, prior = Waiting(read.exp()), Waiting(torch.ones(3))
    else:
        posterior = OneHotCategorical(logits=read.view(-1, 3, 4))
        prior = OneHotCategorical(logits=torch.zeros(3, 4))
    return Independent(posterior, 1), Independent(prior.expand((len(read), 3)), 1)


def reads(kind: str) -> Tensor:
    """Return what an encoder might say of six samples."""
    generator = torch.Generator().manual_seed(1)
    return 0.7 * torch.randn(6, KINDS[kind].width, generator=generator)


@on_every_kind
def test_divergence_and_densities_are_those_of_torch(kind: str) -> None:
    """KL and log prior - log posterior against torch.distributions."""
    latent, read = KINDS[kind], reads(kind)
    posterior, prior = known(kind, read)
    torch.testing.assert_close(latent.kl(read), kl_divergence(posterior, prior))
    code = posterior.sample()
    truth = prior.log_prob(code) - posterior.log_prob(code)
    torch.testing.assert_close(latent.log_ratio(read, code.flatten(1)), truth, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(latent.mean(read), posterior.mean.flatten(1))


@on_every_kind
def test_draws_are_of_the_posterior(kind: str) -> None:
    """Over 20 000 draws the mean code and the mean log ratio (-KL) lie within five errors."""
    latent, read = KINDS[kind], reads(kind)[:1]
    many, generator = read.expand(20_000, -1), torch.Generator().manual_seed(2)
    code = latent.draw(many, generator)
    ratio = latent.log_ratio(many, code)
    for values, truth in ((code, latent.mean(read)[0]), (ratio[:, None], -latent.kl(read))):
        error = values.std(0) / math.sqrt(len(values))
        assert bool(((values.mean(0) - truth).abs() < 5 * error + 1e-6).all())
    prior = latent.prior(20_000, generator)
    expected = {"gaussian": 0.0, "exponential": 1.0, "gumbel": 0.25}[kind]
    assert prior.shape == (20_000, latent.size)
    assert float((prior.mean(0) - expected).abs().max()) < 0.05


def test_extreme_rates_stay_finite() -> None:
    """An encoder that says ±1000 gives finite codes and divergences."""
    for sign in (-1, 1):
        latent, read = Exponential(2), torch.full((1, 2), sign * 1000.0)
        assert bool(latent.mean(read).isfinite().all() and latent.kl(read).isfinite().all())


def autoencoder(domain: Domain, **options: object) -> Autoencoder:
    """Return a seeded untrained autoencoder in eval mode."""
    with seeded(0):
        module = vae(domain, **options).eval()
    assert isinstance(module, Autoencoder)
    return module


@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("latent", ["gaussian", "gumbel"])
def test_bounds_close_in_on_the_exact_evidence(latent: str, pixels: str) -> None:
    """One code variable can be summed or integrated out: ELBO < 5 draws < 5000 = log p(x)."""
    domain = Domain((4,), 2)
    module = autoencoder(domain, latent=latent, pixels=pixels, size=1, hidden=16)
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in module.decoder.parameters():
            parameter.mul_(3)  # so that the code matters, and a bound has something to lose
        if latent == "gumbel":
            codes, log_prior = torch.eye(8), torch.full((8,), -math.log(8))
        else:
            codes = torch.linspace(-8, 8, 4001)[:, None]
            log_prior = Normal(0.0, 1.0).log_prob(codes[:, 0]) + math.log(16 / 4000)
        pixel = module.decoder(codes).double()
        likelihood = torch.zeros(len(x), len(codes), dtype=torch.float64)
        for row, unit in enumerate(x.double()):
            if pixels == "bernoulli":
                p = pixel.sigmoid()
                terms = unit * p.log() + (1 - unit) * (1 - p).log()
            else:
                spread = float(module.spread.exp()) + 0.005
                terms = Normal(pixel.sigmoid(), spread).log_prob(unit)
            likelihood[row] = terms.sum(1)
        truth = (likelihood + log_prior).logsumexp(1)
        generator = torch.Generator().manual_seed(4)
        elbo = torch.stack([module.elbo(x, generator=generator) for _ in range(500)]).mean(0)
        few = torch.stack([module.importance_bound(x, 5, generator=generator) for _ in range(200)])
        many = module.importance_bound(x, 5000, generator=generator)
    error = few.std(0) / math.sqrt(len(few))
    torch.testing.assert_close(many.double(), truth, atol=0.05, rtol=0)
    assert bool((elbo < truth - 1e-3).all())
    assert bool(((elbo < few.mean(0)) & (few.mean(0) < truth + 4 * error)).all())


def test_one_draw_of_the_importance_bound_is_an_elbo() -> None:
    """Their means over draws agree: the closed-form KL only takes noise away."""
    module = autoencoder(Domain((4,), 2), size=2)
    x = torch.rand(1, 4)
    with torch.no_grad():
        one = module.importance_bound(x.expand(20_000, 4), 1)
        elbo = module.elbo(x.expand(20_000, 4))
    error = math.sqrt(float(one.var() + elbo.var()) / 20_000)
    assert abs(float(one.mean() - elbo.mean())) < 5 * error


def test_the_autoencoder_sees_no_label() -> None:
    """Labels move the head's slopes only."""
    module = autoencoder(Domain((4,), 3))
    x, slopes = torch.rand(8, 4), []
    for y in (torch.zeros(8).long(), torch.arange(8) % 3):
        module.zero_grad()
        with seeded(1):
            module.training_loss(x, y, 100).backward()
        slopes.append({name: weight.grad for name, weight in module.named_parameters()})
    for name in slopes[0]:
        assert torch.equal(slopes[0][name], slopes[1][name]) == (not name.startswith("head"))


@on_every_kind
@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ("mlp", (3,)),
        ("mlp", (2, 3, 3)),
        ("conv", (1, 8, 8)),
        ("conv", (3, 5, 11)),
        ("conv", (1, 4, 7)),
    ],
)
def test_pictures_have_the_shape_and_lie_in_the_box(
    kind: str, layers: str, shape: tuple[int, ...]
) -> None:
    """Odd sizes come back whole; the box is the domain's; a seed decides what is generated."""
    module = autoencoder(Domain(shape, 5, -3.0, 1.0), layers=layers, latent=kind, size=2)
    x = 4 * torch.rand(2, *shape) - 3
    with torch.no_grad():
        pictures = module.reconstruct(x), module.generate(4)
        assert [tuple(part.shape) for part in pictures] == [(2, *shape), (4, *shape)]
        assert all(bool(((part >= -3) & (part <= 1)).all()) for part in pictures)
        assert torch.equal(module.generate(4), pictures[1])
        assert not torch.equal(module.generate(4, seed=1), pictures[1])
        assert torch.equal(module(x), module.head(module.features(x)))


def test_learns_digits(digits: tuple[Split, Split, Split]) -> None:
    """Reconstructions are thrice as near as the mean digit, and real digits likelier than noise."""
    train, validation, test = digits
    recipe = read_recipe("vae:epochs=40")
    module = build(recipe, train.domain, 0)
    assert isinstance(module, Autoencoder)
    fit(module, train, validation, recipe.training, 0)
    with torch.no_grad():
        error = (module.reconstruct(test.x) - test.x).square().mean()
        blind = (train.x.mean(0) - test.x).square().mean()
        bound = module.importance_bound(test.x, 10)
        odd = module.importance_bound(torch.rand(len(test), 1, 8, 8), 10)
    assert 3 * float(error) < float(blind)
    assert float(bound.quantile(0.05)) > float(odd.max())
    assert evaluate(module, test)[1] > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", ["latent=exponential", "latent=gumbel", "layers=conv", "pixels=bernoulli"]
)
def test_other_kinds_learn_digits_too(digits: tuple[Split, Split, Split], options: str) -> None:
    """Each reconstructs test digits nearer than the mean digit does."""
    train, validation, test = digits
    recipe = read_recipe(f"vae:{options},epochs=40")
    module = build(recipe, train.domain, 0)
    assert isinstance(module, Autoencoder)
    curve = fit(module, train, validation, recipe.training, 0)
    with torch.no_grad():
        error = (module.reconstruct(test.x) - test.x).square().mean()
    assert 1.5 * float(error) < float((train.x.mean(0) - test.x).square().mean())
    assert curve[-1].validation_loss < curve[0].validation_loss


def test_pixels_that_never_change_do_not_end_in_infinities() -> None:
    """On constant inputs the scale goes to its floor, not to 0."""
    module = autoencoder(Domain((4,), 2))
    x = torch.full((64, 4), 0.5)
    split = Split(x, torch.arange(64) % 2, torch.arange(64), 2)
    curve = fit(module, split, split, Training(epochs=200, learning_rate=0.05), 0)
    assert all(math.isfinite(point.train_loss) for point in curve)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"latent": "gumbel", "categories": 1}, "categories=1"),
        ({"latent": "gumbel", "temperature": 0.0}, "temperature=0.0"),
        ({"latent": "gumbel", "temperature": math.nan}, "temperature=nan"),
        ({"categories": 5}, "gumbel only"),
        ({"latent": "exponential", "temperature": 1.0}, "gumbel only"),
    ],
)
def test_options_out_of_range_or_without_use_are_refused(
    options: dict[str, object], message: str
) -> None:
    """The message names the option."""
    with pytest.raises(BadOption, match=message):
        vae(Domain((4,), 2), **options)


@pytest.mark.parametrize(
    ("shape", "message"), [((5,), "needs images"), ((1, 3, 8), "at least 4x4")]
)
def test_conv_needs_images_of_some_size(shape: tuple[int, ...], message: str) -> None:
    """Two halvings of three pixels leave nothing."""
    with pytest.raises(NotApplicable, match=message):
        vae(Domain(shape, 2), layers="conv")


def test_a_bound_of_no_draws_is_refused() -> None:
    """The mean of nothing is no bound."""
    with pytest.raises(BadOption, match="draws=0"):
        autoencoder(Domain((4,), 2)).importance_bound(torch.rand(1, 4), 0)
