"""Options of `trustml bench`: each acts on what was asked for, or is refused in one line."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from trustml.benchmarks.command import command
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.reach import HEEDED_BY
from trustml.cli.bench import bench
from trustml.cli.reach import check_reach
from trustml.cli.running import plan_of
from trustml.errors import BadOption

ROOT = Path(__file__).parents[2]
# What acts on every exam, or on the run; and what an exam refuses by itself.
EVERYWHERE = {
    "models", "data", "deterministic", "seed", "seeds", "limit", "batch_size", "shard", "order",
    "device", "executor", "workers", "data_dir", "plugins", "out", "resume", "as_json",
}  # fmt: skip
BY_THEMSELVES = {"defenses", "corruption_baseline"}
EXAMS = {
    "attacks": "--attack pgd",
    "detectors": "--detector energy",
    "attributions": "--attribution gradient",
    "stealers": "--stealer affine_solve",
    "routes": "--route scanner",
    "poisons": "--poison badnets",
    "inspections": "--inspection neural_cleanse",
    "corruptions": "--corruption fog",
}
VALUES = {
    "norms": "--norm l2", "epsilons": "--epsilon 0.1", "target": "--target 3",
    "curve": "--curve", "surrogates": "--surrogate cnn", "grid": "--grid 8-bit", "eot": "--eot 3",
    "certify": "--certify tight", "precision": "--precision float32",
    "indicators": "--no-indicators", "budget": "--budget 9", "outside": "--ood stealing",
    "aware": "--aware", "false_alarms": "--false-alarms 0.1", "terms": "--terms answers=labels",
    "countermeasures": "--countermeasure monitor", "copy": "--copy mlp",
    "figures": "--figure ROAD", "controls": "--controls 30", "controls_of": "--controls-of cnn",
}  # fmt: skip


def _planned(words: str | list[str]) -> Plan:
    """Return the plan of these words, checked by what is tested here and by nothing else."""
    given = shlex.split(words) if isinstance(words, str) else words
    with bench.make_context("bench", list(given)) as context:
        options = {
            name: value for name, value in context.params.items()
            if name not in ("out", "resume", "as_json", "executor", "workers")
        }  # fmt: skip
        plan = plan_of(options)
        check_reach(plan)
    return plan


def test_every_option_has_a_decided_reach() -> None:
    """A new one must be put into one of these, too."""
    options = {str(option.name) for option in bench.params}
    assert options <= set(HEEDED_BY) | set(EXAMS) | EVERYWHERE | BY_THEMSELVES
    assert set(VALUES) == set(HEEDED_BY) & options


@pytest.mark.parametrize("exam", EXAMS)
@pytest.mark.parametrize("option", VALUES)
def test_an_option_of_another_exam_is_refused(option: str, exam: str) -> None:
    """Each option beside each exam alone: it is heeded, or named with what it is for."""
    words = f"{EXAMS[exam]} {VALUES[option]}"
    if exam in HEEDED_BY[option]:
        _planned(words)
        return
    flag = VALUES[option].split()[0]
    with pytest.raises(BadOption, match=f"^{flag} is for --.*which this command does not ask for"):
        _planned(words)
    # A table of both has something that heeds it, but for what belongs to --aware alone.
    for other in HEEDED_BY[option]:
        if other in EXAMS:
            _planned(f"{words} {EXAMS[other]}")


def test_detectors_know_balls_only_where_they_are_attacked_knowing_them() -> None:
    _planned("--detector energy --aware --norm l2 --epsilon 0.1")
    with pytest.raises(BadOption, match="--norm is for --attack or --detector with --aware"):
        _planned("--detector energy --norm l2")


def test_what_is_not_named_is_not_refused() -> None:
    """Defaults are no words of the person; attacks are the default exam."""
    for words in (*EXAMS.values(), "", "--eot 3 --norm l2 --epsilon 0.1 --target 3"):
        _planned(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--limit 0", "--limit must be 1 or more, not 0; left out it is all samples"),
        ("--eot 0", "--eot must be 1 or more, not 0; left out it is the usual number"),
        ("--budget 0", "--budget must be 1 or more, not 0; left out it is no bound"),
        ("--attack pgd --attack pgd", "--attack pgd stands twice"),
        ("--epsilon 0.5 --epsilon 1/2", "--epsilon 0.5 stands twice"),
        ("--norm l2 --norm l2", "--norm l2 stands twice"),
        ("--detector energy --detector energy", "--detector energy stands twice"),
        ("--curve --certify tight", "--certify tight proves a ball, and --curve has none"),
        ("--surrogate cnn --indicators", "--indicators looks at attacks on the model itself"),
    ],
)
def test_what_another_word_leaves_without_effect_is_refused(words: str, said: str) -> None:
    with pytest.raises(BadOption) as error:
        _planned(words)
    assert str(error.value).startswith(said)


def test_two_surrogates_of_one_recipe_are_two() -> None:
    """Their seeds differ."""
    assert _planned("--surrogate cnn --surrogate cnn").surrogates == ("cnn", "cnn")


def test_readings_of_a_steady_model_are_said_to_be_of_no_use(trustml, toys) -> None:
    """The toy answers the same every time; whether a model does is known only once it is there."""
    ended = trustml("bench", *toys, "--eot", "5", "--out", "run")
    assert ended.code == 0
    said = "note: --eot 5 is of no use: this model answers the same every time"
    assert said in " ".join(ended.out.split())
    assert "--eot" not in trustml("bench", *toys, "--out", "other").out


def test_what_is_one_and_the_same_in_other_words_is_refused(trustml) -> None:
    """With defaults spelt out it is the same attack, or the same model."""
    for words, said in (
        ("--attack pgd --attack pgd:steps=40", "--attack pgd and --attack pgd:steps=40 are"),
        ("--model mlp --model mlp:epochs=30", "--model mlp and --model mlp:epochs=30 are"),
    ):
        ended = trustml("bench", *words.split(), "--out", "run")
        assert ended.code == 2
        assert ended.err.startswith(f"Error: {said} the same")
        assert ended.err.count("\n") == 1
        assert not Path("run").exists()


def _documented() -> list[str]:
    """Return the commands of `trustml bench` in the documents, one a line."""
    found = []
    for page in (ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"trustml bench ([^`\n#|;&>)]*)", text)
    return [words for words in found if "…" not in words and "--resume" not in words]


def test_documented_commands_are_heeded_whole() -> None:
    """No page tells to write a word that is refused; those with a placeholder are no commands."""
    heeded = 0
    for words in _documented():
        try:
            _planned(words.strip())
        except BadOption as error:
            pytest.fail(f"trustml bench {words}: {error}")
        except click.UsageError:
            continue
        heeded += 1
    assert heeded > 30


@pytest.mark.parametrize("exam", EXAMS)
def test_the_command_of_a_run_is_heeded_whole(exam: str) -> None:
    """Also of a plan that knows more than its exam does, as an audit's sections do."""
    plan = replace(
        _planned(EXAMS[exam]), batch_size=0, controls_of="cnn", eot=3, budget=9, false_alarms=0.1,
        limit=7, terms="answers=labels",
    )  # fmt: skip
    again = _planned(command(plan).removeprefix("trustml bench ").replace("\\\n", " "))
    assert (again.batch_size, again.limit) == (0, 7)
    assert getattr(again, exam) == getattr(plan, exam)
    assert again.eot == (3 if exam == "attacks" else 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audit mlp --resume run", "--resume continues a run as it was begun; leave MODEL out"),
        ("audit --resume run --depth quick", "leave --depth out"),
        ("audit --resume run --mean 0.5", "leave --mean out"),
        ("show run --picture a.png --json", "--json is of no use beside --picture"),
        ("report run --fail-on low", "--fail-on is of no use with --to page"),
        ("report run --fail-on low --to tests", "--fail-on is of no use with --to tests"),
        ("runs . --to csv --out a.csv --json", "--json is of no use with --to csv"),
        ("explain mlp --data moons --input 3 --out a.png", "inputs of moons are no pictures"),
        ("bench --resume run --attack pgd", "leave --attack out, or start another run"),
    ],
)
def test_other_commands_ignore_no_word_either(trustml, words: str, said: str) -> None:
    ended = trustml(*words.split())
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1
