"""Attacks on networks whose exact verdicts are known: none wins where none can, all come near."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.attacks.complete import CLOSE, ENTRIES, NETS, SAMPLES, nearest, net
from trustml.contracts import Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.registry import all_of, get
from trustml.threats import Lp

IDS = torch.arange(SAMPLES)
EVERYWHERE = float("inf")
# Cut short where more only takes longer.
SHORT: dict[str, dict[str, Any]] = {
    "autoattack": {"queries": 100, "steps": 20},
    "boundary": {"queries": 500},
    "brendel_bethge": {"steps": 60},
    "carlini_wagner": {"steps": 60, "searches": 6},
    "ead": {"steps": 60},
    "rays": {"queries": 500},
    "sigma_zero": {"steps": 200},
    "simba": {"queries": 100},
    "square": {"queries": 200},
}
# They are for affine models alone, and for models with features, and say so.
ELSEWHERE = ("linear_exact", "feature_adversary")
PLUGINS = [plugin for plugin in all_of("attack") if plugin.name not in ELSEWHERE]
# Of images' own measures the exact distance is not known.
EVERY = [(p.name, norm) for p in PLUGINS for norm in p.facts["norms"] if norm in get_args(Norm)]
# It goes one way only, wherever that leads.
ONE_WAY = "contrast_reduction"
NEAREST = [
    pair for pair in EVERY if pair[0] != ONE_WAY and get("attack", pair[0]).facts["minimum_norm"]
]
# Thousands of queries each, and no attack of the default ensembles among them.
LONG = (
    "alma", "bandits", "blended_noise", "brendel_bethge", "gen_attack", "nes", "pixle",
    "sign_hunter", "sign_opt", "surfree",
)  # fmt: skip
# They go to the first border that they meet, or see no more than labels.
ROUGHLY = dict.fromkeys(
    ("blended_noise", "ddn", "deepfool", "geoda", "hop_skip_jump", "sign_opt", "surfree"), 2.0
)


def each(pairs: list[tuple[str, str]]) -> list[Any]:
    """Return parameters for attacks and norms, those that take long marked as slow."""
    slow = pytest.mark.slow
    return [pytest.param(*pair, marks=slow if pair[0] in LONG else ()) for pair in pairs]


every_net = pytest.mark.parametrize("widths", NETS.values(), ids=NETS)


def attacked(name: str, widths: tuple[int, ...], threat: Lp, **options: Any) -> Tensor:
    """Return the attack's points, checked to be allowed."""
    here, options = net(*widths), {**SHORT.get(name, {}), **options}
    attack = get("attack", name).function
    found = attack(here.module, here.x, here.y, threat, random=keyed(0, IDS), **options)
    assert bool(threat.contains(found, here.x).all())
    return found


@every_net
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_truth_has_a_witness(widths: tuple[int, ...], norm: Norm) -> None:
    """At the point that is said to be nearest another logit ties, and it is as far as is said."""
    here = net(*widths)
    points, far = here.witnesses(norm), here.distances(norm)
    logits = here.module.double()(points)
    here.module.float()
    own = logits.gather(1, here.y[:, None])
    lead = logits.scatter(1, here.y[:, None], -torch.inf).amax(1) - own[:, 0]
    assert bool((lead.abs() < CLOSE).all() if norm != "l0" else (lead > -CLOSE).all())
    moved = (points - here.x.double()).abs()
    moved[moved < 1e-7] = 0
    assert torch.allclose(distance(here.x + moved, here.x.double(), norm), far, atol=CLOSE)


@pytest.mark.parametrize(("kind", "norm"), [("one layer", "linf"), ("two layers", "l1")])
def test_two_ways_to_the_truth_agree(kind: str, norm: Norm) -> None:
    """One sample once more, by a linear programme in each linear region of the network."""
    from scipy.optimize import linprog

    here, count = net(*NETS[kind]), 1 if norm == "linf" else ENTRIES
    x, own = here.x[0].double().numpy(), int(here.y[0])
    which = np.ones((ENTRIES, 1)) if count == 1 else np.eye(ENTRIES)
    for rival in {0, 1, 2} - {own}:
        least = np.inf
        for g, h, weight, bias in here.regions:
            wins, shift = weight[rival] - weight[own], bias[rival] - bias[own]
            inside = np.r_[g, wins[None]]
            rows = [[-inside, np.zeros((len(inside), count))]]
            rows += [[way * np.eye(ENTRIES), -which] for way in (1, -1)]
            answer = linprog(
                np.r_[np.zeros(ENTRIES), np.ones(count)], np.block(rows), np.r_[h, shift, x, -x],
                bounds=[(None, None)] * ENTRIES + [(0, None)] * count,
            )  # fmt: skip
            least = min(least, answer.fun if answer.success else np.inf)
        assert least == pytest.approx(nearest(here, 0, norm, rival)[0], abs=CLOSE)


