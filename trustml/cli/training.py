"""`trustml train`: fit a model, say how well it reads, draw its training figure."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustml.cli.lines import say, say_command
from trustml.cli.words import DATA, DATA_DIR, DEVICE, PLUGIN, RUNS, SEED
from trustml.errors import BadOption, UnknownName

if TYPE_CHECKING:
    from trustml.contracts import Dataset
    from trustml.recipes import Recipe

OFF = "off"
HARDENINGS = {
    "fast": "fast_adversarial_training",
    "pgd": "pgd_adversarial_training",
    "trades": "trades",
}
# A ball wider than this share of the box is too hard to begin with; so it grows at first, for this
# share of the epochs.
WIDE, GROWING = 0.1, 1 / 3


@click.command(
    epilog="\b\nExamples:\n"
    "  trustml train --model cnn_fast --data mnist\n"
    "  trustml train --model resnet_fast --data cifar10 --adversarial fast --device cuda"
)
@click.option("--model", required=True, help="Model, as name:key=value,…")
@DATA
@click.option(
    "--adversarial",
    default=OFF,
    show_default=True,
    help="Train on attacks in the data's usual Linf ball: fast (one step, two to three times as "
    "long), pgd or trades (many steps, stronger), or off.",
)
@SEED
@DEVICE
@click.option(
    "--deterministic", is_flag=True, help="Only algorithms of torch that repeat bit for bit."
)
@DATA_DIR
@PLUGIN
@click.option("--out", metavar="DIR", help="Where figure and weights go. Default: trustml-runs/.")
@click.option("--fresh", is_flag=True, help="Train again even if the model is in the cache.")
def train(model: str, out: str | None, **words: Any) -> None:
    """Train a model, keep it, and draw its training figure."""
    print_training(model, Path(out) if out else RUNS, **words)


def print_training(
    model: str,
    out: Path,
    *,
    data: str,
    adversarial: str,
    seed: int,
    device: str,
    deterministic: bool,
    data_dir: str | None,
    plugins: tuple[str, ...],
    fresh: bool,
) -> None:
    """Train, then print the test accuracy and where figure and weights lie.

    Raises:
        TrustError: names, options, data or a training that fail.
    """
    from trustml import metrics, registry
    from trustml.benchmarks.place import arithmetic, device_of
    from trustml.benchmarks.plan import check_seed
    from trustml.benchmarks.setting import blaming, clean_logits, keep_weights, load_data
    from trustml.files import write_whole
    from trustml.recipes import brief, read_recipe
    from trustml.reports.training_figure import training_figure
    from trustml.store import trained

    check_seed(seed)
    for path in plugins:
        registry.load_file(path)
    recipe, where = read_recipe(model), device_of(device)
    check_hardening(adversarial)
    check_untrained(recipe)
    dataset = load_data(data, data_dir)
    recipe = hardened(recipe, adversarial, dataset)
    with blaming(f"model {recipe.name}"), arithmetic(deterministic):
        result = trained(recipe, dataset, seed, where, fresh=fresh)
        # What guards the model in service is put around these weights when they are read.
        bare = trained(_unguarded(recipe), dataset, seed, where) if recipe.at("serving") else result
        logits = clean_logits(result.module, dataset.test, where).cpu()
    score = metrics.accuracy(logits, dataset.test.y)
    name = f"{recipe.name}-{dataset.name}-{seed}".replace("/", ".")
    weights, picture = out / f"{name}.safetensors", out / f"{name}.png"
    keep_weights(bare.module, weights)
    drawn = training_figure(result.curve, logits, dataset.test.y, dataset.class_names, name)
    write_whole(picture, drawn)
    how = "taken from the cache, trained" if result.from_cache else "trained"
    say(f"{brief(recipe)} on {dataset.name}: {how} in {result.seconds:.1f} s")
    say(
        f"test accuracy {100 * score.value:.2f} % (95 % interval {100 * score.low:.2f} to "
        f"{100 * score.high:.2f}) on {len(dataset.test)} samples"
    )
    for note in result.notes:
        say(f"note: {note}")
    if adversarial != OFF:
        words = ["--model", brief(recipe), "--data", data]
        words += _of_this_run(seed, deterministic, data_dir, plugins)
        say_command("attack this very model", ["trustml", "bench", *words])
    click.echo(f"figure: {picture}\nweights: {weights}")
    say_command("use them with", ["--model", _reading(recipe, weights)])


def _of_this_run(
    seed: int, deterministic: bool, data_dir: str | None, plugins: tuple[str, ...]
) -> list[str]:
    """Return the words without which another command has another model, or no such data."""
    words = ["--seed", str(seed)] if seed else []
    words += ["--deterministic"] if deterministic else []
    words += ["--data-dir", data_dir] if data_dir else []
    return [*words, *(word for path in plugins for word in ("--plugin", path))]


def _reading(recipe: "Recipe", weights: Path) -> str:
    """Return the model, without how it was trained, that reads these weights."""
    from trustml.recipes import brief

    options = {**recipe.own, "weights": str(weights)}
    model = replace(recipe.model, options=options)
    return brief(replace(recipe, model=model, safeguards=recipe.at("serving")))


def _unguarded(recipe: "Recipe") -> "Recipe":
    guards = recipe.at("serving")
    return replace(recipe, safeguards=tuple(c for c in recipe.safeguards if c not in guards))


def check_hardening(word: str) -> None:
    """Check the word of --adversarial.

    Raises:
        UnknownName: there is no such way.
    """
    if word not in (OFF, *HARDENINGS):
        raise UnknownName.of("way of adversarial training", word, (*HARDENINGS, OFF))


def check_untrained(recipe: "Recipe") -> None:
    """Check that there is something to be trained.

    Raises:
        BadOption: the model has its weights.
    """
    from trustml.recipes import brief

    if recipe.is_deployed or recipe.weights is not None:
        other = "name another model" if recipe.is_deployed else "leave weights= out"
        raise BadOption(
            f"{brief(recipe)} is trained already: measure it with trustml bench --model, or {other}"
        )


def hardened(recipe: "Recipe", word: str, dataset: "Dataset") -> "Recipe":
    """Return the recipe with adversarial training in the data's usual Linf ball.

    Where the ball is wide it grows at first, and nothing stops early: the loss rises with it.

    Raises:
        BadOption: the data have no such budget, or the recipe trains on attacks already, or not
            at all.
    """
    from trustml.recipes import choose, read_recipe

    if word == OFF:
        return recipe
    present = [choice.plugin.name for choice in recipe.at("training")]
    if known := [name for name in present if name in HARDENINGS.values()]:
        raise BadOption(f"--adversarial {word}: the recipe has {known[0]} already; leave one out")
    check_untrained(recipe)
    if "linf" not in dataset.budgets:
        raise BadOption(
            f"--adversarial {word}: {dataset.name} has no usual Linf budget; say how large in the "
            f"recipe: --model {recipe.model.plugin.name}+{HARDENINGS[word]}:epsilon=0.1"
        )
    epsilon = dataset.budgets["linf"]
    text, model = f"{HARDENINGS[word]}:epsilon={epsilon!r}", recipe.model
    if epsilon > WIDE * (dataset.train.high - dataset.train.low):
        text += f",warm_up={recipe.training.epochs * GROWING:.4g}"
        model = replace(model, options={**model.options, "patience": 0})
    added = choose("safeguard", text)
    # What makes the training hard comes first among the safeguards of the training.
    data, rest = recipe.at("data"), recipe.safeguards[len(recipe.at("data")) :]
    return read_recipe(replace(recipe, model=model, safeguards=(*data, added, *rest)).text)
