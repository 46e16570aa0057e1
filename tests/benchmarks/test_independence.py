"""What becomes of a sample depends on nothing but the sample: real models, attacks, digits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import placed
from trustml.store import weights_hash

ATTACKS = ("pgd:steps=10,restarts=2", "apgd:steps=20", "fgsm")
LIMIT = 150


def _verdicts(folder: Path) -> dict[tuple[str, int], tuple[int, bytes]]:
    """Return (case, sample id) → the verdict and the bytes of the adversarial input."""
    found = {}
    for file in folder.glob(f"{CASES}/*/{SAMPLES}"):
        samples, _ = on_disk.read(file)
        for row, name in enumerate(samples.ids.tolist()):
            moved = samples.adversarial[row].numpy().tobytes()
            found[file.parent.name, name] = (int(samples.verdict[row]), moved)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", ["logistic:epochs=5", "mlp:epochs=4", "cnn:epochs=2"])
def test_batches_orders_and_shards_change_nothing(model: str, tmp_path: Path) -> None:
    """Two batch sizes, both orders and two shards, in three norms: the same bit for bit."""
    plan = Plan(
        models=(model,), attacks=ATTACKS, norms=("linf", "l2", "l1"), limit=LIMIT, device="cpu"
    )
    others = {
        "small": {"batch_size": 37},
        "reversed": {"order": "reversed", "batch_size": 64},
        "first": {"shard": (0, 2)},
        "second": {"shard": (1, 2), "batch_size": 11},
    }
    assert all(record.status == "done" for record in start(plan, tmp_path / "truth"))
    truth = _verdicts(tmp_path / "truth")
    assert len(truth) == LIMIT * 3 * (len(ATTACKS) + 3)
    assert {verdict for verdict, _ in truth.values()} >= {0, 1, 2}, "something of each kind"
    found = {}
    for name, changes in others.items():
        list(start(replace(plan, **changes), tmp_path / name))  # type: ignore[arg-type]
        found[name] = _verdicts(tmp_path / name)
    assert found["small"] == truth
    assert found["reversed"] == truth
    assert not found["first"].keys() & found["second"].keys()
    assert found["first"] | found["second"] == truth


def test_channels_last_changes_the_order_of_the_weights_and_nothing_else() -> None:
    """The same numbers, the same hash, the same answers up to float32's rounding; 3-D stays."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 4))
    x = torch.rand(5, 3, 8, 8)
    before, name = module(x), weights_hash(module)
    found = placed(module, torch.device("cpu"))
    assert found[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not found.training
    assert weights_hash(found) == name
    assert torch.allclose(found(x), before, atol=1e-5)
    placed(nn.Conv3d(1, 1, 1), torch.device("cpu"))
