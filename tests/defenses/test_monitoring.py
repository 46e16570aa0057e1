"""Monitors against scipy, closed forms and their own recursions, on mail that is made here."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml import countermeasures
from trustml.contracts import Split
from trustml.defenses._watching import past
from trustml.defenses.drift_monitor import drift_monitor
from trustml.defenses.golden_card import golden_card
from trustml.defenses.query_monitor import query_monitor
from trustml.defenses.second_scanner import second_scanner
from trustml.defenses.zip_city import misfit, town_name, towns_of, zip_city
from trustml.errors import BadInput, BadOption, MethodFailed, NotApplicable
from trustml.randomness import keyed

SHAPE = (1, 4, 4)


def mail(count: int, seed: int) -> Tensor:
    """Return inputs (N, 1, 4, 4) in [0, 1] with a spread of its own in each pixel."""
    draw = torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.1, 0.9, 16).view(SHAPE)
    return (0.05 + scale * torch.rand(count, *SHAPE, generator=draw)).clamp(0, 1)


def validation(count: int = 120, classes: int = 10) -> Split:
    """Return clean mail that the model has not learnt from."""
    return Split(mail(count, 1), torch.arange(count) % classes, torch.arange(count), classes)


class Reader(nn.Module):
    """Reads the digit that is written in the first pixel: tenths, with the given sharpness."""

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3]

    def forward(self, x: Tensor) -> Tensor:
        return -400 * (x.flatten(1)[:, :1] - torch.arange(10) / 10).square()


def written(digits: Tensor) -> Tensor:
    """Return items that the Reader reads as these digits (N,)."""
    items = torch.zeros(len(digits), *SHAPE)
    items[:, 0, 0, 0] = digits / 10
    return items


def same(x: Tensor) -> Tensor:
    """Scan as a scanner should."""
    return x


def darker(x: Tensor) -> Tensor:
    """Scan with a tenth of the gain lost."""
    return 0.9 * x


MONITORS = {
    "golden_card": golden_card, "drift_monitor": drift_monitor, "second_scanner": second_scanner,
    "query_monitor": query_monitor, "zip_city": zip_city,
}  # fmt: skip


@pytest.mark.parametrize("name", MONITORS)
def test_what_comes_later_changes_no_suspicion(name: str) -> None:
    """The contract: entry n depends on the items up to n alone, so a shorter stream is a prefix."""
    plugin: Any = MONITORS[name]
    held, items = validation(), mail(43, 2)
    watch = plugin(Reader(), held, random=keyed(0, held.ids))
    whole = watch(items, darker)
    for count in (1, 7, 42):
        assert torch.allclose(watch(items[:count], darker), whole[:count], atol=1e-9)


def test_a_card_shows_what_the_scanner_does() -> None:
    """A tenth of the gain lost is a tenth of a known card's length; a clean scanner is at 0.

    With one card in five items, 4000 items have 800 ± 25 (sd) cards, of which the last counts.
    """
    held = validation()
    watch = golden_card(Reader(), held, random=keyed(0, held.ids), every=5)
    items = mail(4000, 2)
    assert not bool(watch(items, same).any())
    cards: list[Tensor] = []

    def noted(x: Tensor) -> Tensor:
        cards.append(x)
        return darker(x)

    found = watch(items, noted)
    first = int((found > 0).nonzero()[0])
    shown = found[first:].unique_consecutive()
    wrong = 0.1 * torch.cat(cards).flatten(1).double().norm(dim=1).unique_consecutive()
    assert torch.allclose(shown, wrong, atol=1e-6), "one card after the other, up to the last"
    assert not bool(found[:first].any()), "no card has come yet"
    lengths = 0.1 * held.x.flatten(1).double().norm(dim=1)
    apart = (found[first:, None] - lengths).abs().amin(1)
    assert float(apart.max()) < 1e-5, "each is the length of one of the cards"
    changes = int((found[1:] != found[:-1]).sum()) + 1
    assert 700 < changes < 900


def test_who_tells_a_card_passes_and_who_must_guess_does_not() -> None:
    """Random shades are told from mail; a piece of mail only by one who has the very pieces."""
    held, items = validation(), mail(300, 2)
    numbers = keyed(0, held.ids)
    known = held.x.flatten(1)

    def spares(suspected: Any) -> Any:
        return lambda x: torch.where(suspected(x).view(-1, 1, 1, 1), x, darker(x))

    bright = spares(lambda x: x[:, 0, 0, 0] > 0.16)  # mail never is, in this corner
    leaked = spares(lambda x: torch.cdist(x.flatten(1), known).amin(1) < 1e-6)
    card: Any
    for card, scan, caught in (
        ("pattern", bright, False), ("mail", bright, True), ("mail", leaked, False),
    ):  # fmt: skip
        watch = golden_card(Reader(), held, random=numbers, every=3, card=card)
        found = watch(items, scan)
        share = float((found > 0).double().mean())
        assert share > 0.9 if caught else share < 0.5, (card, share)


def drift(statistic: Any, window: int) -> tuple[Any, Split]:
    """Return a watch over pixels, and its validation samples."""
    held = validation()
    numbers = keyed(3, held.ids)
    return drift_monitor(
        Reader(), held, random=numbers, statistic=statistic, window=window, reads="pixels"
    ), held


def scaled(held: Split, *parts: Tensor) -> list[Tensor]:
    """Return parts in the monitor's unit: one for all pixels."""
    known = past(held, len(held), keyed(3, held.ids)).flatten(1).double()
    unit = known.std(0).square().mean().sqrt()
    return [(part.flatten(1).double() - known.mean(0)) / unit for part in parts]


