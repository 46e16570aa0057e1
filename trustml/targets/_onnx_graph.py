"""An ONNX graph as a torch module, node by node; what has no torch operator is named."""

from typing import Any

import torch
from torch import Tensor, nn

from trustml.errors import NotApplicable
from trustml.targets._onnx_operators import OPERATORS


class Converted(nn.Module):
    """The part of a graph that leads from its input to one output, in torch."""

    def __init__(self, model: Any, input_name: str, output_name: str) -> None:
        """Take the graph over.

        Raises:
            NotApplicable: it has operators that are not converted; they are named.
        """
        super().__init__()
        from onnx import numpy_helper

        graph = model.graph
        opset = {one.domain or "ai.onnx": one.version for one in model.opset_import}
        self.input_name, self.output_name = input_name, output_name
        nodes = _needed(list(graph.node), output_name)
        unknown = sorted({node.op_type for node in nodes if node.op_type not in OPERATORS})
        if unknown:
            raise NotApplicable(f"no conversion of its operators {', '.join(unknown)}")
        self.steps = [_step(node, opset.get("ai.onnx", 1)) for node in nodes]
        used = {name for _, inputs, _, _ in self.steps for name in inputs} | {output_name}
        self.places: dict[str, str] = {}
        for held in graph.initializer:
            if held.name in used:
                place = self.places[held.name] = f"weight_{len(self.places)}"
                tensor = torch.from_numpy(numpy_helper.to_array(held).copy())
                self.register_buffer(place, tensor, persistent=False)

    def forward(self, x: Tensor) -> Any:
        """Return the output for x."""
        known: dict[str, Any] = {name: getattr(self, place) for name, place in self.places.items()}
        known[self.input_name], known[""] = x, None
        for kind, inputs, outputs, attributes in self.steps:
            found = OPERATORS[kind]([known[name] for name in inputs], attributes)
            several = found if isinstance(found, tuple | list) else (found,)
            known.update(zip(outputs, several, strict=False))
        return known[self.output_name]


def _needed(nodes: list[Any], output: str) -> list[Any]:
    """Return the nodes that the output depends on, in order."""
    wanted, found = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            found.append(node)
            wanted |= set(node.input)
    return found[::-1]


def _step(node: Any, opset: int) -> tuple[str, list[str], list[str], dict[str, Any]]:
    from onnx import helper, numpy_helper

    attributes: dict[str, Any] = {"opset": opset, "outputs": len(node.output)}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if hasattr(value, "raw_data"):
            value = torch.from_numpy(numpy_helper.to_array(value).copy())
        elif node.op_type == "Constant":
            value = torch.tensor(value)
        attributes[attribute.name] = value
    return node.op_type, list(node.input), list(node.output), attributes
