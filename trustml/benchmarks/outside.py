"""What a detector must tell from ordinary inputs: partners of the data, other data, attacks."""

from collections.abc import Mapping

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.samples import FOOLED
from trustml.benchmarks.setting import load_data
from trustml.contracts import Dataset, Split
from trustml.errors import BadInput, UnknownName
from trustml.recipes import choose

SHIFT = "shift_"  # the same classes in another hand: no detector is asked to refuse these


def names(plan: Plan, dataset: Dataset) -> tuple[str, ...]:
    """Return the sets that the plan asks for, by default every partner of the data at hand.

    Raises:
        UsageError: a name is neither a partner of the data nor a dataset.
    """
    if plan.outside:
        for name in plan.outside:
            if not _is_partner(name, dataset):
                _of_other_data(name)
        return plan.outside
    return tuple(name for name in dataset.outside if not name.startswith(SHIFT))


def outside_split(name: str, plan: Plan, dataset: Dataset) -> Split:
    """Return the set's samples, at most as many as the plan examines.

    Raises:
        BadInput: another shape than the data's; it says how to convert, or the set is empty.
    """
    if _is_partner(name, dataset):
        split = dataset.outside[name]
    else:
        split = load_data(name, plan.data_dir).test
    wanted, given = dataset.test.domain, split.domain
    if given.shape != wanted.shape:
        raise BadInput(
            f"--ood {name}: its inputs have the shape {given.shape}, those of {plan.data} "
            f"{wanted.shape}; resize them and read them with --ood 'npz:path=…'"
        )
    if (given.low, given.high) != (wanted.low, wanted.high):
        raise BadInput(
            f"--ood {name}: its box is [{given.low}, {given.high}], that of {plan.data} "
            f"[{wanted.low}, {wanted.high}]; bring it to that box and read it with npz:path=…"
        )
    if not len(split):
        raise BadInput(f"--ood {name}: the set is empty")
    split = split.at(slice(0, plan.limit or len(split)))
    # Their labels mean nothing to this model, and need not be among its classes.
    return Split(split.x, split.y * 0, split.ids, wanted.classes, wanted.low, wanted.high)


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


def _is_partner(name: str, dataset: Dataset) -> bool:
    # A partner may be known whose files are elsewhere; asking for it is what fetches them.
    known = getattr(dataset.outside, "partners", dataset.outside)
    return name in known


def _of_other_data(name: str) -> None:
    try:
        choose("data", name)
    except UnknownName as error:
        raise UnknownName(f"--ood {name}: no partner of these data, and {error}") from error
