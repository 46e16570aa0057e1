"""`trustml bench`: options → plan → a run; heavy imports wait until it runs."""

from pathlib import Path
from typing import Any

import click

from trustml.cli.words import DATA, DATA_DIR, DEVICE, JSON, PLUGIN, RUNS, SEED


@click.command(
    epilog="Example: trustml bench --attack pgd:steps=100 --attack apgd --model cnn --data mnist"
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    show_default="strongest",
    help="Attack, as name:key=value,… (repeat for several).",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("mlp",),
    show_default=True,
    help="Model, as name:key=value,… (repeat for several).",
)
@click.option(
    "--surrogate",
    "surrogates",
    multiple=True,
    metavar="MODEL",
    help="Model that attacks see in the examined one's place (repeat for an ensemble).",
)
@DATA
@click.option(
    "--norm",
    "norms",
    multiple=True,
    default=("linf",),
    show_default=True,
    help="linf, l2, l1, l0, patch, spatial, colour, structure or wasserstein (repeat for several).",
)
@click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    metavar="NUMBER",
    help="Budget in the norm; 8/255 is a number (repeat for several). Default: usual for the data.",
)
@click.option(
    "--grid",
    default="none",
    show_default=True,
    help="8-bit: what attacks find must be whole 255ths of the box, as picture files hold.",
)
@click.option(
    "--eot",
    default=0,
    metavar="K",
    help="Of a model that answers at random: attacks average K losses, verdicts are the worst of K "
    "readings. Default: 8.",
)
@click.option(
    "--target", default="none", show_default=True, help="none, next, or a class number to reach."
)
@click.option(
    "--curve",
    is_flag=True,
    help="Whole curve of robust accuracy against epsilon, by minimum-norm attacks; drawn as a PNG.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    help="Detector, or front ends and one: react+energy (repeat), or all that there are.",
)
@click.option(
    "--attribution",
    "attributions",
    multiple=True,
    help="Explanation, as name:key=value,… (repeat), or all that there are.",
)
@click.option(
    "--stealer",
    "stealers",
    multiple=True,
    help="Model stealer, as name:key=value,… (repeat for several).",
)
@click.option(
    "--route",
    "routes",
    multiple=True,
    help="Tampering with the mail, as name:key=value,…, or scanner, envelope, retraining, all.",
)
@click.option(
    "--poison",
    "poisons",
    multiple=True,
    help="Tampering with the training data, as name:key=value,… (repeat for several).",
)
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    help="Safeguard against these, or a chain: trades+abstain:rate=0.1 (repeat).",
)
@click.option(
    "--inspection",
    "inspections",
    multiple=True,
    help="Search for a backdoor, as name:key=value,…, or all; of each --poison too (repeat).",
)
@click.option(
    "--corruption",
    "corruptions",
    multiple=True,
    help="Weather, blur, noise or storage, as a name, or all 15; at five severities (repeat).",
)
@click.option(
    "--corruption-baseline",
    default="",
    metavar="MODEL",
    help="Recipe of the model by whose errors these are divided.",
)
@click.option(
    "--controls",
    default=20,
    show_default=True,
    help="Honest models that an inspected one is compared with.",
)
@click.option(
    "--controls-of",
    default="",
    metavar="MODEL",
    help="Recipe of these. Default: the model's own; of a deployed one cnn for pictures, else mlp.",
)
@click.option(
    "--terms",
    default="",
    metavar="WORDS",
    help="What a stolen model answers, such as answers=labels or answers=logits,precision=float64.",
)
@click.option(
    "--countermeasure",
    "countermeasures",
    multiple=True,
    help="What the victim does against thieves, as name:key=value,… (repeat): tried beside none. "
    "Names: trustml list countermeasures.",
)
@click.option("--copy", default="", metavar="MODEL", help="Recipe of a learnt copy.")
@click.option(
    "--ood",
    "outside",
    multiple=True,
    metavar="NAME",
    help="Set to be told from the test set, or stealing (repeat). Default: the data's partners.",
)
@click.option(
    "--false-alarms",
    default=0.05,
    show_default=True,
    help="Share of ordinary inputs that a detector may stop.",
)
@click.option(
    "--aware", is_flag=True, help="Attack each detector, too, knowing it: misread and accepted."
)
@click.option("--budget", default=0, metavar="N", help="Queries at most, a sample or a stealer.")
@click.option(
    "--certify",
    default="auto",
    show_default=True,
    help="What to prove first: auto (what is quick), tight (CROWN bounds too) or off.",
)
@click.option(
    "--indicators/--no-indicators",
    default=True,
    show_default=True,
    help="Look for signs that the attacks, not the model, decide.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Of the search: auto, float32 or bfloat16. Verdicts are float32.",
)
@click.option(
    "--deterministic", is_flag=True, help="Only algorithms of torch that repeat bit for bit."
)
@SEED
@click.option(
    "--seeds", default=1, show_default=True, help="Train and examine so many, and pool them."
)
@click.option("--limit", default=0, metavar="N", help="Only the first N test samples; 0 is all.")
@click.option(
    "--batch-size",
    default="512",
    show_default=True,
    help="Samples in flight; auto (or 0) is what the GPU has room for.",
)
@click.option(
    "--shard", default="0/1", show_default=True, help="Part I of N of the samples, as I/N."
)
@click.option(
    "--order", default="given", show_default=True, help="given or reversed order of samples."
)
@DEVICE
@click.option(
    "--executor",
    default="local",
    show_default=True,
    help="local, or ray: the cluster of RAY_ADDRESS, or a Ray of this machine.",
)
@click.option(
    "--workers", default=0, metavar="N", help="Ray workers on this machine; 0 is one a core."
)
@DATA_DIR
@PLUGIN
@click.option(
    "--out", metavar="DIR", help="Directory of the run. Default: a new one in trustml-runs/."
)
@click.option("--resume", metavar="DIR", help="Continue a stopped run as it was begun.")
@JSON
def bench(out: str | None, resume: str | None, as_json: bool, **words: Any) -> None:
    """Attack models and print how robust they are."""
    from trustml.benchmarks import harness
    from trustml.benchmarks.exams import checked
    from trustml.cli.reach import check_alone, check_apart, check_reach
    from trustml.cli.running import new_folder, plan_of, report

    crew = (words.pop("executor"), words.pop("workers"))
    if resume is not None:
        check_alone("resume", "as_json", "executor", "workers")
        folder = Path(resume)
        records = harness.resume(folder, *crew)
    else:
        plan = plan_of(words)
        check_reach(plan)
        checked(plan)  # before its words name a folder
        check_apart(plan)
        folder = new_folder(RUNS, plan) if out is None else Path(out)
        records = harness.start(plan, folder, *crew)
    drawn = bool(words["curve"]) and resume is None
    report(records, folder, as_json, curve=drawn, pictures=True)
