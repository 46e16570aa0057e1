"""`trustml train`: a model with its figure and weights, or one line that says why not."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trustml.benchmarks.setting import load_data
from trustml.cli.training import hardened
from trustml.errors import BadOption
from trustml.recipes import read_recipe

WORDS = ("train", "--model", "mlp:hidden=[8],epochs=2", "--device", "cpu")


def test_figure_and_weights_are_written_and_can_be_used(trustml) -> None:
    """A PNG begins with its signature; the weights serve `bench` as the last line says."""
    ended = trustml(*WORDS, "--out", "a,b")
    assert ended.code == 0
    assert "test accuracy" in ended.out
    assert Path("a,b", "mlp-digits-0.png").read_bytes().startswith(b"\x89PNG\r\n")
    spec = 'mlp:hidden=[8],weights="a,b/mlp-digits-0.safetensors"'
    assert f"use them with:\n  --model '{spec}'\n" in ended.out
    ended = trustml("bench", "--model", spec, "--limit", "5", "--out", "run")
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
        (("--model", "cnn", "--data", "moons"), "cnn needs images"),
        (("--model", "mlp:weights=some.safetensors"), "or leave weights= out"),
        (("--model", "make.py:build"), "is trained already: measure it with trustml bench"),
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


SMALL = ("train", "--data", "digits", "--device", "cpu", "--out", "out")


def hardened_recipe(out: str) -> str:
    """Return the recipe that the command says it trained."""
    words = command(out)
    return words[words.index("--model") + 1]


def command(out: str) -> list[str]:
    """Return the words of the command that attacks the model, its lines joined as a shell does."""
    _, _, after = out.partition("attack this very model:\n")
    return shlex.split(after.partition("figure: ")[0].replace("\\\n", ""))


@pytest.mark.parametrize(
    ("word", "safeguard"),
    [("fast", "fast_adversarial_training"), ("pgd", "pgd_adversarial_training"),
     ("trades", "trades")],
)  # fmt: skip
def test_adversarial_is_a_word_for_a_safeguard(trustml, word: str, safeguard: str) -> None:
    """Its ball is the data's usual one, and bench takes the model from the cache by the recipe."""
    ended = trustml(*SMALL, "--model", "mlp:hidden=[8],epochs=2", "--adversarial", word)
    assert ended.code == 0, ended.err
    recipe = read_recipe(hardened_recipe(ended.out))
    assert recipe.name == f"mlp+{safeguard}"
    budget = load_data("digits", None).budgets["linf"]
    assert recipe.safeguards[0].options["epsilon"] == pytest.approx(budget)
    ended = trustml(*SMALL, "--model", recipe.text)
    assert "taken from the cache" in ended.out


def test_a_wide_ball_grows_at_first_and_nothing_stops_early() -> None:
    """A third of the epochs; patience would keep the weights of the smallest ball."""
    data = replace(load_data("digits", None), budgets={"linf": 0.3})
    recipe = hardened(read_recipe("cnn:epochs=12,patience=3"), "fast", data)
    assert recipe.safeguards[0].options["warm_up"] == pytest.approx(4.0)
    assert recipe.training.patience == 0
    narrow = hardened(read_recipe("cnn:epochs=12,patience=3"), "fast", replace(
        data, budgets={"linf": 0.05}
    ))  # fmt: skip
    assert narrow.safeguards[0].options["warm_up"] == 0
    assert narrow.training.patience == 3


def test_it_stands_before_what_else_acts_in_training_and_serving() -> None:
    recipe = read_recipe("cnn+confident_learning+weight_averaging+abstain")
    names = hardened(recipe, "fast", load_data("digits", None)).name.split("+")
    assert names == ["cnn", "confident_learning", "fast_adversarial_training", "weight_averaging",
                     "abstain"]  # fmt: skip
    assert hardened(recipe, "off", load_data("digits", None)) == recipe


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adversarial", "fats"), "no way of adversarial training named 'fats'; did you mean"),
        (("--adversarial", "fast", "--model", "mlp+trades"), "the recipe has trades already"),
        (("--adversarial", "fast", "--model", "logistic:solver=sklearn"), "fits itself"),
        (("--adversarial", "pgd", "--model", "mlp:weights=some.safetensors"), "trained already"),
    ],
)
def test_adversarial_words_that_cannot_be(trustml, words: tuple[str, ...], said: str) -> None:
    Path("some.safetensors").write_bytes(b"")
    given = words if "--model" in words else (*words, "--model", "mlp")
    ended = trustml(*SMALL, *given)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_data_without_a_usual_budget_say_so() -> None:
    """The line names the recipe that states a budget."""
    data = replace(load_data("digits", None), budgets={"l2": 1.0})
    with pytest.raises(BadOption, match=r"no usual Linf budget.*cnn\+trades:epsilon=0.1"):
        hardened(read_recipe("cnn"), "trades", data)


def test_deterministic_training_is_restored(trustml) -> None:
    ended = trustml(*SMALL, "--model", "mlp:hidden=[8],epochs=1", "--deterministic", "--fresh")
    assert ended.code == 0, ended.err
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_model_that_was_trained_otherwise_is_no_deterministic_one(trustml) -> None:
    """The cache knows them apart, and the command that attacks this very model says which it is."""
    words = (*SMALL, "--model", "mlp:hidden=[8],epochs=1", "--seed", "3", "--adversarial", "fast")
    trustml(*words)
    cached = "taken from the cache"
    for word, known in (("", True), ("--deterministic", False), ("--deterministic", True)):
        ended = trustml(*words, *([word] if word else []))
        assert (cached in ended.out) == known
        said = command(ended.out)
        assert ("--deterministic" in said) == bool(word)
        assert said[said.index("--seed") + 1] == "3"
        assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "batch_size"),
        (RuntimeError("CUDA error: device-side assert triggered\nmore"), "device-side assert"),
    ],
)
def test_a_device_that_fails_in_training_is_one_line(
    trustml, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """Whatever torch raises in the loop; the first line of it is told, with what to try."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("trustml.training._epoch", fails)
    ended = trustml(*SMALL, "--model", "mlp:epochs=1", "--fresh")
    assert ended.code == 1
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_the_weights_of_a_guarded_model_can_be_used_as_the_last_line_says(trustml) -> None:
    """The file holds what the guard is around, and the recipe puts the guard around it again."""
    ended = trustml("train", "--model", "mlp:hidden=[8],epochs=2+bit_depth", "--out", "out")
    assert ended.code == 0, ended.err
    words = shlex.split(ended.out.splitlines()[-1])
    assert words[1].endswith("+bit_depth")
    ended = trustml("bench", *words, "--attack", "noise", "--limit", "5", "--out", "run")
    assert ended.code == 0, ended.out + ended.err
