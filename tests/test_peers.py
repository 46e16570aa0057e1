"""What other libraries' attacks are called here: every name stands for something that runs."""

import importlib
import inspect
import shlex
import warnings
from pathlib import Path

import pytest

from trustml.cli.bench import bench
from trustml.errors import UnknownName
from trustml.peers import Likeness, libraries, like
from trustml.recipes import choose

EVERY = [entry for entries in libraries().values() for entry in entries]
PAGE = Path(__file__).parent.parent / "docs" / "migration.md"
# Where each library keeps its public attacks.
PUBLIC = {
    "foolbox": ("foolbox.attacks",),
    "torchattacks": ("torchattacks",),
    "adv_lib": ("adv_lib.attacks",),
    "art": (
        "art.attacks.evasion", "art.attacks.poisoning", "art.attacks.extraction",
        "art.attacks.inference.attribute_inference", "art.attacks.inference.membership_inference",
        "art.attacks.inference.model_inversion", "art.attacks.inference.reconstruction",
    ),
}  # fmt: skip


def _name(entry: Likeness) -> str:
    return f"{entry.library}.{entry.name}"


@pytest.mark.parametrize("entry", EVERY, ids=_name)
def test_every_name_is_one_that_runs_or_has_a_reason(entry: Likeness) -> None:
    """Name, options and norm are read as `bench` reads them, and its whole command line."""
    assert bool(entry.use) != bool(entry.none)
    if entry.use:
        choice = choose(entry.kind, entry.use)
        if entry.norm:
            assert entry.norm in choice.plugin.facts["norms"]
        words = shlex.split(entry.command)
        assert words[:2] == ["trustml", "bench"]
        with bench.make_context("bench", words[2:]) as context:
            assert context.params[f"{entry.kind}s"][0] == entry.use
    for part in filter(None, entry.near.split(", ")):
        name, _, of = part.partition(" ")
        if not name.startswith("--") and not name.endswith(".md"):
            kinds = [kind for kind in ("route", "poison", "stealer") if kind in of]
            choose(kinds[0] if kinds else "attack", name)


@pytest.mark.parametrize("library", PUBLIC)
def test_no_public_attack_of_a_peer_is_missing(library: str) -> None:
    """Against the packages themselves, where they are installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        pytest.importorskip(library, reason=f"{library} is not installed")
        modules = [importlib.import_module(path) for path in PUBLIC[library]]
    known = {entry.name for entry in libraries()[library]}
    for module in modules:
        public = {
            name for name, value in vars(module).items()
            if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
        }  # fmt: skip
        assert public
        assert public <= known, f"{module.__name__}: {sorted(public - known)}"


@pytest.mark.parametrize(
    "text",
    ["foolbox.LinfPGD", "foolbox.attacks.LinfPGD", "fb.attacks.LinfPGD", "LinfPGD", "linf_pgd"],
)
def test_a_name_is_found_however_it_is_written(text: str) -> None:
    (found,) = like(text)
    assert (_name(found), found.use, found.norm) == ("foolbox.LinfPGD", "pgd", "linf")
    assert found.command == "trustml bench --attack pgd --norm linf"


def test_a_bare_name_is_looked_for_in_every_library() -> None:
    assert [entry.library for entry in like("DeepFool")] == ["torchattacks", "art"]
    assert {entry.library for entry in like("foolbox")} == {"foolbox"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("foolbox.LinfPDG", "no attack of foolbox named 'LinfPDG'; did you mean 'LinfPGD'"),
        ("LinfPDG", "All: trustml list attacks --like LIBRARY"),
        ("torchatacks.PGD", "no library named 'torchatacks'; did you mean 'torchattacks'"),
        ("art.", "no attack of art named ''"),
        ("", "no attack of foolbox, torchattacks, art, adv_lib, autoattack, papers named ''"),
    ],
)
def test_a_miss_names_the_nearest(text: str, said: str) -> None:
    with pytest.raises(UnknownName) as error:
        like(text)
    assert said in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("entry", EVERY, ids=_name)
def test_the_page_says_the_same(entry: Likeness) -> None:
    """docs/migration.md has this row in the table of its library; write it anew from peers.toml."""
    there = f" ({entry.kind})" if entry.kind != "attack" else ""
    norm = f", {entry.norm}" if entry.norm else ""
    words = f" `{entry.words}`" if entry.words else ""
    ours = f"`{entry.use}`{there}{norm}{words}" if entry.use else "–"
    row = f"| {entry.name} | {ours} | {entry.remark} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), row
