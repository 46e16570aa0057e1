"""What a detector must tell from ordinary inputs: partners of the data, other data, attacks."""

from collections.abc import Mapping

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.samples import FOOLED
from trustml.benchmarks.stolen import is_thief
from trustml.contracts import Dataset, Split
from trustml.errors import BadInput, UsageError
from trustml.partners import has_host_labels, is_shift, partner
from trustml.recipes import choose


def names(plan: Plan, dataset: Dataset) -> tuple[str, ...]:
    """Return the sets that the plan asks for, by default every partner of the data at hand.

    Raises:
        UsageError: a name is neither a partner of the data nor a dataset or a stealer, or it cannot
            be made to fit.
    """
    for name in plan.outside:
        if is_thief(name):
            choose("stealer", name)
        else:
            outside_split(name, plan, dataset)
    return plan.outside or tuple(name for name in dataset.outside if not is_shift(name))


def outside_split(name: str, plan: Plan, dataset: Dataset) -> Split:
    """Return the set's samples, at most as many as the plan examines.

    Raises:
        UsageError: there is no such set, or it cannot be made to fit the data.
    """
    try:
        split = partner(dataset, name, plan.data_dir)
    except UsageError as error:
        raise BadInput(f"--ood {name}: {error}") from error
    split = split.at(slice(0, plan.limit or len(split)))
    # Other labels mean nothing to this model, and need not be among its classes.
    test, y = dataset.test, split.y if has_host_labels(name) else split.y * 0
    return Split(split.x, y, split.ids, test.classes, test.low, test.high)


def attacked_splits(bench: Bench) -> Mapping[str, Split]:
    """Return the inputs that fooled the model in this run, by attack and budget."""
    found: dict[str, Split] = {}
    test = bench.setting.split
    for record in bench.group:
        if record.kind == "attack" and record.plugin != "noise" and record.status == "done":
            samples, _ = on_disk.read(bench.home(record.case) / SAMPLES)
            rows = (samples.verdict == FOOLED).nonzero().flatten()
            if len(rows):
                threat = record.threat
                name = f"{record.plugin} {threat['norm']} {threat['epsilon']:.3g}"
                split = test.at(rows)
                moved = samples.adversarial[rows]
                while name in found:
                    name += "'"
                found[name] = Split(moved, split.y, split.ids, split.classes, split.low, split.high)
    return found
