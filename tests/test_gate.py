"""Gates: the promised false alarms by simulation, thresholds by hand, one input or many."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trustml.contracts import Outputs
from trustml.errors import BadInput, BadOption, MethodFailed
from trustml.gate import gate


def outputs(suspicion: Tensor, draws: int | None = None) -> Outputs:
    """Return outputs whose first logit is the suspicion."""
    logits = torch.stack([suspicion, torch.zeros_like(suspicion)], 1)
    several = None if draws is None else logits.expand(draws, -1, -1)
    y = torch.zeros(len(suspicion)).long()
    return Outputs(logits, logits, logits, y, several)


def first(given: Outputs) -> Tensor:
    return given.logits[:, 0]


def test_the_threshold_by_hand() -> None:
    """Of 1 … 19 with 10 %: the 18th, so that 19 and more are stopped; 2 of 20 expected."""
    made = gate(first, outputs(torch.arange(1.0, 20)), false_alarms=0.1)
    assert made.threshold == 18
    assert made.expected.value == pytest.approx(2 / 20)
    asked = outputs(torch.tensor([17.0, 18, 18.5, -math.inf, math.nan]))
    assert made.accept(asked).tolist() == [True, True, False, True, False]
    assert made.stopped(asked, "lower").value == pytest.approx(2 / 5)


def test_false_alarms_are_kept_on_average_and_the_interval_holds_them() -> None:
    """Suspicions of an odd law; 600 fits with 60 validation samples and the exact rate after it."""
    generator = torch.Generator().manual_seed(0)
    rates, held = [], 0
    for _ in range(600):
        made = gate(first, outputs(torch.rand(60, generator=generator) ** 3), false_alarms=0.1)
        rates.append(1 - made.threshold ** (1 / 3))
        held += made.expected.low <= rates[-1] <= made.expected.high
    assert np.mean(rates) <= 0.1 + 4 * np.std(rates) / math.sqrt(600)
    assert np.mean(rates) >= 0.1 - 1 / 61 - 4 * np.std(rates) / math.sqrt(600)
    assert held / 600 == pytest.approx(0.95, abs=0.036)  # 4 standard errors


def test_one_input_without_a_batch_axis() -> None:
    made = gate(first, outputs(torch.arange(50.0), draws=3))
    many = outputs(torch.tensor([3.0, 99.0]), draws=3)
    assert many.draws is not None
    for row, accepted in ((0, True), (1, False)):
        one = Outputs(many.logits[row], many.features[row], many.x[row], many.y[row],
                      many.draws[:, row])  # fmt: skip
        assert made.accept(one).tolist() == [accepted]


def test_tied_suspicions_are_never_stopped_too_often() -> None:
    """A constant suspicion stops nobody: no threshold could stop just 5 % of it."""
    made = gate(first, outputs(torch.zeros(100)))
    assert bool(made.accept(outputs(torch.zeros(7))).all())


def test_what_cannot_be_promised_is_refused() -> None:
    with pytest.raises(BadOption, match="needs 99 validation samples or more, and there are 50"):
        gate(first, outputs(torch.zeros(50)), false_alarms=0.01)
    gate(first, outputs(torch.zeros(99)), false_alarms=0.01)
    with pytest.raises(BadOption, match="needs 19 "):
        gate(first, outputs(torch.zeros(18)))
    gate(first, outputs(torch.zeros(19)))
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(BadOption, match="between 0 and 1"):
            gate(first, outputs(torch.zeros(50)), false_alarms=share)
    with pytest.raises(BadInput, match="no validation sample"):
        gate(first, outputs(torch.zeros(0)))
    with pytest.raises(BadInput, match="NaN"):
        gate(first, outputs(torch.full((30,), math.nan)))
    with pytest.raises(MethodFailed, match=r"\(30, 2\)"):
        gate(lambda given: given.logits, outputs(torch.zeros(30)))
    made = gate(first, outputs(torch.zeros(30)))
    with pytest.raises(MethodFailed, match="float"):
        replace(made, scorer=lambda given: 0.5).accept(outputs(torch.zeros(3)))
