"""Partition aggregation against flipped labels, end to end: what is certified stays."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.contracts import Split, Training
from trustml.data.digits import digits
from trustml.defenses.partition_aggregation import (
    certified_poisons,
    partition,
    partition_aggregation,
)
from trustml.models.logistic import logistic
from trustml.training import fit

PARTS = 7
HOW = Training(epochs=2, batch_size=32, learning_rate=0.03)


def voted(train: Split, held: Split, x: Tensor) -> Tensor:
    """Return the votes (B, K) of members that learnt from the split."""
    domain = train.domain
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        guard: Any = partition_aggregation(lambda: logistic(domain), domain, parts=PARTS)
    fit(guard, train, held, HOW, 0)
    return guard.votes(x)


def flipped(train: Split, count: int, at_once: bool) -> Split:
    """Return the split with so many labels turned: all in one part, or each in another."""
    parts = partition(train, PARTS)
    ids = parts[0].ids[:count] if at_once else torch.stack([part.ids[0] for part in parts[:count]])
    rows = torch.isin(train.ids, ids)
    assert int(rows.sum()) == count
    return replace(train, y=torch.where(rows, (train.y + 1) % train.classes, train.y))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_flips_up_to_the_certified_count_change_no_answer(count: int, at_once: bool) -> None:
    """Theorem 1 of the paper: of all test digits, those certified against so many flips stay.

    And the flips do reach the members: somewhere a vote is another.
    """
    data = digits(folder=None)
    train, held, x = data.train, data.validation, data.test.x
    before = voted(train, held, x)
    after = voted(flipped(train, count, at_once), held, x)
    stays = certified_poisons(before) >= count
    assert float(stays.double().mean()) > 0.2, "there is something to contradict"
    assert torch.equal(before.argmax(1)[stays], after.argmax(1)[stays])
    assert not torch.equal(before, after)
    moved = (before - after).abs().sum(1).amax() / 2
    assert float(moved) <= (1 if at_once else count)
