"""An inspection along gradients that mislead is no examination; one that asks for answers is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trustml.benchmarks.inspection_cases import FROM, RAW, USUAL, scores_of
from trustml.benchmarks.inspection_controls import CONTROLS, FAR, OWN
from trustml.benchmarks.inspection_sight import MISLED
from trustml.contracts import Record

Run = Callable[..., list[Record]]
QUICK: dict[str, Any] = {
    "data": "digits", "attacks": (), "controls": 4, "false_alarms": 0.2, "limit": 50,
}  # fmt: skip
LOOKS = ("neural_cleanse:steps=5,samples=4", "maximum_margin:steps=2,starts=2", "sliding_patch")


@pytest.mark.parametrize(("guard", "status"), [("+bit_depth:bits=3", "skipped"), ("", "done")])
def test_hidden_gradients_are_not_followed(run: Run, guard: str, status: str) -> None:
    """Rounded to 8 levels the answers have the gradient 0, along which no trigger is found."""
    models = (f"mlp:hidden=[16],epochs=2,patience=0{guard}",)
    found = run(**QUICK, models=models, inspections=LOOKS)
    assert [record.status for record in found] == [status, status, "done"]
    if guard:
        assert all(record.reason.startswith(MISLED) for record in found[:2])
        assert "sliding_patch asks for answers" in found[0].reason


def test_the_suspicion_stands_beside_that_of_honest_models() -> None:
    """Class 1 is the oddest; of honest models it has 0.0, 0.2 and 0.3: the median is 0.2."""
    found = {
        OWN: torch.tensor([0.1, 9.0]),
        CONTROLS: torch.tensor([[0.0, 0.3], [0.2, 0.0], [0.1, 0.2]]),
    }
    scores = scores_of(found, 0.25)
    assert scores[RAW].value == pytest.approx(9.0)
    assert scores[USUAL].value == pytest.approx(0.2)
    assert FROM not in scores
    assert scores_of(found | {FAR: torch.tensor(3.0)}, 0.25)[FROM].value == 3.0
