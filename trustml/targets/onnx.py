"""The target `onnx`: onnxruntime answers, and a conversion to torch gives the gradients."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, MissingPackage, NotApplicable
from trustml.registry import target
from trustml.targets._face import Found, file_at, target_of, trials
from trustml.targets._inputs import Declared
from trustml.targets._onnx_graph import Converted
from trustml.targets.torch_export import in_batches

# The conversion may miss the runtime by this share of the greatest answer: float32 sums in another
# order miss by a hundredth of it, a wrong operator by far more.
_ALIKE = 1e-4
_KINDS = {
    "tensor(float)": torch.float32, "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16, "tensor(uint8)": torch.uint8,
}  # fmt: skip


@target(source="ONNX (onnx.ai); ONNX Runtime", takes="path", looks=(r".+\.onnx",))
def onnx(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    path: str = "",
    output: str | None = None,
    gradients: bool = True,
) -> Target:
    """An ONNX file: onnxruntime answers; a conversion that answers alike gives the gradients.

    `output` names the output with the scores where there are several; gradients=false leaves the
    conversion out.

    Raises:
        BadInput: no such file, a damaged one, several inputs, or no scores.
        MissingPackage: onnx or onnxruntime are not installed.
    """
    file = file_at(path)
    model, session, digest = _loaded(file)
    body = _Runtime(session, *_input(session, file), _output(session, output, file))
    keys = _class_names(model)
    body.columns = keys if session.get_outputs()[body.place].type.startswith("seq(map") else ()
    names = tuple(map(str, keys))
    found = Found(body, f"ONNX file {file}", digest, body.shape, names)
    note = "no gradients: gradients=false"
    if gradients:
        note = _converted(body, model, trials(found, domain, interface))
    return target_of(
        Found(body, found.describes, found.digest, body.shape, names, notes=(note,)),
        domain, interface,
    )  # fmt: skip


class _Shared:
    """What copies of a module have in common: it cannot be copied, and does not change."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __deepcopy__(self, memo: Any) -> "_Shared":
        return self


class _Runtime(nn.Module):
    """A session of onnxruntime; where a gradient is wanted, the conversion answers in its place."""

    def __init__(self, session: Any, given: Any, dtype: torch.dtype, place: int) -> None:
        super().__init__()
        self.session, self.name, self.dtype, self.place = _Shared(session), given.name, dtype, place
        sizes = [size if isinstance(size, int) else None for size in given.shape]
        self.batch = sizes[0] if sizes else None
        self.shape: Declared | None = tuple(sizes[1:]) if sizes else None
        self.columns: tuple[Any, ...] = ()
        self.converted: Converted | None = None

    def forward(self, x: Tensor) -> Any:
        """Return the model's own words."""
        wanted = torch.is_grad_enabled() and x.requires_grad
        if self.converted is not None and (wanted or x.dtype == torch.float64):
            return (
                self.converted(x)
                if self.batch is None
                else in_batches(self.converted, x, self.batch)
            )
        return self.run(x)

    def run(self, x: Tensor) -> Any:
        """Return what the runtime answers."""
        if self.batch is not None and len(x) != self.batch:
            return in_batches(self.run, x, self.batch)
        given = x.detach().cpu()
        given = given.round().clamp(0, 255) if self.dtype == torch.uint8 else given
        outputs = self.session.held.run(None, {self.name: given.to(self.dtype).numpy()})
        said = outputs[self.place]
        if self.columns:
            said = torch.tensor([[row[key] for key in self.columns] for row in said])
        elif said.dtype.kind in "OUS":
            return [str(label) for label in said.reshape(-1)]
        scores = torch.as_tensor(said)
        return scores.to(x.device, x.dtype) if scores.is_floating_point() else scores.to(x.device)


def _loaded(file: Path) -> tuple[Any, Any, str]:
    """Return the graph, a session that runs it on the CPU, and the hash of its files."""
    try:
        import onnx as library
        import onnxruntime
    except ImportError as error:
        raise MissingPackage.of(error.name or "onnxruntime", "onnx", str(file)) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        model = library.load(str(file), load_external_data=False)
        places = _beside(model)
        library.load_external_data_for_model(model, str(file.parent))
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # protobuf and onnxruntime raise families of their own
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"{file} is no ONNX file that runs here ({said})") from error
    digest = hashlib.sha256(file.read_bytes())
    for place in places:
        digest.update((file.parent / place).read_bytes())
    return model, session, digest.hexdigest()


def _input(session: Any, file: Path) -> tuple[Any, torch.dtype]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _KINDS:
        told = ", ".join(f"{one.name}: {one.type}" for one in inputs)
        raise BadInput(
            f"{file} takes {told or 'nothing'}; a classifier takes one tensor of numbers"
        )
    return inputs[0], _KINDS[inputs[0].type]


def _output(session: Any, wanted: str | None, file: Path) -> int:
    """Return the place of the output with the scores; with labels where there is no other."""
    outputs = session.get_outputs()
    names = [one.name for one in outputs]
    if wanted is not None:
        if wanted not in names:
            raise BadInput(f"{file} has no output {wanted!r}; it has {', '.join(names)}")
        return names.index(wanted)
    scores = [n for n, one in enumerate(outputs) if "float" in one.type or "double" in one.type]
    if len(scores) > 1:
        raise BadInput(f"{file} has several outputs with scores, {', '.join(names)}: say output=")
    return scores[0] if scores else 0


def _class_names(model: Any) -> tuple[Any, ...]:
    """Return the classes that a converted scikit-learn model names, in the order of its scores."""
    for node in reversed(model.graph.node):
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels"):
                if attribute.strings:
                    return tuple(text.decode() for text in attribute.strings)
                return tuple(attribute.ints)
    return ()


def _beside(model: Any) -> list[str]:
    """Return the names of the files beside it that hold its weights, if others do."""
    places = {
        entry.value
        for held in model.graph.initializer
        for entry in held.external_data
        if entry.key == "location"
    }
    return sorted(places)


def _converted(body: _Runtime, model: Any, x: Tensor) -> str:
    """Give the runtime a conversion that answers as it does; return what is to be said of it."""
    if body.dtype not in (torch.float32, torch.float64):
        return f"no gradients: it takes {body.dtype}"
    with torch.no_grad():
        said = body.run(x)
    if not isinstance(said, Tensor) or not said.is_floating_point():
        return "no gradients: it answers labels"
    output = body.session.held.get_outputs()[body.place].name
    try:
        module = Converted(model, body.name, output)
        with torch.no_grad():
            again = module(x) if body.batch is None else in_batches(module, x, body.batch)
    except NotApplicable as error:
        return f"no gradients: {error}"
    except Exception as error:  # an operator used in a way that the conversion does not know
        return f"no gradients: the conversion fails ({' '.join(str(error).split())[:150]})"
    if not isinstance(again, Tensor) or again.shape != said.shape:
        return "no gradients: the conversion answers another shape than the runtime"
    gap = float((again - said).abs().max() / said.abs().max().clamp_min(1e-12))
    if not gap <= _ALIKE:
        return f"no gradients: the conversion misses the runtime by {gap:.1g} of its answers"
    body.converted = module
    return f"gradients by conversion to torch, which misses the runtime by {gap:.1g} at most"
