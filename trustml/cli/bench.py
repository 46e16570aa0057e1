"""`trustml bench`: options → plan → a run; heavy imports wait until it runs."""

from pathlib import Path
from typing import Any

import click

from trustml.cli.words import DATA, DATA_DIR, DEVICE, JSON, PLUGIN, RUNS, SEED


@click.command(
    short_help="Examine models and print what was found.",
    epilog="\b\nExamples:\n"
    "  trustml bench --attack pgd:steps=100 --attack apgd --model cnn --data mnist\n"
    "  trustml bench --detector energy --model cnn --data mnist\n"
    "  trustml bench --stealer auto --terms answers=labels --model logistic\n"
    "  trustml bench --corruption all --model cnn --limit 500",
)
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    show_default="strongest",
    help="Attack, as name:key=value,… (repeat for several): which inputs does the model misread "
    "once they are changed a little?",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("mlp",),
    show_default=True,
    help="Model, as name:key=value,…, or a deployed one: a file or an address (repeat).",
)
@click.option(
    "--surrogate",
    "surrogates",
    multiple=True,
    metavar="MODEL",
    help="Of attacks: model that they see in the examined one's place (repeat for an ensemble).",
)
@DATA
@click.option(
    "--norm",
    "norms",
    multiple=True,
    default=("linf",),
    show_default=True,
    help="How attacks measure a change: linf, l2, l1, l0, or beyond norms patch, spatial, colour, "
    "structure, wasserstein or flow (repeat for several).",
)
@click.option(
    "--epsilon",
    "epsilons",
    multiple=True,
    metavar="NUMBER",
    help="Largest change that an attack may make, in the norm; 8/255 is a number (repeat for "
    "several). Default: usual for the data.",
)
@click.option(
    "--grid",
    default="none",
    show_default=True,
    help="none, or 8-bit: what attacks find must be whole 255ths of the range of values, as "
    "picture files hold.",
)
@click.option(
    "--eot",
    default=0,
    metavar="K",
    help="Of a model that answers at random: attacks average K losses, verdicts are the worst of K "
    "readings. Default: 8.",
)
@click.option(
    "--target",
    default="none",
    show_default=True,
    help="What attacks must reach: none (any wrong class), next (the class after the true one), or "
    "a class number.",
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
    help="Score of doubt that tells errors and strange inputs, or front ends and one: react+energy "
    "(repeat), or all that there are.",
)
@click.option(
    "--attribution",
    "attributions",
    multiple=True,
    help="Explanation of answers, as name:key=value,… (repeat), or all that there are: is it "
    "faithful?",
)
@click.option(
    "--figure",
    "figures",
    multiple=True,
    help="What is measured of explanations, such as deletion or ROAD (repeat). [default: all "
    "of it]",
)
@click.option(
    "--stealer",
    "stealers",
    multiple=True,
    help="Thief that copies the model by asking it, as name:key=value,… (repeat for several).",
)
@click.option(
    "--route",
    "routes",
    multiple=True,
    help="Way to tamper with mail that a sorting machine reads, as name:key=value,…, or a group: "
    "scanner, envelope, retraining, all (repeat).",
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
    help="Safeguard against --route and --poison, or a chain: trades+abstain:rate=0.1 (repeat).",
)
@click.option(
    "--inspection",
    "inspections",
    multiple=True,
    help="Search for a backdoor in the model, and in one of each --poison, as name:key=value,…, or "
    "all (repeat).",
)
@click.option(
    "--corruption",
    "corruptions",
    multiple=True,
    help="Weather, blur, noise or storage that spoils pictures, by name, or all; at five "
    "severities (repeat).",
)
@click.option(
    "--corruption-baseline",
    default="",
    metavar="MODEL",
    help="Of corruptions: recipe of the model by whose errors the errors are divided.",
)
@click.option(
    "--controls",
    default=20,
    show_default=True,
    help="Of inspections: honest models that the model is compared with.",
)
@click.option(
    "--controls-of",
    default="",
    metavar="MODEL",
    help="Recipe of the honest models of --controls. Default: the model's own; of a deployed one "
    "cnn for pictures, else mlp.",
)
@click.option(
    "--terms",
    default="",
    metavar="WORDS",
    help="What the model answers a stealer: answers=labels, top1, probabilities or logits, and "
    "precision, decimals, inputs, explains: answers=logits,precision=float64.",
)
@click.option(
    "--countermeasure",
    "countermeasures",
    multiple=True,
    help="What the model's owner does against stealers, as name:key=value,… (repeat): tried beside "
    "none. Names: trustml list countermeasures.",
)
@click.option("--copy", default="", metavar="MODEL", help="Recipe of a stealer's copy.")
@click.option(
    "--ood",
    "outside",
    multiple=True,
    metavar="NAME",
    help="Of detectors: data to be told from the test set, or stealing, which is what a thief asks "
    "(repeat). Default: the data's partners.",
)
@click.option(
    "--false-alarms",
    default=0.05,
    show_default=True,
    help="Share of ordinary inputs that a detector, a monitor or an inspection may stop.",
)
@click.option(
    "--aware",
    is_flag=True,
    help="Attack each detector, too, by who knows it: inputs misread and accepted.",
)
@click.option(
    "--budget",
    default=0,
    metavar="N",
    help="Queries at most: of an attack for each sample, of a stealer in all.",
)
@click.option(
    "--certify",
    default="auto",
    show_default=True,
    help="What is proved of each sample before attacks: auto (what is quick), tight (slower: "
    "CROWN bounds, too) or off.",
)
@click.option(
    "--indicators/--no-indicators",
    default=True,
    show_default=True,
    help="Look for signs that attacks failed though the model is weak.",
)
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    help="Of the numbers in an attack's search: auto, float32 or bfloat16 (quicker where the "
    "processor has it). Verdicts are always float32.",
)
@click.option(
    "--deterministic", is_flag=True, help="Only algorithms of torch that repeat bit for bit."
)
@SEED
@click.option(
    "--seeds", default=1, show_default=True, help="Train and examine so many, and pool them."
)
@click.option("--limit", default=0, metavar="N", help="Only the first N test samples.")
@click.option(
    "--batch-size",
    default="512",
    show_default=True,
    help="Samples at once; auto is what the GPU has room for. Results do not depend on it.",
)
@click.option(
    "--shard", default="0/1", show_default=True, help="Only part I of N of the samples, as I/N."
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
    """Examine models by what is named, attacks by default, and print what was found.

    An exam is asked for by --attack, --detector, --attribution, --stealer, --route, --poison,
    --inspection or --corruption; several may stand in one command. Their names: trustml list KIND;
    one of them with its options: trustml list KIND NAME. A model may be a recipe such as
    mlp:hidden=[64]+abstain (a network, its options, a safeguard), or a deployed one: model.onnx.
    """
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
