"""`trustml train`: a model with its figure and weights, or one line that says why not."""

from pathlib import Path

import pytest

WORDS = ("train", "--model", "mlp:hidden=[8],epochs=2", "--device", "cpu")


def test_figure_and_weights_are_written_and_can_be_used(trustml) -> None:
    """A PNG begins with its signature; the weights serve `bench` as the last line says."""
    ended = trustml(*WORDS, "--out", "a,b")
    assert ended.code == 0
    assert "test accuracy" in ended.out
    assert Path("a,b", "mlp-digits-0.png").read_bytes().startswith(b"\x89PNG\r\n")
    spec = 'mlp:weights="a,b/mlp-digits-0.safetensors"'
    assert f"(use them with {spec})" in ended.out
    model = spec.replace("mlp:", "mlp:hidden=[8],")
    ended = trustml("bench", "--model", model, "--limit", "5", "--out", "run")
    assert ended.code == 0
    assert "weights from" in ended.out


def test_a_model_is_trained_once(trustml) -> None:
    trustml(*WORDS, "--out", "out")
    assert "taken from the cache" in trustml(*WORDS, "--out", "out").out
    assert "taken from the cache" not in trustml(*WORDS, "--out", "out", "--fresh").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "mpl"), "no model named 'mpl'; did you mean 'mlp'"),
        (("--data", "digit"), "no data named 'digit'"),
        (("--seed", "-1"), "--seed must be 0 or more, not -1"),
        (("--seed", "99999999999999999999"), "--seed must be below 2^63"),
        (("--device", "gpu"), "no device named 'gpu'"),
        (("--plugin", "absent.py"), "no such file"),
        (("--out", "file/inside"), "cannot be written"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(trustml, words: tuple[str, ...], said: str) -> None:
    Path("file").write_text("")
    ended = trustml(*WORDS, *words)
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_model_that_raises_is_named(trustml, toys) -> None:
    ended = trustml("train", *toys[:4], "--model", "largest:broken=nan")
    assert ended.code == 1
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1
