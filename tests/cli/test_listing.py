"""`trustml list`: what there is, from the files and from guests."""

from pathlib import Path

import pytest

from trustml.catalogue import ROOMS, built_in_names


def test_all_kinds_are_listed(trustml) -> None:
    ended = trustml("list")
    assert ended.code == 0
    for kind in ROOMS:
        assert f"{kind} ({len(built_in_names(kind))})" in ended.out
        for name in built_in_names(kind):
            assert f"\n  {name}\n" in ended.out


@pytest.mark.parametrize("kind", ["attack", "attacks", "model", "models", "data", "defenses"])
def test_a_kind_may_be_named_in_either_number(trustml, kind: str) -> None:
    ended = trustml("list", kind)
    assert ended.code == 0
    assert ended.out.count("(") >= 1
    assert sum(line[0] != " " for line in ended.out.splitlines()) == 1


def test_an_entry_has_all_that_is_needed_to_use_it(trustml) -> None:
    text = " ".join(trustml("list", "attack").out.split())
    assert "pgd Return the best points" in text
    assert "source: Madry et al. 2018" in text
    assert "needs: gradients, norms: linf l2 l1" in text
    assert "options: steps=40, step=none" in text
    assert "epochs=30" in trustml("list", "model").out, "how a model is fitted is an option too"


def test_a_plugin_file_is_listed_beside_them(trustml, toys) -> None:
    text = " ".join(trustml("list", "attack", *toys[:2]).out.split())
    assert "aim Return the best that there is" in text
    assert "options: only=all, shape=[1,2]" in text
    assert "needs: gradients" in text


def test_a_broken_guest_is_named_beside_the_rest(
    trustml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, so that what reads the listing is not disturbed."""
    from trustml import registry

    facts = tmp_path / "broken-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[trustml]\nbroken = no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_guest_state", dict(registry._guest_state))
    ended = trustml("list", "attack")
    assert ended.code == 0
    assert "  pgd\n" in ended.out
    assert ended.err.startswith("Plugin package 'broken' does not load: ModuleNotFoundError")


@pytest.mark.parametrize("kind", ["atack", ""])
def test_an_unknown_kind_gives_the_nearest(trustml, kind: str) -> None:
    ended = trustml("list", kind)
    assert ended.code == 2
    assert "Known: attack, " in ended.err


@pytest.mark.parametrize("kind", ["countermeasure", "countermeasures"])
def test_countermeasures_are_listed_as_they_can_be_named(trustml, kind: str) -> None:
    """Every name that --countermeasure takes, with the defaults that canonical() spells out."""
    from trustml.countering import NAMES, canonical

    ended = trustml("list", kind)
    assert ended.code == 0
    assert f"countermeasure ({len(NAMES)})" in ended.out
    for name in NAMES:
        assert f"\n  {name}\n" in ended.out
    assert canonical("monitor") == "monitor:threshold=0.95,refuses=true"
    assert "options: threshold=0.95, refuses=true" in ended.out
    assert "trustml list countermeasures" in " ".join(trustml("bench", "--help").out.split())


@pytest.mark.parametrize("kind", ["defense", "defenses", "defence"])
def test_a_defense_is_a_safeguard(trustml, kind: str) -> None:
    """So it is called on the command line of bench."""
    assert trustml("list", kind).out.startswith("safeguard (")
