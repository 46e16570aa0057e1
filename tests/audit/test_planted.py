"""What was planted is found, and an honest model is not accused: backdoors and hidden gradients."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trustml.audit.auditing import FINDINGS, run_of
from trustml.audit.backdoor import BACKDOOR
from trustml.audit.findings import Finding, numbered
from trustml.audit.preparing import AUDIT
from trustml.audit.replaying import replay
from trustml.audit.robustness import ROBUSTNESS
from trustml.audit.sections import Section, Subject
from trustml.benchmarks import harness
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Split
from trustml.data.digits import digits
from trustml.poisoning.badnets import badnets
from trustml.randomness import keyed

pytestmark = pytest.mark.slow
TARGET = 7
_SOURCE = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )

class Rounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = build()

    def forward(self, x):
        return self.inside((x * 4).round() / 4)

class Saturated(Rounded):
    def forward(self, x):
        return (200 * self.inside(x)).softmax(1)
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of models, and weights: honest ones, and ones with a backdoor of class 7."""
    room = tmp_path_factory.mktemp("planted")
    (room / "make.py").write_text(_SOURCE)
    known: dict[str, object] = {}
    exec(_SOURCE, known)
    clean = digits(folder=None).train
    bad, _ = badnets(clean, random=keyed(0, clean.ids), rate=0.1, target=TARGET, size=2)
    for name, split in (("honest", clean), ("bad", bad)):
        weights = _fitted(known["build"](), split).state_dict()  # type: ignore[operator]
        torch.save(weights, room / f"{name}.pt")
        hidden = {f"inside.{key}": value for key, value in weights.items()}
        torch.save(hidden, room / f"{name}-inside.pt")
    return room


def _fitted(module: nn.Module, split: Split) -> nn.Module:
    """Train as any stranger would; the weights must not depend on the order of the tests."""
    random = torch.Generator().manual_seed(0)
    for p in module.parameters():
        bound = p[0].numel() ** -0.5 if p.dim() > 1 else 0.1
        p.data = (torch.rand(p.shape, generator=random) * 2 - 1) * bound
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(split), generator=random).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(split.x[rows]), split.y[rows]).backward()
            optimizer.step()
    return module.eval()


def _found(section: Section, model: str, folder: Path) -> dict[str, Finding]:
    subject = Subject(Access.GRADIENTS, "quick", True, ("linf", "l2"), training=1000)
    plan = section.plan(Plan((model,)), subject)
    return {found.name: found for found in section.judged(list(harness.start(plan, folder)))}


@pytest.mark.parametrize("more", ["", "cnn"])
def test_a_backdoor_is_found_and_names_its_class(room: Path, tmp_path: Path, more: str) -> None:
    """Beside its own code trained anew, and beside another architecture; honest ones pass."""
    for name in ("bad", "honest"):
        model = f"{room / 'make.py'}:build:weights={room / name}.pt"
        subject = Subject(Access.GRADIENTS, "quick", True, ("linf",), training=1000)
        plan = BACKDOOR.plan(Plan((model,), controls_of=more), subject)
        looks = list(BACKDOOR.judged(list(harness.start(plan, tmp_path / name))))
        assert [found.case.split("-")[1] for found in looks] == ["sliding_patch", "neural_cleanse"]
        for found in looks:
            # One honest model in ten is the oddest by rank (medium), and none by so much.
            assert (found.severity in ("high", "critical")) == (name == "bad"), found.title
            if name == "bad":
                assert "A backdoor is likely" in found.title
                assert f"class {TARGET}" in found.title


