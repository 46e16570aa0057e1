"""The heat-map sheet of a run: its name, its columns, and inputs that cannot be drawn."""

from io import BytesIO
from pathlib import Path

import torch

from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.reports.explanation_pictures import _one_of_each, explanation_pictures


def test_a_run_has_a_sheet_for_each_model(tmp_path: Path) -> None:
    """Named after the model; the exact row, the random ones and two variants are five columns."""
    from matplotlib.image import imread

    plan = Plan(
        models=("logistic:epochs=2",), attacks=(), data="digits", device="cpu", limit=12,
        attributions=("integrated_gradients", "integrated_gradients:baseline=mean"),
    )  # fmt: skip
    list(start(plan, tmp_path / "run"))
    drawn = explanation_pictures(tmp_path / "run")
    assert drawn == [tmp_path / "run" / "logistic-heat-maps.png"]
    image = imread(BytesIO(drawn[0].read_bytes()), format="png")
    # Six columns of 1.25 inches and a margin of 0.3, at 150 dots an inch.
    assert abs(image.shape[1] - 150 * (6 * 1.25 + 0.3)) < 10


def test_points_are_not_drawn(tmp_path: Path) -> None:
    plan = Plan(
        models=("mlp:epochs=2",), attacks=(), data="moons", device="cpu", limit=12,
        attributions=("gradient",),
    )  # fmt: skip
    records = list(start(plan, tmp_path / "run"))
    assert records[-1].status == "done"
    assert explanation_pictures(tmp_path / "run") == []


def test_rows_show_every_class_once_before_any_twice() -> None:
    target = torch.tensor([3, 3, 1, 3, 0, 1])
    assert _one_of_each(target) == [4, 2, 0, 1, 3, 5]
