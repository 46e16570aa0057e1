"""The fitting loop: what it learns, that it repeats, stops, restores, and refuses."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Epoch, Split, Training
from trustml.errors import BadInput, BadOption, MethodFailed
from trustml.training import evaluate, fit, seeded, threads_for


def blobs(count: int, seed: int = 0, dimensions: int = 2) -> Split:
    """Return two Gaussian blobs around (0.25, …) and (0.75, …)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    noise = 0.08 * torch.randn(count, dimensions, generator=generator)
    x = (0.25 + 0.5 * y[:, None] + noise).clamp(0, 1)
    return Split(x, y, torch.arange(count), 2)


def linear(seed: int = 0) -> nn.Module:
    """Return a seeded linear classifier of two inputs."""
    with seeded(seed):
        return nn.Linear(2, 2)


TRAINING = Training(epochs=20, batch_size=16, learning_rate=0.05)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_learns_separable_blobs(optimizer: str) -> None:
    """Blobs six standard deviations apart are separable by a line, so a linear model gets all."""
    module = linear()
    training = replace(TRAINING, optimizer=optimizer, learning_rate=0.1)
    curve = fit(module, blobs(200), blobs(60, 1), training, 0)
    assert evaluate(module, blobs(100, 2))[1] >= 0.99
    assert len(curve) == 20
    assert curve[-1].train_loss < curve[0].train_loss
    assert curve[-1].validation_accuracy >= 0.99
    assert not module.training
    assert all(p.grad is None for p in module.parameters())


def test_same_seed_same_weights_and_global_state_untouched() -> None:
    """Dropout and order are drawn from the seed alone; torch's global state comes back."""
    weights = []
    for seed, disturbance in ((3, 0), (3, 99), (4, 0)):
        module = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(0.1)
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        fit(module, blobs(50), blobs(20, 1), replace(TRAINING, epochs=2), seed)
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_full_batch_step_of_sgd_is_the_formula() -> None:
    """One epoch of one batch is w − rate · slope · (1 + 0.9) (Nesterov's first step), by hand."""
    train = blobs(32)
    module = linear()
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    residual = torch.softmax(train.x @ weight.T + bias, 1) - nn.functional.one_hot(train.y, 2)
    fit(
        module,
        train,
        train,
        Training(epochs=1, batch_size=32, learning_rate=1.0, optimizer="sgd"),
        0,
    )
    # The only step of a run lies halfway, (1/2 − 0.3)/0.7 down the cosine.
    rate = 0.5 * (1 + math.cos(math.pi * (0.5 - 0.3) / 0.7))
    torch.testing.assert_close(
        module.weight.detach(), weight - rate * 1.9 * residual.T @ train.x / 32
    )
    torch.testing.assert_close(module.bias.detach(), bias - rate * 1.9 * residual.mean(0))


def test_patience_stops_and_brings_back_the_best() -> None:
    """Validation labels that contradict training make the loss rise: stop, keep the best."""
    validation = blobs(60, 1)
    validation = replace(validation, y=1 - validation.y)
    module = linear()
    curve = fit(module, blobs(200), validation, replace(TRAINING, patience=3, learning_rate=0.1), 0)
    losses = [point.validation_loss for point in curve]
    best = losses.index(min(losses))
    assert len(curve) == best + 1 + 3 < 20
    assert evaluate(module, validation)[0] == pytest.approx(losses[best], abs=1e-6)


def test_without_patience_the_last_weights_stay() -> None:
    """The curve's last validation loss is that of the module handed back."""
    module, validation = linear(), blobs(60, 1)
    curve = fit(module, blobs(200), validation, TRAINING, 0)
    assert evaluate(module, validation)[0] == pytest.approx(curve[-1].validation_loss, abs=1e-7)


def test_batch_norm_survives_a_last_batch_of_one() -> None:
    """33 samples in batches of 16 leave one over, which has no variance; it is left out."""
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    curve = fit(module, blobs(33), blobs(20, 1), replace(TRAINING, epochs=2), 0)
    assert int(module[1].num_batches_tracked) == 4
    assert math.isfinite(curve[-1].train_loss)


class Own(nn.Linear):
    """A module with a loss of its own, which notes the size of the training split."""

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return squared weights: zero is its least."""
        self.examples = examples
        return self.weight.square().sum() + self.bias.square().sum()


def test_own_loss_is_used_in_training_and_validation() -> None:
    """Squared weights shrink to 0, and the module is told the size of the training split."""
    module = Own(2, 2)
    curve = fit(module, blobs(100), blobs(20, 1), replace(TRAINING, epochs=50), 0)
    assert module.examples == 100
    assert curve[-1].train_loss < 1e-2 > curve[-1].validation_loss
    assert 0 <= curve[-1].train_accuracy <= 1


class SelfTaught(nn.Linear):
    """A module that fits itself."""

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Note what was asked."""
        self.seen = len(train), len(validation), training, seed
        return [Epoch(0.0, 1.0, 0.0, 1.0)]


def test_own_fit_is_left_to_itself() -> None:
    """The splits, options and seed reach the module's own fit, and its curve comes back."""
    module = SelfTaught(2, 2)
    assert fit(module, blobs(30), blobs(20), TRAINING, 7) == [Epoch(0.0, 1.0, 0.0, 1.0)]
    assert module.seen == (30, 20, TRAINING, 7)


def test_a_loss_that_is_no_number_says_what_to_try() -> None:
    """A rate of 1e30 overflows float32 within two steps."""
    module = nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 2))
    with pytest.raises(MethodFailed, match="learning_rate below 1e\\+30"):
        fit(
            module, blobs(100), blobs(20), replace(TRAINING, learning_rate=1e30, optimizer="sgd"), 0
        )
    assert not module.training


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", math.nan),
        ("patience", -1), ("weight_decay", -0.1), ("weight_decay", math.inf),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    """The message names the option and its value."""
    with pytest.raises(BadOption, match=f"{option}={value}"):
        fit(linear(), blobs(20), blobs(20), replace(TRAINING, **{option: value}), 0)


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_an_empty_split_is_refused(empty: str) -> None:
    """Neither split may be empty."""
    nothing, some = blobs(20).at(slice(0, 0)), blobs(20)
    train, validation = (nothing, some) if empty == "training" else (some, nothing)
    with pytest.raises(BadInput, match=f"the {empty} split is empty"):
        fit(linear(), train, validation, TRAINING, 0)


@pytest.mark.parametrize(("width", "threads"), [(8, 1), (4000, 2)])
def test_little_work_takes_one_thread_and_gives_the_others_back(width: int, threads: int) -> None:
    """A width of 8 is little work, one of 4000 is much; the setting comes back."""
    module = nn.Sequential(nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 2))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(module, blobs(16).x):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_module_that_raises_is_a_failed_method() -> None:
    """A stranger's error becomes one line, and the module is left in eval mode."""
    module = nn.Linear(3, 2)  # the inputs have two entries
    with pytest.raises(MethodFailed, match="training failed: RuntimeError"):
        fit(module, blobs(20), blobs(20), TRAINING, 0)
    assert not module.training
