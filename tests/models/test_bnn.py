"""Bayesian networks: each posterior against its formula, and what all of them promise."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy, log_softmax, softmax

from trustml.bayes.laplace import fit_last_layer, log_evidence, predict
from trustml.bayes.variational import drawn, kl
from trustml.contracts import Bayesian, Domain, Epoch, Split, Training
from trustml.errors import BadOption, NotApplicable, UnknownName
from trustml.models import _ensemble
from trustml.models._bayesian import Memory, log_mean_probability
from trustml.models._ensemble import Ensemble
from trustml.models._laplace import Laplace, curvature
from trustml.models._laplace_last_layer import LaplaceLastLayer, at_maximum
from trustml.models._linearised import Weighted, leaves, linearised
from trustml.models._mc_dropout import MCDropout
from trustml.models._mean_field import MeanField
from trustml.models._network import Network
from trustml.models._swag import Swag
from trustml.models.bnn import DEFAULTS, USES, Posterior, bnn
from trustml.models.cnn import cnn
from trustml.models.lenet import lenet
from trustml.models.mlp import mlp
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import evaluate, fit, seeded

DOMAIN = Domain((3,), 4)
POSTERIORS = get_args(Posterior)
SMALL = '"mlp:hidden=[7,5]"'.strip('"')


def model(
    posterior: str, body: str = SMALL, domain: Domain = DOMAIN, **options: object
) -> nn.Module:
    """Return an untrained small network with that posterior, in eval mode."""
    with seeded(0):
        return bnn(domain, posterior=posterior, body=body, **options).eval()


def samples(count: int = 60, seed: int = 0) -> Split:
    """Return inputs in the unit cube; the class is the quarter that two of them about lie in."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, generator=generator)
    seen = x + 0.2 * torch.randn(count, 3, generator=generator)
    y = 2 * (seen[:, 0] > 0.5).long() + (seen[:, 1] > 0.5).long()
    return Split(x, y, torch.arange(count), 4)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_draws_are_numbered_and_shared_by_the_batch(posterior: str) -> None:
    """Draw s is one network: the same however many draws are asked for, whatever is beside it."""
    module = model(posterior)
    fit(module, samples(), samples(20, 1), Training(epochs=2), 0)
    assert isinstance(module, Bayesian)
    x = samples(9, 2).x
    with torch.no_grad():
        five = module.sample_logits(x, 5)
        assert torch.equal(module.sample_logits(x, 3), five[:3])
        torch.testing.assert_close(module.sample_logits(x.flip(0), 5), five.flip(1))
        torch.testing.assert_close(module.sample_logits(x[2:3], 5), five[:, 2:3])
        many = module.sample_logits(x, 25)
    assert torch.equal(many[:5], five)
    assert float((five[0] - five[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("posterior", sorted(set(POSTERIORS) - {"laplace_last_layer"}))
def test_an_answer_is_the_log_of_the_mean_probability(posterior: str) -> None:
    """Probabilities are averaged, not logits."""
    options = {"draws": 6} if "draws" in USES[posterior] else {"members": 6}
    module = model(posterior, **options)
    x = samples(9).x
    with torch.no_grad():
        mean = softmax(module.sample_logits(x, 6), 2).mean(0)
        torch.testing.assert_close(module(x).exp(), mean)
    assert torch.equal(
        log_mean_probability(torch.full((3, 2, 4), -2e4)).exp(), torch.full((2, 4), 0.25)
    )


LONG = {("variational", "mlp")} | {(name, "cnn") for name in POSTERIORS if name != "mc_dropout"}


@pytest.mark.parametrize(
    ("posterior", "body"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case in LONG else ())
        for case in product(POSTERIORS, ("mlp", "cnn"))
    ],
)
def test_learns_digits(digits: tuple[Split, Split, Split], posterior: str, body: str) -> None:
    """A short training reads nine of ten test digits, and no global random state is touched."""
    train, validation, test = digits
    options = {"members": 2} if "members" in USES[posterior] else {}
    module = model(posterior, body, train.domain, **options)
    before = torch.get_rng_state()
    epochs = 60 if posterior == "variational" else 15
    fit(module, train, validation, Training(epochs=epochs, batch_size=64, learning_rate=3e-3), 0)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        assert float((module(test.x).argmax(1) == test.y).float().mean()) > 0.9


def test_the_table_of_uses_is_complete() -> None:
    """Every posterior has its row, and every option in it is one."""
    assert set(USES) == set(POSTERIORS)
    assert set().union(*USES.values()) == set(DEFAULTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "mc_dropout", "members": 3}, "no use for members"),
        ({"posterior": "ensemble", "draws": 3}, "no use for draws"),
        ({"posterior": "variational", "dropout": 0.5}, "no use for dropout"),
        ({"draws": 0}, "draws=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"posterior": "ensemble", "members": 1}, "members=1"),
        ({"posterior": "swag", "snapshots": 1}, "snapshots=1"),
        ({"posterior": "variational", "prior_scale": None}, "needs a prior_scale"),
        ({"posterior": "swag", "prior_scale": None}, "needs a prior_scale"),
        ({"posterior": "laplace", "prior_scale": 0.0}, "prior_scale=0.0"),
        ({"posterior": "laplace", "prior_scale": math.nan}, "prior_scale=nan"),
        ({"posterior": "variational", "temperature": -1.0}, "temperature=-1.0"),
        ({"body": "mlp:epochs=3"}, "set epochs on bnn itself"),
        ({"body": "mlp:weights=a.pt"}, "set weights on bnn itself"),
    ],
)
def test_options_without_use_or_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    """One line names the option."""
    with pytest.raises(BadOption, match=message):
        bnn(DOMAIN, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 0.0}, "needs a network with dropout"),
        ({"body": "mlp:hidden=[]"}, "needs a network with dropout"),
        ({"body": "logistic"}, "cannot use logistic as its body"),
        ({"posterior": "laplace", "body": "mlp_by_hand"}, "cannot use mlp_by_hand"),
        ({"posterior": "laplace", "body": "bnn"}, "cannot use bnn"),
        ({"body": "cnn"}, "cnn needs images"),
    ],
)
def test_posteriors_that_a_body_cannot_have(options: dict[str, object], message: str) -> None:
    """No dropout layer, no chain of layers, no images: each is said."""
    with pytest.raises(NotApplicable, match=message):
        bnn(DOMAIN, **options)


