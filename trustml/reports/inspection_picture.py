"""What an inspection takes for each class's trigger, beside the one that was planted."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import finished
from trustml.benchmarks.inspection_cases import TARGET, TRIGGERS, TRUE, read
from trustml.benchmarks.inspection_controls import comparable, oddness
from trustml.files import write_whole
from trustml.reports._drawing import bare, canvas, png


def inspection_pictures(folder: Path) -> list[Path]:
    """Draw the triggers of every inspection that shows some; return the files.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    drawn = []
    for record in finished(folder):
        if record.kind != "inspection" or record.status != "done":
            continue
        found = read(folder / CASES / record.case / SAMPLES)
        if TRIGGERS in found and found[TRIGGERS].shape[1] in (1, 3) and found[TRIGGERS].ndim == 4:
            path = folder / f"{record.case}-triggers.png"
            box = (record.threat["low"], record.threat["high"])
            write_whole(path, triggers_picture(found, box, record.case))
            drawn.append(path)
    return drawn


def triggers_picture(found: Mapping[str, Tensor], box: tuple[float, float], title: str) -> bytes:
    """Return the PNG: the planted trigger first where there is one, then one for each class.

    Args:
        found: what the case has kept.
        box: the bounds of the inputs.
        title: above it.
    """
    odd, _ = oddness(*comparable(found))
    panels = []
    if TRUE in found:
        panels.append((found[TRUE], f"planted:\nclass {int(found[TARGET])}"))
    for number, shown in enumerate(found[TRIGGERS]):
        mark = "oddest: " if number == int(odd.argmax()) else ""
        panels.append((shown, f"{mark}class {number}\n{float(odd[number]):+.1f} sd"))
    columns = (len(panels) + 1) // 2
    figure = canvas(1.25 * columns, 3.4)
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (shown, name) in zip(axes.flat, panels, strict=False):
        axis.axis("on")
        bare(axis)
        image = ((shown - box[0]) / (box[1] - box[0])).clamp(0, 1).movedim(0, -1).squeeze(-1)
        axis.imshow(image.numpy(), cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
        axis.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return png(figure)
