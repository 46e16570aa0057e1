"""The pictures of a run of detectors, into its folder."""

from collections.abc import Iterator
from pathlib import Path

from trustml.benchmarks.seen import Seen, seen
from trustml.calibration import temperature_scaling
from trustml.contracts import Score
from trustml.errors import BadInput, NotApplicable
from trustml.files import write_whole
from trustml.partners import is_shift
from trustml.reports.accuracies_figure import accuracies_figure
from trustml.reports.certainty_sheet import certainty_sheet
from trustml.reports.reliability_figure import reliability_figure
from trustml.reports.separation_figure import histogram_figure, risk_figure, separation_figure


def detector_pictures(folder: Path) -> list[Path]:
    """Draw ROC and precision-recall, histograms, risk, reliability and certainty; return the files.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    drawn = []
    for group in seen(folder):
        for name, picture in _pictures(group):
            path = folder / f"{group.name}-{name}.png"
            write_whole(path, picture)
            drawn.append(path)
    return drawn


def _pictures(group: Seen) -> Iterator[tuple[str, bytes]]:
    suspicions = group.suspicions
    sets = [name for name in next(iter(suspicions.values())) if name != "test"]
    for name in sets:
        pairs = {label: (each["test"], each[name]) for label, each in suspicions.items()}
        title = f"{group.name}: test set against {name}"
        yield f"roc-{_file(name)}", separation_figure(pairs, ("test", name), title)
        yield f"histograms-{_file(name)}", histogram_figure(pairs, ("test", name), title)
    own = {label: each["test"] for label, each in suspicions.items()}
    yield "risk", risk_figure(own, group.wrong, f"{group.name}: error rate of what is accepted")
    scaled = temperature_scaling(group.validation.logits, group.validation.y)
    answers = {"as trained": group.test.logits, "temperature scaled": scaled(group.test.logits)}
    yield "reliability", reliability_figure(answers, group.test.y, group.name)
    yield (
        "accuracies",
        accuracies_figure(
            _sides(group), chance=1 / len(group.class_names), title=f"{group.name}: accuracy"
        ),
    )
    label, suspicion = next(iter(own.items()))
    try:
        sheet = certainty_sheet(
            group.test.x, suspicion, group.test.logits.softmax(1), group.test.y, group.class_names,
            title=f"{group.name}: least and most suspicious to {label}",
        )  # fmt: skip
    except (NotApplicable, BadInput):  # inputs that are no pictures
        return
    yield "certainty", sheet


def _sides(group: Seen) -> dict[str, dict[str, Score]]:
    """Return the accuracies inside, on the same classes in another hand, and outside."""
    sides: dict[str, dict[str, Score]] = {"inside": {}, "shift": {}, "outside": {}}
    for name, score in group.accuracies.items():
        side = "inside" if name == "test" else "shift" if is_shift(name) else "outside"
        sides[side][name] = score
    return sides


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