def test_unknown_body_gives_the_nearest() -> None:
    """The body's name is a model's name."""
    with pytest.raises(UnknownName, match="'mlp'"):
        bnn(DOMAIN, body="mpl")


def test_memory_forgets_when_a_weight_or_the_question_changes() -> None:
    """The same weights and question are answered from memory, others anew."""
    module, memory, calls = nn.Linear(2, 2), Memory[int](), []

    def compute() -> int:
        calls.append(None)
        return len(calls)

    assert [memory(module, 1, compute), memory(module, 1, compute)] == [1, 1]
    assert memory(module, 2, compute) == 2
    with torch.no_grad():
        module.weight.mul_(2)
    assert memory(module, 2, compute) == 3
    module.load_state_dict(nn.Linear(2, 2).state_dict())
    assert memory(module, 2, compute) == 4
    module.double()
    assert memory(module, 2, compute) == 5


# MC dropout


def test_mc_dropout_masks_hidden_units_by_hand() -> None:
    """Two hidden layers: each draw zeroes some units and doubles the others, as written out."""
    module = model("mc_dropout", dropout=0.5, draws=4)
    assert isinstance(module, MCDropout)
    first, second, head = (x for x in module.network.modules() if isinstance(x, nn.Linear))
    x = samples(6).x
    for draw, logits in enumerate(module.sample_logits(x, 4)):
        masks = module.masks0[draw], module.masks1[draw]
        assert {float(value) for value in torch.cat(masks)} <= {0.0, 2.0}
        hidden = first(x).clamp_min(0) * masks[0]
        hidden = second(hidden).clamp_min(0) * masks[1]
        torch.testing.assert_close(logits, head(hidden))


def test_mc_dropout_masks_have_the_rate() -> None:
    """Over 400 draws of 256 units the share dropped is p within four standard errors."""
    module = model("mc_dropout", "mlp", dropout=0.3, draws=400)
    dropped = float((module.masks0 == 0).float().mean())
    assert abs(dropped - 0.3) < 4 * math.sqrt(0.3 * 0.7 / module.masks0.numel())
    kept = module.masks0[module.masks0 > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7))


