"""`trustml target`: what it prints, and options of the command line as options of the target."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from trustml.cli.main import cli
from trustml.cli.targeting import target_text
from trustml.errors import BadInput


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An exported linear model of the digits."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(exported, tmp_path / "model.pt2")
    return tmp_path / "model.pt2"


def test_it_prints_what_the_model_is_taken_for(program: Path) -> None:
    """As lines for a person, and the same facts as JSON."""
    words = ["target", str(program), "--data", "digits"]
    printed = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "gradients and logits" in printed
    # A path and a hash are copied whole; what is a list of words is wrapped.
    lists = [line for line in printed.splitlines() if str(program) not in line]
    assert max(map(len, lists)) <= 100
    assert sum("," in line for line in lists) > 5
    facts = json.loads(CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False).output)
    assert facts["kind"] == "torch_export"
    assert facts["inputs"] == "(1, 8, 8) in [0, 1]"
    assert "pgd" in facts["attacks that would do"]
    assert facts["accuracy"].endswith(")")
    assert facts["as a model"].startswith("torch_export:path=")


def test_options_of_the_command_line_are_the_targets(program: Path) -> None:
    """They stand behind those of the text; lists get their brackets."""
    words = {"mean": "0.5,0.4", "std": None, "answers": "logits", "trust_pickle": True, "other": 1}
    text = target_text("model.onnx:layout=last", words)
    assert text == "model.onnx:layout=last,mean=[0.5,0.4],answers=logits,trust_pickle=true"
    assert words == {"other": 1}
    assert target_text("model.onnx", {"mean": None, "trust_pickle": False}) == "model.onnx"
    with pytest.raises(BadInput, match="has the SHA-256"):
        CliRunner().invoke(cli, ["target", str(program), "--sha256", "ab"], catch_exceptions=False)


def test_a_trained_model_is_no_target() -> None:
    """It says where to look."""
    with pytest.raises(BadInput, match="trustml list target says what is"):
        CliRunner().invoke(cli, ["target", "mlp"], catch_exceptions=False)
