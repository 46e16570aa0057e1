"""The pictures of a run, drawn where they are not yet, with what they show in words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from trustml.benchmarks.curve import curves
from trustml.benchmarks.fooled import fooled
from trustml.benchmarks.harness import finished
from trustml.benchmarks.plan import read_plan
from trustml.errors import BadInput, NotApplicable
from trustml.files import write_whole
from trustml.reports.curve import curve_picture
from trustml.reports.sheet import sheet
from trustml.reports.strengths_figure import strengths_figure

# In the order in which people look; others follow by name.
_FIRST = ("fooled", "strengths", "curve")
_COLUMNS = 10
# Names of files, and what they show; groups stand for the model, and the set from outside.
_CAPTIONS = (
    ("fooled", "Inputs that fooled the model: original, adversarial and difference"),
    ("strengths", "What remains under each attack, with 95 % intervals"),
    ("curve", "Robust accuracy against the size of the change"),
    ("queries", "How much of the test set each copy answers as the victim does, by its queries"),
    (r"routes(?:-\d+)?", "What gets through each safeguard, and what the safeguard costs"),
    ("(.+)-roc-(.+)", "{0}: ROC and precision-recall of each detector, test set against {1}"),
    ("(.+)-histograms-(.+)", "{0}: how suspicious the test set and {1} are to each detector"),
    ("(.+)-risk", "{0}: error rate of what is accepted, the more is accepted"),
    ("(.+)-reliability", "{0}: how often answers are right, by how sure they are"),
    ("(.+)-accuracies", "{0}: accuracy on each set that shows its classes, with 95 % intervals"),
    ("(.+)-certainty", "{0}: the inputs that it is most and least sure of"),
    ("(.+)-heat-maps", "{0}: what speaks for the class (red) and against it (blue), by method"),
    ("(.+)-triggers", "{0}: what the inspection takes for the trigger of each class"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A PNG, its caption, and in words what it shows."""

    png: bytes
    caption: str
    said: str


def pictures_of(folder: Path) -> list[Picture]:
    """Return every picture of the run; those of attacks are drawn into its folder first.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    for name, content in _attacks(folder):
        write_whole(folder / f"{name}.png", content)
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    names = [name for name in _FIRST if name in files]
    return [_picture(files[name]) for name in [*names, *(n for n in files if n not in _FIRST)]]


def _attacks(folder: Path) -> Iterator[tuple[str, bytes]]:
    records = finished(folder)
    attacked = [r for r in records if r.status == "done" and "robust accuracy" in r.scores]
    if not attacked:
        return
    if read_plan(folder).curve:  # where any change is allowed, nothing remains
        yield "curve", curve_picture(curves(folder))
    else:
        yield "strengths", strengths_figure(records)
    try:
        found = fooled(folder, _COLUMNS)
        pair = (found.x, found.adversarial)
        yield "fooled", sheet(pair, found.true, found.answered, found.case)
    except (BadInput, NotApplicable):  # nothing was fooled, or inputs that are no pictures
        return


def _picture(path: Path) -> Picture:
    from PIL import Image

    content = path.read_bytes()
    caption = _caption(path.stem)
    with Image.open(BytesIO(content)) as image:
        said = str(image.info.get("Description", "")) or caption
    return Picture(content, caption, said)


def _caption(name: str) -> str:
    """Return what the picture of that name shows; a stranger's is called by its name."""
    for pattern, said in _CAPTIONS:
        if found := re.fullmatch(pattern, name):
            return said.format(*found.groups())
    return name.replace("-", " ").replace("_", " ")
