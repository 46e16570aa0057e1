"""The attack of the catalogue by another way, and past a gate."""

import pytest
import torch

from tests.routes.models import Watchful, Weighing, mail, numbers
from trustml.attacks.fgsm import fgsm
from trustml.errors import BadOption, NotApplicable, UnknownName
from trustml.routes.envelope_noise import envelope_noise
from trustml.threats import Lp

WEIGHTS = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))
GRAY, MOST = 0.5 * float(WEIGHTS.sum()), 0.1 * float(WEIGHTS.abs().sum())


def test_it_is_the_attack_itself() -> None:
    split, threat = mail(), Lp("linf", 0.1, 0.0, 1.0)
    model = Weighing(WEIGHTS, GRAY + 0.5 * MOST)
    change = envelope_noise(model, split, random=numbers(split), attack="fgsm")
    moved = change(split.x, split.y, numbers(split))
    itself = fgsm(model, split.x, split.y, threat, random=numbers(split))
    assert torch.equal(moved, threat.project(itself, split.x))


def test_it_does_not_stop_where_a_person_looks() -> None:
    """Just past the border a person looks: the right class must be left by `near`, and can be."""
    split = mail()
    model = Watchful(Weighing(WEIGHTS, GRAY + 0.5 * MOST), near=0.4 * MOST)
    change = envelope_noise(model, split, random=numbers(split))
    assert bool((model(change(split.x, split.y, numbers(split))).argmax(1) == 1).all())


def test_what_cannot_be_is_refused() -> None:
    split, model = mail(), Weighing(WEIGHTS, GRAY)
    with pytest.raises(UnknownName, match="apgd"):
        envelope_noise(model, split, random=numbers(split), attack="apgdd")
    with pytest.raises(BadOption, match="does not know l0"):
        envelope_noise(model, split, random=numbers(split), attack="fgsm", norm="l0")
    with pytest.raises(NotApplicable, match="cannot aim"):
        envelope_noise(Watchful(model, 1), split, random=numbers(split), attack="autoattack")
