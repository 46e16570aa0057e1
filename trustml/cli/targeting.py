"""`trustml target`: what a deployed model is taken for; and the options that describe one."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from trustml.cli.lines import say
from trustml.cli.words import DATA_DIR, JSON, PLUGIN

F = TypeVar("F", bound=Callable[..., Any])
# Option of the command line → help; each is an option of the target, too: model.onnx:mean=[0.5].
_WORDS = {
    "weights": "Weights of a Python factory or a timm model: .safetensors or .pt, tensors alone.",
    "input_shape": "Shape of one input as the model takes it, without the batch: 3,32,32.",
    "input_range": "What the model takes for the data's lowest and highest value: 0,255.",
    "mean": "Subtracted from each channel after the range: 0.485,0.456,0.406.",
    "std": "Each channel is divided by it after the mean.",
    "layout": "Channels first (C, H, W) or last (H, W, C), as the model takes them.",
    "colours": "rgb or bgr, as the model takes them.",
    "classes": "Names of the classes in the data's order: cat,dog.",
    "answers": "What the model answers: logits, probabilities or labels.",
    "sha256": "Of the model's file; another file is refused.",
    "trust_pickle": "Open a .joblib, which can run any code when it is opened.",
}
_LISTS = ("input_shape", "input_range", "mean", "std", "classes")


def target_words(command: F) -> F:
    """Add to a command the options that describe a deployed model; see `target_text`."""
    for name, text in reversed(_WORDS.items()):
        flag = f"--{name.replace('_', '-')}"
        if name == "trust_pickle":
            command = click.option(flag, is_flag=True, help=text)(command)
        else:
            command = click.option(flag, metavar="VALUE", help=text)(command)
    return command


def target_text(model: str, words: dict[str, Any]) -> str:
    """Return the text of a model with the options of the command line in it, taken out of `words`.

    `model.onnx` and --mean 0.5 are `model.onnx:mean=[0.5]`.
    """
    given = {name: words.pop(name) for name in _WORDS if name in words}
    told = []
    for name, value in given.items():
        if value is None or value is False:
            continue
        text = "true" if value is True else str(value)
        bare = name in _LISTS and not text.startswith("[")
        told.append(f"{name}=[{text}]" if bare else f"{name}={_quoted(name, text)}")
    if not told:
        return model
    from trustml.deployment import apart

    subject, options = apart(model)
    quoted = json.dumps(subject) if model.startswith('"') else subject
    return f"{quoted}:{','.join([*([options] if options else []), *told])}"


@click.command(
    short_help="Open a deployed model and print what it is taken for.",
    epilog="Example: trustml target model.onnx --data mnist",
)
@click.argument("model")
@click.option("--data", metavar="NAME", help="Data to ask it about, as name:key=value,…")
@target_words
@DATA_DIR
@PLUGIN
@JSON
def target(
    model: str,
    data: str | None,
    data_dir: str | None,
    plugins: tuple[str, ...],
    as_json: bool,
    **words: Any,
) -> None:
    """Open a deployed model and print what it is taken for: inputs, answers, access, classes.

    MODEL is a file (.onnx, .pt2, .skops, .joblib), file.py:function, a Hugging Face folder, an
    address (http://host:port/v2/models/NAME, …/invocations), or a .toml or .json request template.
    Options may stand after it: model.onnx:input_range=[0,255].
    """
    from trustml.cli.described import describe

    facts = describe(target_text(model, words), data, data_dir, plugins)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        say(f"{name.ljust(width)}  {shown}", hang=width + 2)


def _quoted(name: str, text: str) -> str:
    return json.dumps(text) if name in ("weights", "sha256") else text
