"""Every exam by Ray: where a case is made apart, its record and its files are those made here."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trustml.benchmarks import harness
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Record

ray = pytest.importorskip("ray", reason="needs Ray (extra: ray)")
pytestmark = pytest.mark.slow
MODEL = "mlp:hidden=[16],epochs=4,patience=0"
PLANS: dict[str, dict[str, Any]] = {
    "robustness": {"attacks": ("fgsm",), "norms": ("linf", "l2"), "certify": "tight"},
    # The inputs that fooled the model are a set of the detectors'.
    "detection": {
        "attacks": ("fgsm",),
        "detectors": ("energy", "mahalanobis", "knn", "react+energy"),
        "outside": ("noise", "knockoff:inputs=noise,snapshots=1"),
    },
    "explanation": {"attributions": ("gradient", "integrated_gradients")},
    "corruption": {"corruptions": ("gaussian_noise", "contrast")},
    "stealing": {
        "stealers": ("knockoff:inputs=noise,snapshots=1", "linear_exact"),
        "countermeasures": ("rounded:decimals=2",),
        "budget": 300,
    },
    "routes": {
        "routes": ("scanner_pattern",),
        "poisons": ("label_flip:rate=0.1",),
        "defenses": (
            "label_smoothing",
            "median_filter",
            "drift_monitor",
        ),
    },
    "inspection": {
        "inspections": ("maximum_margin:steps=5,starts=2",),
        "poisons": ("badnets",),
        "controls": 4,
        "false_alarms": 0.2,
    },
}
# What a clock says is no part of what must be equal.
CLOCKS = ("latency",)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray of two workers for all tests of the file."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def _timeless(record: Record) -> Record:
    scores = {
        name: score
        for name, score in record.scores.items()
        if not any(word in name for word in CLOCKS)
    }
    samples = "" if len(scores) < len(record.scores) else record.samples
    cost = replace(record.cost, seconds=0.0)
    return replace(record, scores=scores, samples=samples, cost=cost, place={})


@pytest.mark.parametrize("exam", PLANS)
def test_an_exam_is_the_same_by_ray(exam: str, tmp_path: Path) -> None:
    """Each case has the scores, notes, costs but for seconds, and bytes of the local executor."""
    plan = Plan(
        models=(MODEL,), limit=40, batch_size=16, device="cpu", indicators=False, **PLANS[exam]
    )
    here, away = tmp_path / "here", tmp_path / "away"
    local = list(harness.start(plan, here))
    assert any(record.status == "done" for record in local)
    by_ray = list(harness.start(plan, away, "ray"))
    for one, other in zip(local, by_ray, strict=True):
        assert _timeless(one) == _timeless(other)
        if one.samples:
            files = [load_file(home / CASES / one.case / SAMPLES) for home in (here, away)]
            assert files[0].keys() == files[1].keys()
            for name in files[0].keys() - set(CLOCKS):
                assert torch.equal(files[0][name], files[1][name]), (one.case, name)
    # The models that were trained away lie in the run, so that its claims can be checked.
    assert len(list(verify(away, "cpu"))) == len(local)
