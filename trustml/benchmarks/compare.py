"""Two runs side by side: what became of each case, and of each sample."""

from dataclasses import dataclass
from pathlib import Path

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import finished
from trustml.benchmarks.samples import FOOLED
from trustml.contracts import Record
from trustml.errors import BadInput

_ATTACKED = ("attack", "union")


@dataclass(frozen=True, slots=True)
class Difference:
    """A case that both runs finished.

    Args:
        first: robust accuracy of the first run.
        second: robust accuracy of the second run.
        apart: whether the two 95 % intervals do not touch.
        only_first: samples fooled in the first run alone; None if the samples are not the same.
        only_second: samples fooled in the second run alone.
        options: those of the attack that the runs gave otherwise, as "name: first → second".
    """

    case: str
    first: float
    second: float
    apart: bool
    only_first: int | None
    only_second: int | None
    options: tuple[str, ...] = ()


def differences(first: Path, second: Path) -> list[Difference]:
    """Return what differs, a row for each case that both runs finished.

    Raises:
        BadInput: a folder holds no run, or no case is finished in both.
        BrokenClaim: a sample file is damaged.
    """
    runs = [
        {r.case: r for r in finished(folder) if r.status == "done" and r.kind in _ATTACKED}
        for folder in (first, second)
    ]
    shared = [case for case in runs[0] if case in runs[1]]
    if not shared:
        raise BadInput(
            f"no case is finished in both runs; {first} has {', '.join(runs[0]) or 'none'}, "
            f"{second} has {', '.join(runs[1]) or 'none'}"
        )
    return [_difference(runs[0][case], runs[1][case], first, second) for case in shared]


def in_one_only(first: Path, second: Path) -> tuple[list[str], list[str]]:
    """Return the cases that only the first run finished, and those that only the second did.

    Raises:
        BadInput: a folder holds no run.
    """
    one, other = (
        [record.case for record in finished(folder) if record.status == "done"]
        for folder in (first, second)
    )
    return [c for c in one if c not in other], [c for c in other if c not in one]


def _difference(one: Record, other: Record, first: Path, second: Path) -> Difference:
    scores = [record.scores["robust accuracy"] for record in (one, other)]
    fooled = []
    for record, folder in ((one, first), (other, second)):
        samples, _ = on_disk.read(folder / CASES / record.case / SAMPLES)
        fooled.append(
            dict(zip(samples.ids.tolist(), (samples.verdict == FOOLED).tolist(), strict=True))
        )
    same = fooled[0].keys() == fooled[1].keys()
    only = [sum(a[i] and not b[i] for i in a) if same else None for a, b in (fooled, fooled[::-1])]
    apart = scores[0].high < scores[1].low or scores[1].high < scores[0].low
    return Difference(
        one.case, scores[0].value, scores[1].value, apart, only[0], only[1], _changed(one, other)
    )


def _changed(one: Record, other: Record) -> tuple[str, ...]:
    """Return the options that differ: cases are named by their attacks, not by these."""
    if one.kind != "attack" or one.plugin != other.plugin:
        return () if one.plugin == other.plugin else (f"attack: {one.plugin} → {other.plugin}",)
    names = sorted(one.options.keys() & other.options.keys())
    return tuple(
        f"{name}: {one.options[name]} → {other.options[name]}"
        for name in names
        if one.options[name] != other.options[name]
    )
