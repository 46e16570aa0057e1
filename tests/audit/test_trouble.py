"""Trouble as a person meets it at the command line: one clear line, an exit code, nothing lost."""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from tests.targets.servers import StandIn, late, output, say
from trustml.audit import agenda
from trustml.audit.stealing import STEALING
from trustml.cli.main import main

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def audit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Return a function that runs the command as a shell does: exit code, what it prints."""

    def run(*words: object) -> Said:
        home = () if "--resume" in words else ("--out", tmp_path / "audit", "--depth", "quick")
        monkeypatch.setattr("sys.argv", ["trustml", "audit", *map(str, (*words, *home))])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        code = stop.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    return run


def _refused(said: Said, *parts: str) -> None:
    """Exit code 2, nothing on the screen, one line of error that says all of this."""
    code, out, err = said
    assert code == 2, (out, err)
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err, err


def _lines(out: str) -> dict[str, Any]:
    return {line["section"]: line for line in map(json.loads, out.splitlines())}


def _url(server: StandIn) -> str:
    return f"{server.url}/v2/models/digits"


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "it ran"))


def test_a_checkpoint_that_would_run_code_is_refused(audit: Run, tmp_path: Path) -> None:
    """The canary does not sing: neither as a pickle by itself, nor inside torch's own format."""
    canary, factory = tmp_path / "canary", tmp_path / "make.py"
    factory.write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Canary(canary)))
    torch.save({"1.weight": torch.zeros(10, 64), "more": _Canary(canary)}, tmp_path / "in.pt")
    for name in ("raw.pt", "in.pt"):
        said = audit(f"{factory}:build", "--weights", tmp_path / name)
        _refused(said, name)
        assert not canary.exists()
    _refused(audit(tmp_path / "raw.pt"), "it holds weights, not the model", "make.py:build")
    assert not canary.exists()


def test_a_joblib_is_opened_on_request_only(audit: Run, tmp_path: Path) -> None:
    """Without the flag nothing runs; with it the canary sings, as was said, and is no model."""
    canary, path = tmp_path / "canary", tmp_path / "model.joblib"
    path.write_bytes(pickle.dumps(_Canary(canary)))
    _refused(audit(path), "can run any code", "--trust-pickle")
    assert not canary.exists()
    _refused(audit(path, "--trust-pickle"), "no fitted classifier")
    assert canary.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_trusted_joblib_is_audited(
    audit: Run, fitted: LogisticRegression, tmp_path: Path
) -> None:
    joblib.dump(fitted, tmp_path / "model.joblib")
    code, out, err = audit(tmp_path / "model.joblib", "--trust-pickle", "--json")
    assert code == 0, err
    assert _lines(out)["stealing"]["findings"]


def test_an_address_where_nothing_is(audit: Run, served: StandIn) -> None:
    """Wrong port, wrong name: at once, and the address is in the line."""
    _refused(audit("http://127.0.0.1:9/v2/models/digits"), "127.0.0.1:9", "Connection refused")
    _refused(audit(f"{served.url}/v2/models/other"), "/v2/models/other", "404")


def test_a_server_that_is_too_slow_from_the_start(audit: Run, served: StandIn) -> None:
    served.trouble = late(0.3)
    _refused(audit(f"{_url(served)}:timeout=0.05"), "no answer within 0.05 s")


def test_answers_that_are_not_the_datas(audit: Run, served: StandIn) -> None:
    """Seven classes for ten; labels in words, which nobody has put into an order."""
    known = served.answer
    served.answer = lambda x: known(x)[:, :7] / known(x)[:, :7].sum(1, keepdim=True)
    _refused(audit(_url(served)), "answers 7 classes; the data have 10")
    served.answer = lambda x: [NAMES[int(n)] for n in known(x).argmax(1)]
    _refused(audit(_url(served)), "answered the label", "classes=[…]")
    served.answer = known
    _refused(audit(_url(served), "--answers", "logits"), "look like probabilities",
             "answers=probabilities")  # fmt: skip
    served.answer = lambda x: known(x).log()
    _refused(audit(_url(served), "--answers", "probabilities"), "say answers=logits")
    served.answer = lambda x: [[1.0, "2"]] * len(x)
    _refused(audit(_url(served)))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_labels_in_words_are_audited_once_their_order_is_said(audit: Run, served: StandIn) -> None:
    known = served.answer
    served.answer = lambda x: [NAMES[int(n)] for n in known(x).argmax(1)]
    code, out, err = audit(_url(served), "--classes", ",".join(NAMES), "--json")
    assert code == 0, err
    lines = _lines(out)
    assert lines["black_box"]["findings"]
    assert lines["stealing"]["findings"]
    assert lines["doubt"]["reason"].startswith("it answers labels only")