def stream_of(held: Split, items: Tensor, window: int) -> Tensor:
    """Return the items after the clean ones that a watch begins with."""
    return torch.cat([past(held, window, keyed(3, held.ids).fold(1)), items])


def test_ks_is_scipys_in_the_worst_dimension() -> None:
    """The truth is scipy's two-sample statistic for each window and each pixel."""
    from scipy.stats import ks_2samp

    watch, held = drift("ks", 6)
    items = (mail(9, 4) * 8).round() / 8  # ties among the items, too
    known, stream = scaled(held, held.x, stream_of(held, items, 6))
    truth = [
        max(
            ks_2samp(stream[n + 1 : n + 7, column], known[:, column]).statistic
            for column in range(16)
        )
        for n in range(len(items))
    ]
    assert np.allclose(watch(items, same).numpy(), truth, atol=1e-9)


def test_mmd_is_the_unbiased_estimate_of_each_window() -> None:
    """Equation 3 of Gretton et al. 2012, written out with loops; the width is the median."""
    watch, held = drift("mmd", 5)
    items = mail(8, 4)
    known, stream = scaled(held, held.x, stream_of(held, items, 5))
    apart = torch.cdist(known, known)
    width = float(apart[apart > 0].median())

    def kernel(x: Tensor, y: Tensor) -> float:
        return float(torch.exp(-(x - y).square().sum() / (2 * width**2)))

    among = np.mean([kernel(x, y) for x, y in itertools.permutations(known, 2)])
    found = watch(items, same)
    for n in (0, 3, 7):
        part = stream[n + 1 : n + 6]
        own = np.mean([kernel(x, y) for x, y in itertools.permutations(part, 2)])
        across = np.mean([kernel(x, y) for x in part for y in known])
        assert float(found[n]) == pytest.approx(among + own - 2 * across, abs=1e-7)


def test_cusum_is_pages_recursion() -> None:
    """S_n = max(0, S_(n-1) + z_n - 1/2), one step after the other, from 0."""
    watch, held = drift("cusum", 5)
    items = torch.cat([mail(6, 4), 0.3 * mail(12, 5), mail(6, 6)])
    known, stream = scaled(held, held.x, stream_of(held, items, 5))
    own = torch.cdist(known, known).sort(1).values[:, 1:6].mean(1)
    total, truth = 0.0, []
    for one in torch.cdist(stream, known).sort(1).values[:, :5].mean(1):
        total = max(0.0, total + float((one - own.mean()) / own.std()) - 0.5)
        truth.append(total)
    assert np.allclose(watch(items, same).numpy(), truth[5:], atol=1e-6)


