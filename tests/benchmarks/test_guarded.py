"""Guarded models in runs: examined, kept and verified as any other; hidden gradients are named."""

from collections.abc import Callable
from pathlib import Path

from trustml.benchmarks.verify import verify
from trustml.contracts import Record


def test_a_guarded_model_is_examined_and_verified(
    run: Callable[..., list[Record]], tmp_path: Path
) -> None:
    """Two guards, one of which learns: the run rebuilds them from the recipe and its weights."""
    records = run(models=("largest+bit_depth:bits=6+abstain:rate=0.2",))
    assert {record.status for record in records} == {"done"}
    assert all("+abstain:rate=0.2" in record.model for record in records)
    assert len(list(verify(tmp_path / "run", "cpu"))) == len(records)
    again = run("again", models=("largest+bit_depth:bits=6+abstain:rate=0.2",))
    assert [record.weights for record in again] == [record.weights for record in records]


def test_what_only_hides_its_gradient_is_named(run: Callable[..., list[Record]]) -> None:
    """The same shades with and without the gradient through them: only the latter has none."""
    said = {}
    for bpda in ("true", "false"):
        model = f"mlp:epochs=5+bit_depth:bits=3,bpda={bpda}"
        records = run(
            bpda, models=(model,), attacks=("fgsm",), data="digits", limit=60, indicators=True
        )
        assert {record.status for record in records} == {"done"}
        said[bpda] = " ".join(note for record in records for note in record.notes)
    assert "are exactly 0 for 100%" in said["false"]
    assert "exactly 0" not in said["true"]