@pytest.mark.parametrize("trouble", ["slow", "schema"])
@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_trouble_in_the_middle(audit: Run, served: StandIn, tmp_path: Path, trouble: str) -> None:
    """What was finished stands; the section that met it failed and says why; --resume ends it."""

    def slow(number: int, handler: Any) -> bool:
        if (tmp_path / "audit" / "sections" / "stealing").exists():
            return late(0.4)(number, handler)
        return False

    def changed(number: int, handler: Any) -> bool:
        if (tmp_path / "audit" / "sections" / "stealing").exists():
            say(handler, 200, {"outputs": [output(torch.rand(3, 4))]})
            return True
        return False

    served.trouble = slow if trouble == "slow" else changed
    # Opening the model for the section may meet it, too: then it never began.
    code, out, err = audit(f"{_url(served)}:timeout=0.2", "--json")
    assert code == 1, err
    lines = _lines(out)
    assert lines["black_box"]["findings"]
    assert lines["stealing"]["grade"] == "failed"
    why = {"slow": "no answer within 0.2 s", "schema": "gives 3 answers to"}[trouble]
    assert why in lines["stealing"]["reason"]
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "stealing: failed" in page
    served.trouble = lambda number, handler: False
    code, out, err = audit("--resume", tmp_path / "audit", "--json")
    assert code == 0, err
    again = _lines(out)
    assert again["black_box"] == lines["black_box"]
    assert again["stealing"]["findings"]
    assert again["doubt"]["findings"]


def test_what_failed_is_offered_to_be_tried_again(
    audit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No empty table of findings; the command stands on a line of its own, and on the page."""
    monkeypatch.setattr(agenda, "SECTIONS", (STEALING,))
    (tmp_path / "make.py").write_text(_DEAD.format(str(tmp_path / "audit" / "sections")))
    code, out, err = audit(f"{tmp_path / 'make.py'}:dead")
    assert code == 1, err
    assert "Findings" not in out
    assert "Failed: Stolen by asking." in out
    command = f"trustml audit --resume {tmp_path / 'audit'}"
    # Where the folder's name is long, the command goes on in the next line.
    assert f"  {command}" in out.replace(" \\\n    ", " ").splitlines()
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert command in page
    assert "trustml replay" not in page
    short = [line for line in out.splitlines() if str(tmp_path) not in line]
    assert max(map(len, short)) <= 100


_DEAD = """
from pathlib import Path
import torch

def dead():
    def answer(x):
        if Path({!r}).exists():
            raise RuntimeError("a reason that is said in many words, " * 6)
        return x.flatten(1)[:, :10]
    return answer
"""


class _Odd(nn.Module):
    """A network with an operator that the runtime knows and the conversion does not."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Of a matrix (B, 8, 8): a number that changes hardly anything.
        logits: torch.Tensor = self.inside(x) + 1e-3 * torch.det(x[:, 0])[:, None]
        return logits


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_an_operator_that_cannot_be_converted(audit: Run, tmp_path: Path) -> None:
    """Scores remain: what needs gradients is not examined, and the operator is named."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: trustml[onnx]")
    pytest.importorskip("onnx", reason="onnx is not installed: trustml[onnx]")
    path = tmp_path / "odd.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Odd().eval(), (torch.rand(2, 1, 8, 8),), str(path), dynamo=False,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "b"}, "y": {0: "b"}},
        )  # fmt: skip
    code, out, err = audit(path)
    assert code == 0, err
    assert "no gradients: " in out
    assert "Det" in out
    assert "not examined: Fooled by who knows all of it" in out
    assert "Fooled by who only asks: " in out


def test_an_operator_that_nobody_knows(audit: Run, tmp_path: Path) -> None:
    """The runtime itself refuses it: one line with the operator's name."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: trustml[onnx]")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: trustml[onnx]")
    from onnx import TensorProto, helper

    one, two = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 10]) for name in ("x", "y")
    )
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"])], "g", [one], [two])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "none.onnx"))
    _refused(audit(tmp_path / "none.onnx"), "none.onnx", "Frobnicate")


def test_files_that_are_none(audit: Run, fitted: LogisticRegression, tmp_path: Path) -> None:
    """Damaged, missing, of another kind, for other data: each is one line."""
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    (tmp_path / "bad.skops").write_bytes(b"nonsense")
    (tmp_path / "bad.pt2").write_bytes(b"nonsense")
    for name in ("bad.onnx", "bad.skops", "bad.pt2"):
        _refused(audit(tmp_path / name), name)
    _refused(audit(tmp_path / "model.h5"), "convert it to .onnx")
    skops.io.dump(fitted, tmp_path / "model.skops")
    _refused(audit(tmp_path / "model.skops", "--data", "moons"), "the data have (2)")