def test_mc_dropout_mean_over_all_masks_is_the_mean_network() -> None:
    """With dropout before a linear head only, logits averaged over draws tend to the plain ones."""
    module = model("mc_dropout", "mlp:hidden=[16]", draws=4000)
    x = samples(5).x
    with torch.no_grad():
        draws, plain = module.sample_logits(x, 4000), module.network(x)
    error = draws.std(0) / math.sqrt(4000)
    assert bool(((draws.mean(0) - plain).abs() < 5 * error).all())
    assert torch.equal(module.features(x), module.network.features(x))


def test_mc_dropout_trains_under_fresh_masks_for_each_sample() -> None:
    """In train mode two equal inputs in a batch lose differently; in eval mode they do not."""
    module = model("mc_dropout", "mlp:hidden=[64]", dropout=0.5)
    x, y = samples(1).x.expand(2, 3), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(module.network.eval()(x)[0], module.network(x)[1])
    module.train()
    assert not torch.equal(module.network(x)[0], module.network(x)[1])
    losses = {module.training_loss(x, y, 10).item() for _ in range(3)}
    assert len(losses) == 3


# Variational


def test_variational_loss_is_the_negative_elbo_an_example() -> None:
    """Mean cross-entropy + temperature · KL / examples; in eval mode under the mean weights."""
    module = model("variational", temperature=0.5, prior_scale=0.7)
    assert isinstance(module, MeanField)
    split = samples()
    expected = cross_entropy(module.network(split.x), split.y) + 0.5 * kl(module) / 1234
    torch.testing.assert_close(module.training_loss(split.x, split.y, 1234), expected)
    weights = [p for name, p in module.named_parameters() if name.endswith("mean")]
    rhos = [p for name, p in module.named_parameters() if name.endswith("rho")]
    truth = torch.zeros(())
    for mean, rho in zip(weights, rhos, strict=True):
        belief = torch.distributions.Normal(mean, nn.functional.softplus(rho))
        prior = torch.distributions.Normal(torch.zeros_like(mean), 0.7)
        truth = truth + torch.distributions.kl_divergence(belief, prior).sum()
    torch.testing.assert_close(kl(module), truth)
    assert len(weights) == 6


