"""What of the exam of routes can be done before its cases: models that several of them read."""

from pathlib import Path

from trustml.benchmarks.discipline import MODELS, Bench, Shard
from trustml.benchmarks.plan import Case
from trustml.benchmarks.route_guard import NONE, guarded, guarded_by, monitor_of
from trustml.benchmarks.route_poison import bad_data, bare_model, room_of
from trustml.benchmarks.setting import facts_file
from trustml.recipes import choose

POISONED, GUARDED = "poisoned", "guarded"


def shards(case: Case, bench: Bench) -> list[Shard]:
    """Return the model that learnt from the poison, and the one under the safeguard."""
    safeguard, models = _safeguard(case), bench.folder / MODELS
    if monitor_of(safeguard) is not None:
        return []
    found: list[tuple[Path, str]] = []
    if case.kind == "poison":
        room = models / room_of(case.text)
        found.append((facts_file(bench.setting.recipe, case.seed, room), POISONED))
    if safeguard != NONE:
        recipe = guarded_by(safeguard, case.model)
        found.append((facts_file(recipe, case.seed, models), GUARDED))
    return [Shard(file.relative_to(bench.folder).as_posix(), what) for file, what in found]


def make_shard(case: Case, bench: Bench, shard: Shard) -> None:
    """Train a model, which is then in the run's folder for models.

    Raises:
        TrustError: it cannot be built or trained.
    """
    if shard.what == GUARDED:
        guarded(bench, case.seed, case.model, _safeguard(case))
    else:
        dataset, _ = bad_data(case, bench, choose("poison", case.text))
        bare_model(case, bench, dataset, room_of(case.text))


def _safeguard(case: Case) -> str:
    assert case.options is not None
    return str(case.options["safeguard"])