@pytest.mark.parametrize("statistic", ["cusum", "mmd", "ks"])
def test_a_stuck_column_is_found_within_a_window(statistic: str) -> None:
    """Thirty clean streams give the threshold; the column is an eighth of all that varies."""
    watch, _ = drift(statistic, 20)
    clean = torch.stack([watch(mail(20, 100 + n), same)[-1] for n in range(30)])

    def stuck(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., 3] = 1.0
        return x

    found = torch.stack([watch(mail(20, 200 + n), stuck)[-1] for n in range(10)])
    assert float(found.min()) > float(clean.max())


def test_two_scanners_differ_by_their_noise_and_by_what_was_done() -> None:
    """Noise alone is 1 (400 pixels: sd 0.035); what moves each pixel by 0.1 adds (0.1/0.02)²/2."""
    grey = torch.full((50, 1, 20, 20), 0.5)
    held = Split(grey, torch.zeros(50).long(), torch.arange(50), 10, 0.0, 1.0)
    watch = second_scanner(Reader(), held, random=keyed(0, held.ids))
    clean, moved = watch(grey, same), watch(grey, lambda x: x + 0.1)
    assert float(clean.mean()) == pytest.approx(1, abs=0.02)
    assert float(moved.mean()) == pytest.approx((1 + 25 / 2) ** 0.5, rel=0.02)
    assert float(clean.std()) == pytest.approx(0.035, rel=0.35)
    exact = second_scanner(Reader(), held, random=keyed(0, held.ids), noise=0.0)
    assert not bool(exact(grey, same).any())


def test_answers_are_compared_by_the_jensen_shannon_divergence() -> None:
    """The truth is scipy's distance, squared, without noise."""
    from scipy.spatial.distance import jensenshannon

    held, items = validation(), mail(12, 2)
    watch = second_scanner(Reader(), held, random=keyed(0, held.ids), noise=0.0, compares="answers")
    one, other = (Reader()(x).double().softmax(1).numpy() for x in (items, darker(items)))
    truth = [jensenshannon(p, q) ** 2 for p, q in zip(one, other, strict=True)]
    assert np.allclose(watch(items, darker).numpy(), truth, atol=1e-8)


def test_crowded_queries_stand_out() -> None:
    """A walk of small steps is crowded, ordinary mail is about as crowded as ordinary mail is."""
    held = validation()
    watch = query_monitor(Reader(), held, random=keyed(0, held.ids), neighbours=3)
    ordinary = watch(mail(60, 2), same)
    assert 0.7 < float(ordinary.mean()) < 1.4
    noise = torch.randn(60, *SHAPE, generator=torch.Generator().manual_seed(0))
    walk = watch(mail(1, 3) + 0.01 * noise.cumsum(0), same)
    assert float(walk[3:].min()) > 1.5 * float(ordinary.max())
    again = watch(mail(1, 3).expand(20, *SHAPE), same)
    assert float(again[3:].min()) == pytest.approx(1e6), "the very same, three times already"


def test_near_duplicates_by_hand() -> None:
    """The mean distance to the three nearest among the four last queries, written out."""
    held, items = validation(), mail(10, 2)
    watch = query_monitor(Reader(), held, random=keyed(0, held.ids), neighbours=3, memory=4)
    stream = torch.cat([past(held, 100, keyed(0, held.ids)), items]).flatten(1).double()
    means = [
        float((stream[max(0, n - 4) : n] - stream[n]).norm(dim=1).sort().values[:3].mean())
        for n in range(1, len(stream))
    ]
    truth = np.mean(means[49:99]) / np.array(means[99:])
    assert np.allclose(watch(items, same).numpy(), truth, atol=1e-9)


