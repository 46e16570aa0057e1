"""Ensembles: members that differ, and the resampling of the bootstrap."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from trustml.contracts import Epoch, Split, Training
from trustml.models import _ensemble
from trustml.models._ensemble import Ensemble


def test_members_start_and_shuffle_differently(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
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
    posterior: str,
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[..., nn.Module],
    samples: Callable[..., Split],
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
