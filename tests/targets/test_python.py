"""What a function returns: its code is its owner's, its weights are tensors and nothing else."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.targets.conftest import Net, gradient, inputs
from trustml.benchmarks.setting import told
from trustml.contracts import Access, Domain
from trustml.errors import BadInput, UsageError

_SOURCE = """
import torch
from torch import nn
from tests.targets.conftest import Net

def build():
    return Net()

def doubled():
    net = Net().eval()
    return lambda x: {"logits": 2 * net(x)}

def closed():
    weight = torch.randn(64, 10)
    return lambda x: torch.from_numpy(x.numpy()).flatten(1) @ weight

def labels():
    return lambda x: (x.flatten(1).sum(1) > 32).long()

def score():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

class Told(nn.Linear):
    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return super().forward(self.features(x))

def told():
    return Told(64, 10)

def single():
    weight = torch.ones(64, 10).cumsum(1)
    return lambda x: x.flatten(1) @ weight

def array():
    return lambda x: x.flatten(1)[:, :10].numpy()

def tired():
    count = [0]
    def answer(x):
        count[0] += len(x)
        if count[0] > 30:
            raise RuntimeError("rate limit")
        return x.flatten(1)[:, :10]
    return answer

def nothing():
    return 3

def raises():
    raise KeyError("no weights here")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of functions."""
    (tmp_path / "make.py").write_text(_SOURCE)
    return tmp_path / "make.py"


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_checkpoint_in_a_factory_is_the_module(
    net: Net, file: Path, open_target: Any, ending: str
) -> None:
    """The module whose weights were saved is the truth, for answers and gradients."""
    weights = file.with_name(f"weights{ending}")
    if ending == ".pt":
        torch.save(net.state_dict(), weights)
    else:
        save_file(net.state_dict(), weights)
    target = open_target(f"{file}:build:weights={weights}")
    x = inputs()
    assert torch.equal(target(x), net(x).detach())
    torch.testing.assert_close(gradient(target.module, x), gradient(net, x), rtol=0, atol=0)
    assert target.access == Access.GRADIENTS


def test_the_same_weights_every_time(file: Path, open_target: Any) -> None:
    """Random ones, too: else no run could be resumed. Other code is another model."""
    first, second = (open_target(f"{file}:build") for _ in range(2))
    assert first.digest == second.digest
    assert torch.equal(first(inputs()), second(inputs()))
    file.write_text(_SOURCE + "\n# changed\n")
    assert open_target(f"{file}:build").digest != first.digest


def test_anything_that_answers_will_do(file: Path, open_target: Any) -> None:
    """A mapping with logits keeps its gradients; what leaves torch has none; numbers are labels."""
    assert open_target(f"{file}:doubled").access == Access.GRADIENTS
    assert open_target(f"{file}:closed").access == Access.LOGITS
    two = Domain((1, 8, 8), 2)
    target = open_target(f"{file}:labels", two)
    assert target.access == Access.LABELS
    x = inputs()
    assert torch.equal(target(x).argmax(1), (x.flatten(1).sum(1) > 32).long())
    with pytest.raises(BadInput, match="say answers=probabilities if"):
        open_target(f"{file}:score", two)
    scored = open_target(f"{file}:score:answers=logits", two)
    assert scored(x).shape == (40, 2)
    assert not scored(x)[:, 0].any()  # the log odds of the second class, against none


def test_features_of_a_classifier_are_shown_and_follow_its_copies(
    file: Path, open_target: Any
) -> None:
    """Where the module says what its last layer reads; a copy asks its own body, not the first."""
    target = open_target(f"{file}:told")
    x = inputs(3)
    assert torch.equal(target.module.features(x), x.flatten(1))
    double = copy.deepcopy(target.module).double()
    assert double.features(x.double()).dtype == torch.float64
    assert double.features.__self__ is double
    assert not hasattr(open_target(f"{file}:build").module, "features")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"nothing\(\) returned int"),
        ("raises", r"raises\(\) raised KeyError: 'no weights here'"),
        ("array", r"answers a numpy array: return a torch tensor \(B, K\)"),
        ("absent", "no function or class in .* named 'absent'.*Known: Told, array, build, closed"),
        ("Tolt", "named 'Tolt'; did you mean 'Told'"),
    ],
)
def test_a_function_that_is_none_is_one_line(
    file: Path, open_target: Any, name: str, said: str
) -> None:
    """The name, and what there is."""
    with pytest.raises(UsageError, match=said):
        open_target(f"{file}:{name}")


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "it ran"))


def test_a_malicious_checkpoint_is_refused_unrun(
    net: Net, file: Path, tmp_path: Path, open_target: Any
) -> None:
    """A canary between the tensors: it stays silent here, and sings where anything is unpickled."""
    canary, weights = tmp_path / "canary", tmp_path / "bad.pt"
    torch.save({**net.state_dict(), "extra": _Canary(canary)}, weights)
    with pytest.raises(BadInput, match="more than tensors, which could run code"):
        open_target(f"{file}:build:weights={weights}")
    assert not canary.exists()
    torch.load(weights, weights_only=False)
    assert canary.exists(), "the canary could not sing, so the test shows nothing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.pt", "it holds weights, not the model: name the function"),
        ("model.pkl", "a pickle runs code"),
        ("model.h5", "convert it to .onnx"),
        ("none.onnx", "no such file"),
        ("none.py:build", "does not run: FileNotFoundError: no such file"),
        ("no.such.package:build", "does not run: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_opened_says_what_to_do(open_target: Any, text: str, said: str) -> None:
    """One line each, by the ending."""
    with pytest.raises(BadInput, match=said):
        open_target(text)


def test_a_callable_is_asked_in_float32_always(file: Path, open_target: Any) -> None:
    """Its weights are out of reach, so that float64 inputs would not go with them."""
    module = open_target(f"{file}:single").module
    x = inputs(3)
    assert torch.equal(module(x.double()), module(x))
    assert module(x.double()).dtype == torch.float32


def test_a_model_that_stops_says_after_how_many_inputs(file: Path, open_target: Any) -> None:
    """24 at its opening (8 twice, 8 for gradients), then 5, and the next 5 are too many."""
    module = open_target(f"{file}:tired").module
    module(inputs(5))
    with pytest.raises(RuntimeError) as raised:
        module(inputs(5))
    assert told(raised.value).endswith("; the model had answered 29 inputs before")