@pytest.mark.parametrize("body", ["mlp", "cnn:channels=[3],kernel=3,stride=2,padding=1,hidden=[8]"])
def test_variational_draws_are_those_of_its_layers(body: str) -> None:
    """Every weight of the body has become a belief, with the body's own shapes and steps."""
    domain = Domain((1, 6, 6), 4)
    module = model("variational", body, domain, draws=3)
    x = torch.rand(2, 1, 6, 6)
    assert not [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for number, logits in enumerate(module.sample_logits(x, 3)):
        with drawn(module.network, number):
            assert torch.equal(module.network(x), logits)
    assert module.features(x).shape == (2, 256 if body == "mlp" else 8)


# Laplace over the last layer


def last_layer(prior_scale: float | None) -> tuple[LaplaceLastLayer, Split]:
    """Return the posterior fitted on 60 samples."""
    module, train = model("laplace_last_layer", prior_scale=prior_scale), samples()
    fit(module, train, samples(20, 1), Training(epochs=10, learning_rate=0.01, batch_size=16), 0)
    assert isinstance(module, LaplaceLastLayer)
    return module, train


@pytest.mark.parametrize("prior_scale", [None, 0.5])
def test_last_layer_is_at_the_maximum_of_its_own_prior(prior_scale: float | None) -> None:
    """The penalised loss has no slope there; an asked prior is kept, else the evidence's stays."""
    module, train = last_layer(prior_scale)
    precision, head = float(module.precision), module.network.head
    loss = cross_entropy(module.network(train.x), train.y)
    square = head.weight.square().sum() + head.bias.square().sum()
    slopes = torch.autograd.grad(
        loss + precision / (2 * len(train)) * square, [head.weight, head.bias]
    )
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-5
    if prior_scale:
        assert precision == pytest.approx(4.0)
    else:
        h = module.features(train.x).detach()
        evidences = []
        for factor in (0.7, 1.0, 1.4):
            layer = at_maximum(head, h, train.y, factor * precision)
            evidences.append(log_evidence(layer, h, train.y))
        assert evidences[1] == max(evidences)
        assert 1e-3 < precision < 1e3


def test_last_layer_answers_in_closed_form() -> None:
    """The belief in the buffers is that of the closed form; the answer is its probit mean."""
    module, train = last_layer(0.5)
    h, head = module.features(train.x), module.network.head
    truth = fit_last_layer(h, head.weight, head.bias, prior_precision=4.0)
    x = samples(7, 3).x
    torch.testing.assert_close(module(x).exp(), predict(truth, module.features(x)))
    draws = module.sample_logits(x, 4000).detach()
    variances = truth.logit_variances(module.features(x)).detach()
    # A variance from 4000 Gaussian draws has a relative standard error of 2.2 %.
    assert float((draws.var(0) / variances - 1).abs().max()) < 0.12
    assert bool((draws.mean(0) - module.network(x)).abs().lt(5 * (variances / 4000).sqrt()).all())


def test_last_layer_temperature_scales_the_covariance() -> None:
    """A quarter of the temperature halves how far each draw lies from the mean."""
    module, _ = last_layer(0.5)
    x = samples(7, 3).x
    mean = module.network(x)
    far = module.sample_logits(x, 3) - mean
    module.temperature = 0.25
    torch.testing.assert_close(module.sample_logits(x, 3) - mean, far / 2)
    module.temperature = 1e-12
    torch.testing.assert_close(module(x), log_softmax(mean, 1), atol=1e-4, rtol=1e-4)


# Laplace over all weights


@pytest.mark.parametrize(
    "network",
    [
        lambda: mlp(Domain((5,), 3), hidden=(7, 6), activation="gelu", dropout=0.3),
        lambda: mlp(Domain((5,), 3), hidden=(7,), activation="softplus"),
        lambda: cnn(Domain((2, 9, 8), 3, -1.0, 1.0), channels=(3, 4), hidden=(6,)),
        lambda: lenet(Domain((1, 14, 13), 3)),
    ],
    ids=["gelu", "softplus", "cnn", "lenet"],
)
def test_expansion_is_the_derivative_along_the_change(network: Callable[[], Network]) -> None:
    """Central differences in float64; and for more inputs than are carried at a time."""
    with seeded(0):
        module = network().double().eval()
    layers = [layer for layer in leaves(module) if isinstance(layer, Weighted)]
    changes = [
        (torch.randn(2, *layer.weight.shape).double(), torch.randn(2, *layer.bias.shape).double())
        for layer in layers
    ]
    shape = {"Linear": (5,)}.get(type(layers[0]).__name__) or (
        (2, 9, 8) if layers[0].in_channels == 2 else (1, 14, 13)
    )
    x = torch.rand(35, *shape, dtype=torch.float64)
    expanded = linearised(module, x, changes)
    names = [name for name, _ in module.named_parameters()]
    for number in range(2):
        moves = [part[number] for change in changes for part in change]

        def answer(step: float, moves: list[Tensor] = moves) -> Tensor:
            moved = zip(names, module.parameters(), moves, strict=True)
            return functional_call(module, {n: w + step * m for n, w, m in moved}, (x,))

        slope = (answer(1e-6) - answer(-1e-6)) / 2e-6
        torch.testing.assert_close(expanded[number] - module(x), slope, atol=1e-7, rtol=1e-6)


def test_expansion_can_be_attacked() -> None:
    """The slope for the input is that of central differences, through the bends' own slopes."""
    with seeded(0):
        module = Laplace(mlp(DOMAIN, hidden=(7, 5), activation="tanh"), 3, 1.0, 1.0).double().eval()
    x = samples(3).x.double().requires_grad_()
    (slope,) = torch.autograd.grad(module(x)[:, 1].sum(), x)
    step = 1e-6 * torch.eye(3).double()
    with torch.no_grad():
        for entry in range(3):
            ahead, behind = (module(x + sign * step[entry])[:, 1] for sign in (1, -1))
            torch.testing.assert_close(
                slope[:, entry], (ahead - behind) / 2e-6, atol=1e-6, rtol=1e-5
            )


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_curvature_of_one_sample_is_exact(kind: str) -> None:
    """With one sample (and one place) A ⊗ G is the Gauss-Newton matrix of each layer, no less."""
    with seeded(0):
        network = (
            mlp(DOMAIN, hidden=(4,)) if kind == "mlp"
            else cnn(Domain((2, 3, 3), 4), channels=(3,), kernel=3, stride=1, padding=0, hidden=())
        ).double().eval()  # fmt: skip
    x = torch.rand(1, *((3,) if kind == "mlp" else (2, 3, 3)), dtype=torch.float64)
    split = Split(x, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 4)
    p = softmax(network(x)[0], 0)
    middle = torch.diag(p) - torch.outer(p, p)
    jacobians = jacrev(lambda w: functional_call(network, w, (x,))[0])(
        dict(network.named_parameters())
    )
    layers = [name for name, layer in network.named_modules() if isinstance(layer, Weighted)]
    for name, (outputs, inputs) in zip(layers, curvature(network, split), strict=True):
        rows = jacobians[f"{name}.weight"].flatten(2)
        rows = torch.cat([rows, jacobians[f"{name}.bias"][:, :, None]], 2).flatten(1)
        torch.testing.assert_close(torch.kron(outputs, inputs), rows.T @ middle @ rows)


def test_curvature_of_a_convolution_counts_places_once() -> None:
    """Exact again where every place reads the same and the head listens to one place alone."""
    with seeded(0):
        network = cnn(
            Domain((2, 4, 4), 4), channels=(3,), kernel=3, stride=1, padding=0, hidden=()
        ).double()
    network.eval()
    with torch.no_grad():
        network.head.weight.view(4, 3, 2, 2)[:, :, (0, 1, 1), (0, 0, 1)] = 0
    x = torch.tensor([0.3, 0.8], dtype=torch.float64)[None, :, None, None].expand(1, 2, 4, 4)
    split = Split(x, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 4)
    p = softmax(network(x)[0], 0)
    middle = torch.diag(p) - torch.outer(p, p)
    jacobians = jacrev(lambda w: functional_call(network, w, (x,))[0])(
        dict(network.named_parameters())
    )
    rows = jacobians["body.0.weight"].flatten(2), jacobians["body.0.bias"][:, :, None]
    flat = torch.cat(rows, 2).flatten(1)
    outputs, inputs = curvature(network, split)[0]
    torch.testing.assert_close(torch.kron(outputs, inputs), flat.T @ middle @ flat)


def test_curvature_of_the_head_is_that_of_the_last_layer() -> None:
    """Over many samples and batches, the head's block is the closed form's."""
    with seeded(0):
        network = mlp(DOMAIN, hidden=(6,)).eval()
    train = samples(600)
    block = curvature(network, train)[-1]
    truth = fit_last_layer(
        network.features(train.x), network.head.weight, network.head.bias, prior_precision=1.0
    )
    for matrix, (values, vectors) in zip(
        block, (truth.weights.classes, truth.weights.features), strict=True
    ):
        torch.testing.assert_close(matrix, vectors * values @ vectors.T, atol=1e-4, rtol=1e-4)


def test_draws_of_laplace_have_the_covariance_of_their_blocks() -> None:
    """The variance of a logit is J Σ Jᵀ over all blocks, within the error of 4000 draws."""
    module = model("laplace", "mlp:hidden=[4]", prior_scale=0.5, temperature=0.3)
    fit(module, samples(), samples(20, 1), Training(epochs=10, learning_rate=0.01), 0)
    assert isinstance(module, Laplace)
    x = samples(3, 5).x
    jacobians = jacrev(lambda w: functional_call(module.network, w, (x,)))(
        dict(module.network.named_parameters())
    )
    truth = torch.zeros(3, 4, dtype=torch.float64)
    for place, block in zip((1, 3), module.blocks(), strict=True):
        names = f"body.{place}.weight", f"body.{place}.bias"
        rows = (
            torch.cat([jacobians[names[0]], jacobians[names[1]][..., None]], -1).flatten(2).double()
        )
        dense = torch.kron(
            *(vectors * values @ vectors.T for values, vectors in (block.classes, block.features))
        )
        covariance = 0.3 * torch.linalg.inv(dense + block.prior * torch.eye(len(dense)).double())
        truth += torch.einsum("bkp,pq,bkq->bk", rows, covariance, rows).detach()
    assert block.prior == pytest.approx(4.0)
    draws = module.sample_logits(x, 4000).detach().double()
    assert float((draws.var(0) / truth - 1).abs().max()) < 0.12


def test_laplace_prior_has_the_greatest_evidence() -> None:
    """Neither a tenth more nor less precision is likelier, by the formula written out."""
    module = model("laplace", "mlp:hidden=[4]", prior_scale=None)
    fit(module, samples(), samples(20, 1), Training(epochs=20, learning_rate=0.01), 0)
    assert isinstance(module, Laplace)
    values = torch.cat([block.spectrum() for block in module.blocks()])
    square = sum(float(w.detach().double().square().sum()) for w in module.parameters())

    def evidence(precision: float) -> float:
        volume = float((values + precision).log().sum()) - len(values) * math.log(precision)
        return -0.5 * (precision * square + volume)

    best = float(module.precision)
    assert 1e-3 < best < 1e3
    assert evidence(best) > max(evidence(1.1 * best), evidence(best / 1.1))


# Ensembles


def test_members_start_and_shuffle_differently() -> None:
    """Draw s is member s, then round again; the features lie side by side."""
    module = model("ensemble", members=3)
    assert isinstance(module, Ensemble)
    x = samples(5).x
    draws = module.sample_logits(x, 5)
    for number in range(5):
        assert torch.equal(draws[number], module.members[number % 3](x))
    assert not torch.equal(draws[0], draws[1])
    assert module.features(x).shape == (5, 15)


@pytest.mark.parametrize("posterior", ["ensemble", "bootstrap"])
def test_bootstrap_resamples_and_the_deep_ensemble_does_not(
    posterior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With replacement 1 - 1/e of the samples are in; curves are means of who is still at it."""
    seen: list[tuple[Split, int]] = []

    def record(_: nn.Module, train: Split, __: Split, ___: Training, seed: int) -> list[Epoch]:
        seen.append((train, seed))
        return [Epoch(len(seen), 0.5, 1.0, 0.5)] * len(seen)

    monkeypatch.setattr(_ensemble, "fit", record)
    train = samples(2000)
    curve = model(posterior, members=3).fit(train, samples(20, 1), Training(), 7)
    assert [point.train_loss for point in curve] == [2.0, 2.5, 3.0]
    assert len({seed for _, seed in seen}) == 3
    shares = [len(part.ids.unique()) / len(train) for part, _ in seen]
    assert all(len(part) == 2000 for part, _ in seen)
    if posterior == "ensemble":
        assert shares == [1.0] * 3
    else:
        assert all(abs(share - (1 - math.exp(-1))) < 0.04 for share in shares)
        assert not torch.equal(seen[0][0].ids, seen[1][0].ids)


# SWAG


def test_swag_draws_have_half_the_spread_of_each_kind() -> None:
    """Covariance = (diagonal + low rank)/2 of the snapshots, within the error of 6000 draws."""
    module = model("swag", "mlp:hidden=[]", snapshots=4, temperature=0.7)
    assert isinstance(module, Swag)
    generator = torch.Generator().manual_seed(0)
    deviations = torch.randn(module.deviations.shape, generator=generator)
    module.deviations.copy_(deviations - deviations.mean(0))
    x = samples(2).x
    # The network is linear: logit k is row k of (W, b) times (x, 1).
    rows = torch.cat([x, torch.ones(2, 1)], 1)
    weights = module.deviations[:, :12].view(4, 4, 3)
    along = torch.einsum(
        "rkd,bd->rbk", torch.cat([weights, module.deviations[:, 12:, None]], 2), rows
    )
    squares = module.deviations.square().mean(0)
    square = torch.cat([squares[:12].view(4, 3), squares[12:, None]], 1)
    truth = 0.7 / 2 * (torch.einsum("kd,bd->bk", square, rows**2) + along.square().sum(0) / 3)
    draws, plain = module.sample_logits(x, 6000).detach(), module.network(x).detach()
    assert float((draws.var(0) / truth - 1).abs().max()) < 0.1
    assert float(((draws.mean(0) - plain) / truth.sqrt()).abs().max()) < 0.07


def test_swag_ends_at_the_mean_of_its_walk() -> None:
    """Deviations sum to zero, and the curve has the walk's epochs after those of training."""
    module = model("swag", snapshots=3)
    curve = fit(module, samples(), samples(20, 1), Training(epochs=4), 0)
    assert len(curve) == 7
    assert float(module.deviations.abs().max()) > 1e-4
    assert float(module.deviations.sum(0).abs().max()) < 1e-5


def test_recipes_build_them_with_quoted_bodies() -> None:
    """The body's own options stand in quotes on the command line."""
    recipe = read_recipe('bnn:posterior=ensemble,members=2,body="cnn:channels=[2],kernel=3"')
    module = build(recipe, Domain((1, 8, 8), 10), 0)
    assert module.sample_logits(torch.rand(1, 1, 8, 8), 2).shape == (2, 1, 10)
    assert read_recipe(recipe.text) == recipe
    assert replace(recipe.training, epochs=1).epochs == 1
    assert evaluate(
        module, Split(torch.rand(3, 1, 8, 8), torch.zeros(3).long(), torch.arange(3), 10)
    )