@every_net
def test_norms_enclose_each_other(widths: tuple[int, ...]) -> None:
    """L2 is found by another method than Linf and L1, and has to lie in between."""
    linf, l2, l1 = (net(*widths).distances(norm) for norm in ("linf", "l2", "l1"))
    assert bool((linf <= l2 + CLOSE).all() & (l2 <= l1 + CLOSE).all())
    assert bool((l2 <= ENTRIES**0.5 * linf + CLOSE).all() & (l1 <= ENTRIES**0.5 * l2 + CLOSE).all())


@every_net
@pytest.mark.parametrize(("name", "norm"), each(EVERY))
def test_none_wins_where_it_is_proved_that_none_can(
    name: str, norm: Norm, widths: tuple[int, ...]
) -> None:
    """Budgets of 0.999 of the exact distance to the nearest misread point (L0: one entry fewer)."""
    least = net(*widths).distances(norm)
    threat = Lp(norm, (least - 1).clamp_min(0) if norm == "l0" else 0.999 * least)
    assert not bool(net(*widths).misread(attacked(name, widths, threat)).any())


@every_net
@pytest.mark.parametrize(("name", "norm"), each(NEAREST))
def test_minimum_norms_are_never_below_the_truth_and_near_it(
    name: str, norm: Norm, widths: tuple[int, ...]
) -> None:
    """Half of the samples are within the stated factor; a walk may lead the others astray."""
    here = net(*widths)
    found = attacked(name, widths, Lp(norm, EVERYWHERE))
    far = distance(found, here.x, norm).masked_fill(~here.misread(found), torch.inf)
    ratio = far / here.distances(norm)
    assert ratio.min() >= 1 - CLOSE
    # GeoDA in L1 moves one entry alone, which its labels may have chosen wrongly.
    assert ratio.median() <= (2.5 if (name, norm) == ("geoda", "l1") else ROUGHLY.get(name, 1.15))


# Whoever follows slopes may be stuck where they lead nowhere, so a few may be missed, but no more.
FINDERS: dict[str, tuple[dict[str, Any], float, int]] = {
    "strongest": ({"rounds": 3}, 1.25, 0),
    "strongest as it comes": ({}, 1.05, 1),
    "autoattack": ({"queries": 200}, 1.25, 0),
    "pgd": ({"restarts": 20, "loss": "margin"}, 1.25, 1),
    "apgd": ({"restarts": 10, "loss": "margin"}, 1.25, 0),
    "apgd_targeted": ({"restarts": 5}, 1.25, 0),
}


@every_net
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("case", FINDERS)
def test_what_can_be_found_is_found(case: str, norm: Norm, widths: tuple[int, ...]) -> None:
    """A quarter more than the exact distance holds a misread point of every sample."""
    options, share, missed = FINDERS[case]
    threat = Lp(norm, share * net(*widths).distances(norm))
    found = attacked(case.split()[0], widths, threat, **options)
    assert int((~net(*widths).misread(found)).sum()) <= missed


@every_net
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["pgd", "strongest", "fab"])
def test_a_class_that_is_wanted_must_at_least_pass_the_label(
    name: str, norm: Norm, widths: tuple[int, ...]
) -> None:
    """Below the exact distance to where it does nobody wins; in the whole box many do."""
    here, attack = net(*widths), get("attack", name).function
    goals = (here.y + 1) % 3
    rows = zip(range(SAMPLES), goals.tolist(), strict=True)
    least = torch.tensor([nearest(here, row, norm, goal)[0] for row, goal in rows]).double()
    for epsilon, may in ((0.999 * least, False), (EVERYWHERE, True)):
        threat = Lp(norm, epsilon, targeted=True)
        found = attack(here.module, here.x, goals, threat, random=keyed(0, IDS))
        with torch.no_grad():
            won = here.module(found).argmax(1) == goals
        assert bool(won.any()) == may
        assert bool((distance(found, here.x, norm)[won] >= least[won] - CLOSE).all())


@pytest.mark.parametrize(("name", "norm"), each(EVERY))
def test_an_endless_ball_is_the_box(name: str, norm: Norm) -> None:
    """Infinity times a gradient of 0 is no number: every point must stay one, and most are lost."""
    widths = NETS["two layers"]
    found = attacked(name, widths, Lp(norm, EVERYWHERE))
    if name not in ("noise", "fgsm"):
        assert net(*widths).misread(found).double().mean() > 0.5
