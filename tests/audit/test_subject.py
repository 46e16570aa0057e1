"""What an audit takes a model for, before anything is attacked."""

from pathlib import Path

import pytest

from trustml.audit import agenda
from trustml.audit.preparing import prepared
from trustml.audit.stealing import STEALING
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access

_SOURCE = """
from torch import nn

def sure():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.mark.parametrize(("function", "says"), [("sure", "probabilities"), ("bare", "logits")])
def test_what_answers_probabilities_is_not_said_to_answer_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, says: str
) -> None:
    """Though its gradients are known: a thief who asks sees what it answers, and no more."""
    (tmp_path / "make.py").write_text(_SOURCE)
    monkeypatch.setattr(agenda, "SECTIONS", (STEALING,))
    plan = Plan((f"{tmp_path / 'make.py'}:{function}",))
    found = prepared(plan, "quick", tmp_path / "audit")
    assert found.subject.access == Access.GRADIENTS
    assert found.prints.answers == says
    assert found.prints.sums_to_one == (says == "probabilities")
    assert found.items[0].plan is not None
    assert found.items[0].plan.terms == f"answers={says}"