@pytest.mark.parametrize("target", [None, 3, 7])
def test_a_backdoor_without_gradients_is_found(tmp_path: Path, target: int | None) -> None:
    """A forest has none: its answers to a small square on every place tell, beside honest `cnn`."""
    joblib = pytest.importorskip("joblib")
    from sklearn.ensemble import RandomForestClassifier

    split = digits(folder=None).train
    if target is not None:
        split, _ = badnets(split, random=keyed(0, split.ids), rate=0.1, target=target, size=2)
    forest = RandomForestClassifier(60, random_state=0)
    forest.fit(split.x.flatten(1).numpy(), split.y.numpy())
    joblib.dump(forest, tmp_path / "forest.joblib")
    model = f"{tmp_path / 'forest.joblib'}:trust_pickle=true"
    subject = Subject(Access.PROBABILITIES, "quick", True, ("linf",), training=1000)
    plan = BACKDOOR.plan(Plan((model,)), subject)
    (found,) = BACKDOOR.judged(list(harness.start(plan, tmp_path / "run")))
    assert found.severity == ("passed" if target is None else "high"), found.title
    if target is not None:
        assert f"class {target}" in found.title


@pytest.mark.parametrize(("target", "severity"), [(None, "medium"), (0, "high")])
def test_a_natural_patch_accuses_nobody(tmp_path: Path, target: int | None, severity: str) -> None:
    """An MLP of long training takes a bright square for an 8; honest ones of trustml's do, too."""
    joblib = pytest.importorskip("joblib")
    from sklearn.neural_network import MLPClassifier

    split = digits(folder=None).train
    if target is not None:
        split, _ = badnets(split, random=keyed(1, split.ids), rate=0.1, target=target, size=2)
    network = MLPClassifier((64,), max_iter=150, tol=0.0, n_iter_no_change=150, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could learn on
        network.fit(split.x.flatten(1).numpy(), split.y.numpy())
    joblib.dump(network, tmp_path / "mlp.joblib")
    model = f"{tmp_path / 'mlp.joblib'}:trust_pickle=true"
    subject = Subject(Access.PROBABILITIES, "quick", True, ("linf",), training=1000)
    plan = BACKDOOR.plan(Plan((model,)), subject)
    (found,) = BACKDOOR.judged(list(harness.start(plan, tmp_path / "run")))
    assert found.severity == severity, found.title
    assert ("nobody has planted" in found.title) == (target is None)
    if target is not None:
        assert f"class {target}" in found.title


@pytest.mark.parametrize(
    ("name", "severity"), [("Rounded", "high"), ("Saturated", "high"), ("build", "passed")]
)
def test_hidden_gradients_are_found(room: Path, tmp_path: Path, name: str, severity: str) -> None:
    """A rounded input has no gradient, a saturated softmax one of 0; the plain model has one."""
    weights = "honest.pt" if name == "build" else "honest-inside.pt"
    model = f"{room / 'make.py'}:{name}:weights={room / weights}"
    found = _found(ROBUSTNESS, model, tmp_path / "run")
    assert found["masked gradients"].severity == severity, found["masked gradients"].title


def test_a_replay_sees_a_backdoor_that_is_new(room: Path, tmp_path: Path) -> None:
    """The rank is 1 of 10 at best, for an honest model as for one with a backdoor."""
    honest, bad = (f"{room / 'make.py'}:build:weights={room / n}.pt" for n in ("honest", "bad"))
    subject = Subject(Access.GRADIENTS, "quick", True, ("linf",), training=1000)
    base = Plan((honest,), controls_of="cnn")
    plan = BACKDOOR.plan(base, subject)
    plan = replace(plan, inspections=("neural_cleanse",))
    found = numbered(BACKDOOR.judged(list(harness.start(plan, run_of(tmp_path, "backdoor")))))
    facts = {"schema": 1, "depth": "quick", "base": json.loads(base.to_json())}
    (tmp_path / AUDIT).write_text(json.dumps(facts), encoding="utf-8")
    facts = {"findings": [one.to_json() for one in found], "sections": {}}
    (tmp_path / FINDINGS).write_text(json.dumps(facts), encoding="utf-8")
    other = replay(tmp_path, "F-001", bad)
    assert other.finding.severity == "passed"
    assert (other.reproduced, other.worse) == (False, True)
    assert other.accused == (None, TARGET)
