"""Poisons: what is flipped, marked and blended is what was asked for."""

import pytest
import torch

from trustml.contracts import Split
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.poisoning.badnets import badnets
from trustml.poisoning.blended import blended
from trustml.poisoning.clean_label import clean_label
from trustml.poisoning.drift import drift
from trustml.poisoning.label_flip import label_flip
from trustml.randomness import keyed


def images(count: int = 400, side: int = 8, classes: int = 10) -> Split:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, side, side, generator=draw)
    y = torch.randint(classes, (count,), generator=draw)
    return Split(x, y, torch.arange(count), classes)


def test_flips_are_exactly_the_rate_and_never_the_true_class() -> None:
    """10 % of 400 is 40; "uniform" reaches every other class: P(one of 9 missed by 400) < 1e-17."""
    split = images()
    after, trigger = label_flip(split, random=keyed(0, split.ids), rate=0.1)
    assert trigger is None
    assert int((after.y != split.y).sum()) == 40
    assert torch.equal(after.x, split.x)
    after, _ = label_flip(split, random=keyed(0, split.ids), rate=1.0)
    assert sorted({int(d) for d in (after.y - split.y) % 10}) == list(range(1, 10))


def test_pairwise_and_aimed_flips() -> None:
    """Pairwise is the next class; an aimed flip takes its rate from the source class alone."""
    split = images()
    after, _ = label_flip(split, random=keyed(0, split.ids), rate=0.5, how="pairwise")
    flipped = after.y != split.y
    assert torch.equal(after.y[flipped], (split.y[flipped] + 1) % 10)
    after, _ = label_flip(split, random=keyed(0, split.ids), rate=0.3, source=9, target=4)
    flipped = after.y != split.y
    assert int(flipped.sum()) == round(0.3 * int((split.y == 9).sum()))
    assert set(split.y[flipped].tolist()) == {9}
    assert set(after.y[flipped].tolist()) == {4}


def test_badnets_marks_other_classes_and_calls_them_the_target() -> None:
    """Marked samples equal the trigger on their clean selves; nothing but the corner is changed."""
    split = images()
    after, trigger = badnets(split, random=keyed(0, split.ids), rate=0.05, target=3, size=3)
    marked = (after.y != split.y).nonzero()[:, 0]
    assert len(marked) == 20
    assert set(after.y[marked].tolist()) == {3}
    assert torch.equal(after.x[marked], trigger(split.x[marked]))
    assert torch.equal(after.x[..., :5, :], split.x[..., :5, :])
    assert torch.equal(after.x[..., :, :5], split.x[..., :, :5])
    corner = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert torch.equal(after.x[marked[0], 0, 5:, 5:], corner)


def test_clean_label_changes_no_label() -> None:
    """Half of the target class carries the mark, no other class does."""
    split = images()
    after, _ = clean_label(split, random=keyed(0, split.ids), rate=0.5, target=2)
    changed = (after.x != split.x).flatten(1).any(1)
    assert torch.equal(after.y, split.y)
    assert set(split.y[changed].tolist()) == {2}
    assert int(changed.sum()) == round(0.5 * int((split.y == 2).sum()))


def test_a_blend_of_full_weight_is_the_picture() -> None:
    """As x + 1·(p − x) = p, every blended sample is the same picture; 0.25 is a quarter of it."""
    split = images()
    _, whole = blended(split, random=keyed(0, split.ids), opacity=1.0)
    _, faint = blended(split, random=keyed(0, split.ids), opacity=0.25)
    picture = whole(split.x[:1])
    assert torch.allclose(whole(split.x), picture.expand_as(split.x), atol=1e-6)
    assert torch.allclose(faint(split.x), 0.75 * split.x + 0.25 * picture, atol=1e-6)


def test_drift_grows_with_the_id_and_ends_at_its_amount() -> None:
    """Of 400 samples at 0.25 the last 100 drift; the first by 1/100 of the amount."""
    split = Split(torch.zeros(400, 5), torch.zeros(400).long(), torch.arange(400).flip(0), 2)
    after, _ = drift(split, random=keyed(0, split.ids), rate=0.25, amount=0.5)
    shift = after.x[:, 0].flip(0)
    assert torch.equal(shift[:300], torch.zeros(300))
    assert torch.allclose(shift[300:], 0.5 * torch.arange(1, 101) / 100)
    flat, _ = drift(images(), random=keyed(0, split.ids), rate=1.0, amount=1.0, of="contrast")
    assert float(flat.x[-1].std()) < 1e-6


def test_bad_input_is_met_with_what_is_allowed() -> None:
    """The error says what was given and what to give instead."""
    split = images()
    random = keyed(0, split.ids)
    with pytest.raises(BadOption, match="size from 1 to 8"):
        badnets(split, random=random, size=9)
    with pytest.raises(BadOption, match="0 to 9"):
        clean_label(split, random=random, target=10)
    with pytest.raises(BadOption, match="same class"):
        label_flip(split, random=random, source=1, target=1)
    with pytest.raises(BadInput, match="rate of 0"):
        badnets(split, random=random, rate=1.0)
    with pytest.raises(BadOption, match="opacity"):
        blended(split, random=random, opacity=0.0)
    flat = Split(torch.rand(9, 5), torch.zeros(9).long(), torch.arange(9), 2)
    for one in (badnets, clean_label, blended):
        with pytest.raises(NotApplicable, match="images"):
            one(flat, random=keyed(0, flat.ids))
