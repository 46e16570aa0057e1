"""Models and data that are not what they should be, from the command line: never a wrong number."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ended
from trustml.benchmarks.harness import RECORDS

CROOKED = str(Path(__file__).parents[1] / "benchmarks" / "crooked.py")
Run = Callable[..., Ended]


@pytest.fixture
def bench(trustml: Run) -> Callable[..., tuple[Ended, dict[str, Any]]]:
    """Return a function that runs pgd and square, and gives the end and the records by plugin."""

    def runs(*words: str) -> tuple[Ended, dict[str, Any]]:
        given = ("--plugin", CROOKED, "--certify", "off", "--out", "run", *words)
        ended = trustml("bench", *given, "--attack", "pgd:steps=3", "--attack", "square:queries=20")
        lines = Path("run", RECORDS).read_text().splitlines() if Path("run").exists() else []
        return ended, {record["plugin"]: record for record in map(json.loads, lines)}

    return runs


REFUSED = {
    "nan": "NaN or infinity to a clean input",
    "nan_where_attacked": "NaN",
    "infinite": "NaN",
    "one_column": "1 classes; the data have 3",
    "two_columns": "2 classes; the data have 3",
    "a_row_short": "the model answered (63, 3) to 64 inputs; expected (64, K)",
    "one_row": "the model answered (1, 3)",
    "flat": "the model answered (192,)",
    "a_tuple": "the model answered tuple",
    "whole_numbers": "the model answered torch.int64 to a clean input; logits are floating",
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_model_that_is_no_classifier_gets_no_number(bench, how: str) -> None:
    """Exit code 1, each case failed with one line that says why, and no score anywhere."""
    ended, records = bench("--data", "spoiled", "--model", f"crooked:how={how}")
    assert ended.code == 1
    assert set(records) == {"noise", "pgd", "square", "all"}
    for record in records.values():
        assert record["status"] in ("failed", "skipped")
        assert not record["scores"]
        assert "\n" not in record["reason"]
    for name in ("noise", "pgd", "square"):
        assert REFUSED[how] in records[name]["reason"]
    assert "Traceback" not in ended.out + ended.err


SUSPECT = {
    "probabilities": ("100% of the answers lie in [0, 1]", 0.5),
    "noise": ("get another answer when the model is asked again", None),
    "detached": ("the answers have no gradient", 0.5),
}


@pytest.mark.parametrize("how", SUSPECT)
def test_a_model_whose_number_may_mislead_is_told_apart(bench, how: str) -> None:
    """Exit code 0, with a note; 10 of the 20 leads are below twice the budget of 0.1."""
    ended, records = bench("--data", "spoiled", "--model", f"crooked:how={how}")
    said, robust = SUSPECT[how]
    assert ended.code == 0
    assert any(said in note for note in records["all"]["notes"])
    if robust is not None:
        assert records["all"]["scores"]["robust accuracy"]["value"] == robust
    if how == "detached":
        assert records["pgd"]["status"] == "skipped"
        assert "no gradient" in records["pgd"]["reason"]


SPOILED = {
    "whole_numbers": "x is torch.uint8, it must be torch.float32",
    "one_hot": "looks one-hot; it must hold class numbers (B,): y.argmax(1)",
    "nan": "holds nan, not a finite number",
    "outside": "outside [0.0, 1.0]",
    "no_such_class": "label",
    "negative": "label",
    "floats": "y is torch.float32, it must be torch.int64",
    "too_few_labels": "20 inputs, 19 labels and 20 ids",
}


@pytest.mark.parametrize("how", SPOILED)
def test_data_that_nothing_can_be_measured_on_are_refused(bench, how: str) -> None:
    """Exit code 2 and one line, before anything runs: a label of no class is not one misread."""
    ended, records = bench("--data", f"spoiled:how={how}", "--model", "crooked:how=detached")
    assert ended.code == 2
    assert not records
    assert SPOILED[how] in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_norm_that_an_attack_lacks_is_refused(bench) -> None:
    """Square knows no L0: it is said before anything runs."""
    ended, records = bench("--data", "spoiled", "--model", "crooked:how=detached", "--norm", "l0")
    assert ended.code == 2
    assert not records
    assert "does not know l0" in ended.err
