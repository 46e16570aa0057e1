"""Lines for a person: at most 100 columns, nothing lost, and what is copied is copied whole."""

import shlex
import sys
from pathlib import Path

import pytest

from trustml.cli.lines import say, say_command, say_error
from trustml.recipes import brief, read_recipe

LONG = " ".join(f"word{number}" for number in range(40))


def _terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Let the streams be a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)


@pytest.mark.parametrize(("columns", "widest"), [(60, 60), (250, 100), (10, 40)])
def test_a_line_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, widest: int
) -> None:
    """As wide as it is, from 40 to 100 columns; the words are the same."""
    _terminal(monkeypatch, columns)
    say(LONG, hang=4)
    say_error(LONG)
    out, err = capsys.readouterr()
    assert out.split() == LONG.split()
    assert err.split() == ["Error:", *LONG.split()]
    for text in (out, err):
        lengths = [len(line) for line in text.splitlines()]
        assert widest - 10 < max(lengths) <= widest
    assert all(line.startswith("    word") for line in out.splitlines()[1:])


def test_an_error_is_one_line_where_no_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """A log or a program looks for one line; what is printed for people keeps to 100 columns."""
    say_error(f"{LONG}\n{LONG}")
    say(LONG)
    out, err = capsys.readouterr()
    assert err == f"Error: {LONG} {LONG}\n"
    assert max(map(len, out.splitlines())) <= 100


def test_a_path_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    path = "a-b/" * 40
    say(f"The page lies in {path}")
    assert path in capsys.readouterr().out.split()


def test_a_command_is_copied_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell joins its lines to the same words; an option stays beside its value."""
    words = ["trustml", "bench", "--model", "mlp:hidden=[8]", *["--plugin", "my plugins/a.py"] * 4]
    say_command("attack it", words)
    label, *lines = capsys.readouterr().out.splitlines()
    assert label == "attack it:"
    assert len(lines) == 2
    assert max(map(len, lines)) <= 100
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == words  # as a shell does


def test_the_brief_recipe_is_the_same() -> None:
    """Defaults are left out, whatever was spelt out."""
    for text, short in (
        ("mlp:epochs=30,hidden=[8]", "mlp:hidden=[8]"),
        ("cnn+trades:epsilon=0.3+abstain", "cnn+trades:epsilon=0.3+abstain"),
        ("bnn:posterior=mc_dropout", "bnn:posterior=mc_dropout"),
    ):
        recipe = read_recipe(text)
        assert read_recipe(brief(recipe)) == recipe
        assert len(brief(recipe)) <= len(short)


def test_what_target_prints_is_no_wider(trustml) -> None:
    """Names of attacks fill many lines, which hang below the first."""
    Path("make.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    ended = trustml("target", "make.py:build", "--data", "digits")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(20 * " ") for line in lines), "a list hangs"
    assert "pgd," in ended.out.split()
