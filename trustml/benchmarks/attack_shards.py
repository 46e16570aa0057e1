"""What of the exam of robustness can be done elsewhere: the batches of an attack."""

from trustml.benchmarks.attacked import batches_of, exam_of, made_batch
from trustml.benchmarks.discipline import Bench, Shard
from trustml.benchmarks.plan import Case


def shards(case: Case, bench: Bench) -> list[Shard]:
    """Return the batches of an attack; a certificate has none.

    Raises:
        NotApplicable: the attack needs more than the model shows.
    """
    if case.kind != "attack":
        return []
    exam = exam_of(bench.plan, bench.setting, case, bench.device)
    group = [r for r in bench.group if case.threat.items() <= r.threat.items()]
    _, batches = batches_of(exam, case, bench, group)
    return [Shard(str(file.relative_to(bench.folder)), rows) for rows, file in batches]


def make_shard(case: Case, bench: Bench, shard: Shard) -> None:
    """Attack one batch and write its file.

    Raises:
        MethodFailed: the attack raised, or broke its contract.
    """
    # Kept from batch to batch: on a GPU it holds the passes that are replayed.
    name, exam = bench.memory.get("exam", ("", None))
    if name != case.name:
        exam = exam_of(bench.plan, bench.setting, case, bench.device)
        bench.memory["exam"] = case.name, exam
    made_batch(exam, shard.what, bench.folder / shard.file)