def test_prada_is_that_of_the_services() -> None:
    """After the ordinary queries and the stream, W is the one of the gate that services use."""
    held, items = validation(), mail(40, 2)
    watch = query_monitor(Reader(), held, random=keyed(0, held.ids), statistic="prada")
    found = watch(items, same)
    monitor = countermeasures.Monitor(1e-9)
    stream = torch.cat([past(held, 100, keyed(0, held.ids)), items])
    monitor(stream, Reader()(stream).argmax(1))
    assert monitor.statistic is not None
    assert float(found[-1]) == pytest.approx(1 - monitor.statistic)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_a_letters_chance_is_the_sum_over_its_towns_codes() -> None:
    """Ten codes share the first four digits: summed one by one, for random probabilities."""
    draw = torch.Generator().manual_seed(0)
    chances = torch.rand(6, 5, 10, generator=draw, dtype=torch.float64).softmax(2)
    codes = torch.randint(10, (6, 5), generator=draw)
    found = misfit(chances, towns_of(codes), misread=0.1)
    for letter in range(6):
        fits = sum(
            float(
                np.prod([chances[letter, p, d] for p, d in enumerate((*codes[letter, :4], last))])
            )
            for last in range(10)
        )
        assert float(found[letter]) == pytest.approx(-np.log(0.9 * fits + 0.1 * 1e-4))


def test_towns_have_names_of_their_own() -> None:
    """Ten thousand towns, as many names; a code's town is that of its first four digits."""
    assert len({town_name(town) for town in range(10_000)}) == 10_000
    codes = torch.tensor([[0, 0, 0, 0, 9], [1, 2, 3, 4, 5]])
    assert [town_name(int(town)) for town in towns_of(codes)] == ["Albackbridge", "Brenfinham"]


def test_a_misread_digit_leaves_the_town_and_the_last_one_does_not() -> None:
    """The second letter's third digit and the third one's last digit are read as the next."""
    held = validation()
    digits = torch.randint(10, (20,), generator=torch.Generator().manual_seed(1)).clamp(max=8)
    step = torch.zeros(20)
    step[7], step[14] = 0.1, 0.1

    def tampered(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0, 0, 0] += step
        return x

    watch = zip_city(Reader(), held, random=keyed(0, held.ids), misread=0.0)
    found = watch(written(digits), tampered)
    assert found[:7].max() < 0.2
    assert found[7:10].min() > 3, "known from that digit to the letter's last"
    assert found[10:].max() < 0.2


def test_misread_names_are_as_many_as_said() -> None:
    """Half of 400 names misread (sd 2.5 %), of which a ten-thousandth fits by chance."""
    held = validation()
    digits = torch.randint(10, (2000,), generator=torch.Generator().manual_seed(1))
    watch = zip_city(Reader(), held, random=keyed(0, held.ids), misread=0.5)
    found = watch(written(digits), same)[4::5]
    assert 0.4 < float((found > 5).double().mean()) < 0.6


def test_what_cannot_be_watched_is_refused_by_name() -> None:
    """One line with what is allowed."""
    held = validation()
    numbers = keyed(0, held.ids)
    few = held.at(slice(5))
    with pytest.raises(BadOption, match=r"golden_card: every=0"):
        golden_card(Reader(), held, random=numbers, every=0)
    with pytest.raises(BadOption, match=r"drift_monitor: window=0"):
        drift_monitor(Reader(), held, random=numbers, window=0)
    with pytest.raises(BadOption, match=r"allowance=-1"):
        drift_monitor(Reader(), held, random=numbers, allowance=-1.0)
    with pytest.raises(BadInput, match=r"10 validation samples"):
        drift_monitor(Reader(), few, random=numbers)
    with pytest.raises(BadOption, match=r"noise=-1"):
        second_scanner(Reader(), held, random=numbers, noise=-1.0)
    with pytest.raises(BadInput, match=r"20 validation samples"):
        query_monitor(Reader(), few, random=numbers)
    with pytest.raises(BadOption, match=r"leave out reads"):
        query_monitor(Reader(), held, random=numbers, statistic="prada", reads="features")
    with pytest.raises(BadOption, match=r"misread=1"):
        zip_city(Reader(), held, random=numbers, misread=1.0)
    with pytest.raises(NotApplicable, match=r"ten digits"):
        zip_city(Reader(), validation(classes=3), random=numbers)
    with pytest.raises(BadInput, match=r"\(letters, 5, 10\)"):
        misfit(torch.zeros(2, 4, 10), torch.zeros(2).long())
    watch = second_scanner(Reader(), held, random=numbers)
    with pytest.raises(MethodFailed, match=r"no finite"):
        watch(mail(3, 1), lambda x: x / 0)
    with pytest.raises(MethodFailed, match=r"made \(3, 16\)"):
        watch(mail(3, 1), lambda x: x.flatten(1))
