"""`trustml list KIND NAME`: one plugin, whole, with a command that is a command."""

import json
import shlex

import pytest

from tests.cli.test_reach import _planned
from trustml import registry
from trustml.benchmarks.exams import checked
from trustml.catalogue import COUNTERMEASURE, ROOMS, built_in
from trustml.cli.detail import _arguments, _plugin
from trustml.cli.main import cli
from trustml.countering import NAMES


def test_a_plugin_has_all_that_is_needed_to_use_it(trustml) -> None:
    """Source, what it declares, each option with type, default and meaning, an example."""
    ended = trustml("list", "attack", "jsma")
    assert ended.code == 0
    text = " ".join(ended.out.split())
    for said in (
        "jsma (attack) Return the first points", "source: Papernot et al. 2016", "norms: l0",
        "needs: gradients", "steps=100 (whole number): pairs at most.",
        "of=probabilities (probabilities | logits): whose slopes make the map.",
        "example: trustml bench --attack jsma:steps=100 --norm l0",
    ):  # fmt: skip
        assert said in text
    assert "random:" not in text, "what the harness gives is no option"
    assert max(map(len, ended.out.splitlines())) <= 100


def test_json_is_one_object(trustml) -> None:
    found = json.loads(trustml("list", "attacks", "pgd", "--json").out)
    assert {"kind", "name", "summary", "source", "facts", "options", "example"} <= set(found)
    assert found["options"][0] == {
        "name": "steps", "type": "whole number", "default": "40", "meaning": "moves of one walk.",
    }  # fmt: skip
    assert found["facts"]["norms"] == "linf, l2, l1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("attack jsam", "no attack named 'jsam'; did you mean 'jsma'"),
        ("models mpl", "no model named 'mpl'; did you mean 'mlp'"),
        ("defense abstian", "no safeguard named 'abstian'; did you mean 'abstain'"),
        ("countermeasure moniter", "no countermeasure named 'moniter'; did you mean 'monitor'"),
        ("jsma", "that is one of a kind: trustml list attack jsma"),
        ("attack pgd --like fgsm", "NAME is of no use beside --like"),
        ("attack absent/one", "no plugin package named 'absent'"),
    ],
)
def test_a_misspelling_gives_near_names(trustml, words: str, said: str) -> None:
    ended = trustml("list", *words.split())
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_a_plugin_of_a_file_is_shown_as_well(trustml, toys) -> None:
    ended = trustml("list", "attack", "slow", *toys[:2])
    assert "seconds=0.2 (number)" in ended.out
    assert "trustml bench --attack slow:seconds=0.2" in ended.out


@pytest.mark.parametrize("kind", ROOMS)
def test_every_example_is_a_command(kind: str) -> None:
    """What it says to `bench` is checked as a run would be; the others take its words."""
    for plugin in registry.all_of(kind):
        found = _plugin(kind, plugin.name)
        _, command, *words = shlex.split(found.example)
        assert any(plugin.name in word for word in words) or kind == "target"
        if command == "bench":
            checked(_planned(words))
        else:
            cli.commands[command].make_context(command, words)


@pytest.mark.parametrize("kind", ROOMS)
def test_names_and_defaults_are_those_of_the_listing(kind: str) -> None:
    """The listing reads files; this asks the plugins: they must say the same."""
    for entry in built_in(kind):
        found = _plugin(kind, entry.name)
        assert {option.name for option in found.options} == set(entry.options)
        assert (found.summary, found.source) == (entry.summary, entry.source)


def test_every_option_of_an_attack_has_a_meaning() -> None:
    for plugin in registry.all_of("attack"):
        bare = [o.name for o in _plugin("attack", plugin.name).options if not o.meaning]
        assert not bare, f"{plugin.name}: {bare}"


@pytest.mark.parametrize("name", NAMES)
def test_countermeasures_are_shown_as_well(trustml, name: str) -> None:
    ended = trustml("list", "countermeasures", name)
    assert ended.code == 0
    assert ended.out.startswith(f"{name} ({COUNTERMEASURE})\n")
    words = shlex.split(ended.out.splitlines()[-1])[2:]
    assert checked(_planned(words)).countermeasures[0].startswith(name)


def test_what_a_docstring_says_of_its_arguments_is_read_whole() -> None:
    """Lines are joined; a section ends at the next one; a colon inside is the meaning's own."""
    text = (
        "First.\n\nArgs:\n    one: of: two\n        lines.\n    two: b\n\nRaises:\n    Bad: no.\n"
    )
    assert _arguments(text) == {"one": "of: two lines.", "two": "b"}
    assert _arguments("First.") == {}
