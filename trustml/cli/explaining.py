"""`trustml explain`: why a model answers what it answers to one input, as numbers and a picture."""

from pathlib import Path
from typing import cast

import click
import torch
from torch import Tensor

from trustml import registry
from trustml.benchmarks.explanation_question import Question
from trustml.benchmarks.explanations import examine
from trustml.benchmarks.place import device_of
from trustml.benchmarks.plan import check_seed
from trustml.benchmarks.setting import blaming, load_data
from trustml.cli.lines import say
from trustml.contracts import Classifier, Dataset
from trustml.errors import BadInput, BadOption, NotApplicable, TrustError
from trustml.files import write_whole
from trustml.images import picture_and_change
from trustml.recipes import Choice, choose, read_recipe
from trustml.reports.heat_maps import heat_maps
from trustml.reports.tables import console, number, plain_table
from trustml.store import trained

_BACKGROUND = 256
_COMPLETE = "completeness error"


def print_explanation(
    model: str,
    asked: str,
    out: Path | None,
    *,
    attributions: tuple[str, ...],
    target: int | None,
    data: str,
    seed: int,
    device: str,
    data_dir: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Print the answer and each method's completeness error, and draw the maps.

    Args:
        model: the recipe.
        asked: a picture file, or a row of the test set.
        out: where the picture goes; a name of its own in the current folder for None.
        attributions: the methods.
        target: the class to be explained; the answered one for None.

    Raises:
        TrustError: names, options, data or a training that fail.
    """
    check_seed(seed)
    for file in plugins:
        registry.load_file(file)
    methods = [choose("attribution", text) for text in attributions]
    recipe, where = read_recipe(model), device_of(device)
    dataset = load_data(data, data_dir)
    if out is not None and len(dataset.test.domain.shape) != 3:
        raise BadOption(f"--out {out}: inputs of {data} are no pictures, so none is drawn of them")
    x, change = _input(asked, dataset)
    x = x.to(where)
    with blaming(f"model {recipe.name}"):
        module = trained(recipe, dataset, seed, where).module
        with torch.no_grad():
            probabilities = module(x).softmax(1)[0]
    wanted = int(probabilities.argmax()) if target is None else target
    if not 0 <= wanted < dataset.test.classes:
        raise BadOption(f"--target {wanted}: {data} has classes 0 to {dataset.test.classes - 1}")
    question = Question(
        cast(Classifier, module), x, torch.tensor([wanted], device=where),
        dataset.train.x[:_BACKGROUND].to(where), (dataset.test.low, dataset.test.high), seed=seed,
    )  # fmt: skip
    name, share = dataset.class_names[wanted], float(probabilities[wanted])
    click.echo(f"{recipe.name} gives {name!r} a probability of {100 * share:.1f} %.")
    if change:
        say(f"{asked} was {change}.")
    maps = _print_methods(question, methods, f"{recipe.name} on {asked}")
    if maps and x.dim() == 4:
        path = out or Path(f"explained-{Path(asked).stem}.png")
        write_whole(path, heat_maps(x, maps, (name,), f"Why {name!r}? {recipe.name}"))
        click.echo(f"drawn: {path}")
    if not maps:
        raise TrustError(
            "nothing was explained: every method that was asked for was skipped, with its reason "
            "above; trustml list attribution names the others"
        )


def _print_methods(question: Question, methods: list[Choice], title: str) -> dict[str, Tensor]:
    """Print each method's completeness error and seconds; return the maps."""
    table = plain_table(title, "method", ["completeness\nerror ↓", "s"])
    maps: dict[str, Tensor] = {}
    skipped: list[str] = []
    for method in methods:
        try:
            found = examine(question, method, metrics=(_COMPLETE,))
        except NotApplicable as error:
            table.add_row(method.plugin.name, "skipped")
            name, said = method.plugin.name, " ".join(str(error).split())
            skipped.append(f"skipped: {name}: {said.removeprefix(f'{name}: ')}")
            continue
        maps[method.plugin.name] = found.explained.maps
        gap = found.measured.get(_COMPLETE)
        shown = number(gap.score.value) if gap else "–"
        table.add_row(method.plugin.name, shown, f"{found.cost.seconds:.2f}")
    console().print(table)
    for line in skipped:  # beside the table: a cell would cut it
        say(line)
    return maps


def _input(asked: str, dataset: Dataset) -> tuple[Tensor, str]:
    """Return the picture, or the row of the test set, (1, *S), and what was done to it.

    Raises:
        BadInput: no such file, no picture, or no such row.
    """
    if not asked.isdecimal():
        return picture_and_change(asked, dataset.test.domain)
    row = int(asked)
    if row >= len(dataset.test):
        raise BadInput(f"--input {row}: the test set has rows 0 to {len(dataset.test) - 1}")
    return dataset.test.x[row : row + 1], ""
