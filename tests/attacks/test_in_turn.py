"""Attacks in turn: who goes first, who is passed on, and whose point comes back."""

import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._in_turn import Stage, in_turn
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.randomness import keyed
from trustml.threats import Lp

IDS = torch.arange(6)
# One number an input, class 1 above a half; inputs of class 0 that a move of 0.5 at most can turn.
X = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.4, 0.45])[:, None]
Y = torch.zeros(6, dtype=torch.int64)
THREAT = Lp("linf", 0.5)


def model(x: Tensor) -> Tensor:
    return torch.cat([0.5 - x, x - 0.5], dim=1)


def move(length: float, seen: list[Tensor] | None = None) -> Stage:
    """A stage that moves all that it is given by `length`, and notes what it was given."""

    def run(part: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random) -> Tensor:
        if seen is not None:
            seen.append(x[:, 0])
        return x + length

    return run


def run(*stages: Stage, threat: Threat = THREAT) -> Tensor:
    return in_turn(model, X, Y, threat, keyed(0, IDS), stages)


def test_each_stage_sees_what_the_others_left() -> None:
    """Moves of 0.15 turn the inputs above 0.35, moves of 0.25 those above 0.25 as well."""
    seen: list[Tensor] = []
    run(move(0.15, seen), move(0.25, seen), move(0.35, seen))
    assert [len(given) for given in seen] == [6, 4, 3]
    assert torch.equal(seen[2], X[:3, 0])


def test_the_first_point_that_wins_comes_back_else_the_last() -> None:
    """0.4 and 0.45 keep their move of 0.15 although 0.25 wins too; 0.05 … 0.2 get the last one."""
    moved = (run(move(0.15), move(0.25)) - X)[:, 0]
    assert torch.allclose(moved, torch.tensor([0.25, 0.25, 0.25, 0.25, 0.15, 0.15]))


def test_nothing_runs_once_all_are_won() -> None:
    seen: list[Tensor] = []
    run(move(0.5, seen), move(0.5, seen))
    assert len(seen) == 1


def test_no_inputs_are_no_work() -> None:
    """An empty batch comes back empty; no stage is asked."""
    seen: list[Tensor] = []
    none = in_turn(model, X[:0], Y[:0], THREAT, keyed(0, IDS[:0]), [move(0.1, seen)])
    assert none.shape == (0, 1)
    assert not seen


def test_what_comes_back_from_outside_does_not_win() -> None:
    """Past the ball 0.7 would turn all; pulled back to 0.2 it turns those above 0.3 only."""
    candidate = run(move(0.7), threat=Lp("linf", 0.2))
    assert bool(Lp("linf", 0.2).contains(candidate, X).all())
    assert (model(candidate).argmax(1) == 1).tolist() == [False, False, False, False, True, True]


def test_each_sample_keeps_its_budget_and_its_random_numbers() -> None:
    """Rows passed on carry their own epsilon and stream; two stages draw different numbers."""
    drawn: list[Tensor] = []

    def at_random(part: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random) -> Tensor:
        numbers = random.uniform((1,), "test")
        drawn.append(numbers)
        return x + threat.budget(x).to(x.dtype) * numbers

    epsilon = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    together = in_turn(model, X, Y, Lp("linf", epsilon), keyed(0, IDS), [at_random, at_random])
    assert len(drawn[1]) < 6
    assert not torch.isin(drawn[1], drawn[0]).any()
    for row in range(6):
        only = torch.tensor([row])
        threat = Lp("linf", epsilon[only])
        alone = in_turn(model, X[only], Y[only], threat, keyed(0, only), [at_random, at_random])
        assert torch.equal(alone, together[only])


def test_passes_are_counted_to_the_right_samples() -> None:
    """One look after each stage that saw the sample, and nothing else."""
    handed = Handed(model, Access.GRADIENTS, 6)
    in_turn(handed, X, Y, THREAT, keyed(0, IDS), [move(0.15), move(0.25), move(0.35)])
    assert handed.forwards.tolist() == [3, 3, 3, 2, 1, 1]


def test_a_wanted_class_is_reached_by_its_own_rule() -> None:
    """Targeted at class 0, all are there already: the first stage wins where they stay."""
    threat = Lp("linf", 0.5, targeted=True)
    seen: list[Tensor] = []
    in_turn(model, X, Y, threat, keyed(0, IDS), [move(0.0), move(0.1, seen)])
    assert not seen
