"""A command that shows how a plugin is used, and works as it stands wherever that can be."""

from shlex import quote

from trustml.options import spec_text, write
from trustml.registry import Plugin

# By the kind of plugin; {} is its name, with an option.
_COMMANDS = {
    "attribution": "trustml explain mlp --input 3 --attribution {}",
    "corruption": "trustml bench --corruption {} --model cnn",
    "data": "trustml train --model mlp --data {}",
    "inspection": "trustml bench --inspection {} --poison badnets --model mlp",
    "model": "trustml train --model {}",
    "poison": "trustml bench --poison {} --model mlp",
    "route": "trustml bench --route {} --model mlp",
    "stealer": "trustml bench --stealer {} --model logistic",
}
# What a target's text stands for, by the option that takes it.
_SUBJECTS = {
    "hugging_face": "folder/", "json_http": "request.toml", "onnx": "model.onnx",
    "mlflow": "http://localhost:5000/invocations", "python": "make.py:build",
    "open_inference": "http://localhost:8000/v2/models/name", "scikit_learn": "model.skops",
    "timm": "timm/resnet18", "torch_export": "model.pt2",
}  # fmt: skip


def example(plugin: Plugin) -> str:
    """Return the command; its first option stands there with its default, to show how."""
    text = _named(plugin)
    if plugin.kind == "attack":
        norm = plugin.facts["norms"][0]
        return f"trustml bench --attack {quote(text)}" + (
            f" --norm {norm}" if norm != "linf" else ""
        )
    if plugin.kind == "detector":
        behind = plugin.facts["front_end"]
        return f"trustml bench --detector {quote(f'{text}+{behind}' if behind else text)}"
    if plugin.kind == "safeguard":
        if plugin.facts["stage"] == "monitoring":
            return f"trustml bench --route scanner --defense {quote(text)} --model mlp"
        return f"trustml bench --model {quote(f'mlp+{text}')}"
    if plugin.kind == "target":
        subject = _SUBJECTS.get(plugin.name)
        return f"trustml target {subject or plugin.name} --data digits"
    return _COMMANDS[plugin.kind].format(quote(text))


def _named(plugin: Plugin) -> str:
    """Return the plugin's name with its first option that has a value."""
    for option in plugin.options:
        if option.default is not None and not set(write(option.default)) & set(' "'):
            return spec_text(plugin.name, {option.name: option.default})
    return plugin.name
