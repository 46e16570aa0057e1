"""Names → plugins: built in, of installed guest packages, and of plugin files; broken ones too."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from trustml import registry
from trustml.contracts import Access, Training
from trustml.errors import BadInput, UnknownName, UsageError

ATTACK = '''
from trustml.contracts import Access
from trustml.registry import attack

@attack(source="Nobody 2026", needs=Access.LABELS, norms=("linf",))
def {name}(model, x, y, threat, /, *, random, width: int = 3):
    """Return x as it is."""
    return x
'''
Install = Callable[..., None]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no test's plugins, guests or modules outlive it; built-in ones stay."""
    monkeypatch.setattr(registry, "_guest_state", dict(registry._guest_state))
    monkeypatch.setattr(registry, "_files", list(registry._files))
    before, modules = registry._plugins_of_guests(), set(sys.modules)
    yield
    for key in registry._plugins_of_guests() - before:
        del registry._plugins[key]
    for name in set(sys.modules) - modules:
        if not name.startswith("trustml."):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts a package with an entry point on sys.path, as pip would."""
    home = tmp_path / "site"
    home.mkdir()
    monkeypatch.syspath_prepend(home)

    def installed(name: str, code: str, point: str = "") -> None:
        module = name.replace("-", "_")
        (home / f"{module}.py").write_text(textwrap.dedent(code))
        facts = home / f"{module}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[trustml]\n{point or name} = {module}\n")

    return installed


def _plugin(folder: Path, code: str, name: str = "mine.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(textwrap.dedent(code))
    return str(folder / name)


def test_a_built_in_plugin_is_found_by_its_file_name() -> None:
    pgd = registry.get("attack", "pgd")
    assert (pgd.kind, pgd.name, pgd.function.__module__) == ("attack", "pgd", "trustml.attacks.pgd")
    assert pgd.facts["needs"] == Access.GRADIENTS
    assert pgd.options[0].name == "steps"
    assert registry.get("attack", "pgd") is pgd
    assert {plugin.name for plugin in registry.all_of("attack")} == set(registry.names("attack"))


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("attack", "noice", "no attack named 'noice'; did you mean 'noise'.* Known: .*pgd"),
        ("model", "MLP", "no model named 'MLP'"),
        ("attack", "", "no attack named ''"),
        ("attack", "_pursuit", "no attack named '_pursuit'"),
        ("attack", "../models/mlp", "no plugin package named '..'"),
        ("atack", "pgd", "no kind of plugin named 'atack'; did you mean 'attack'"),
        ("attack", "guest/thing", "no plugin package named 'guest'.* Known: none"),
    ],
)
def test_an_unknown_name_gives_the_nearest(kind: str, name: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        registry.get(kind, name)


def test_a_guest_package_is_named_after_its_entry_point(install: Install) -> None:
    install("my-guest", ATTACK.format(name="still"))
    plugin = registry.get("attack", "my-guest/still")
    assert plugin.name == "my-guest/still"
    assert plugin.options[0].default == 3
    assert "my-guest/still" in registry.names("attack")
    assert registry.names("attack")[-1] == "my-guest/still", "guests stand last"
    assert [guest.name for guest in registry.guests()] == ["my-guest/still"]
    assert registry.guests("model") == []
    assert registry.load_guests() == {}
    with pytest.raises(UnknownName, match="did you mean 'my-guest/still'"):
        registry.get("attack", "my-guest/stil")


def test_a_guest_that_is_imported_elsewhere_first_has_the_same_name(install: Install) -> None:
    """By a person's own script, or by another guest that builds on it."""
    install("lower", ATTACK.format(name="still"))
    install("alone", ATTACK.format(name="still"))
    install("upper", "import lower\n" + ATTACK.format(name="still"))
    __import__("alone")
    registry.get("attack", "upper/still")
    assert {p.name for p in registry.guests("attack")} == {
        "lower/still", "alone/still", "upper/still",
    }  # fmt: skip


def test_a_guest_does_not_take_the_built_in_plugins_along(install: Install) -> None:
    """A guest may be the first to import a built-in attack: that keeps its own name."""
    registry._plugins.pop(("attack", "fgsm"), None)
    known = sys.modules.pop("trustml.attacks.fgsm", None)
    try:
        install("guest", "import trustml.attacks.fgsm\n" + ATTACK.format(name="still"))
        registry.load_guests()
        assert registry.get("attack", "fgsm").name == "fgsm"
        assert ("attack", "guest/fgsm") not in registry._plugins
    finally:
        if known:
            sys.modules["trustml.attacks.fgsm"] = known


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (ATTACK.format(name="half") + "\nraise ValueError('no')", "ValueError: no"),
        (ATTACK.format(name="odd").replace('"linf"', '"linv"'), "did you mean 'linf'"),
        (ATTACK.format(name="odd").replace("Nobody 2026", " "), "needs a source"),
        (ATTACK.format(name="odd").replace(" = 3", ""), "option 'width' needs a default"),
    ],
)
def test_a_broken_guest_is_named_and_stops_nothing(
    install: Install, code: str, reason: str
) -> None:
    install("broken", code)
    install("whole", ATTACK.format(name="still"))
    assert registry.get("attack", "whole/still")
    failures = registry.load_guests()
    assert list(failures) == ["broken"]
    assert reason in failures["broken"]
    assert [plugin.name for plugin in registry.guests()] == ["whole/still"], "no half of a guest"
    assert registry.get("attack", "pgd")
    with pytest.raises(UsageError, match="plugin package 'broken' does not load: "):
        registry.get("attack", "broken/half")


def test_a_guest_that_fails_takes_none_with_it(install: Install) -> None:
    """The one that it imported was well and stays."""
    install("lower", ATTACK.format(name="still"))
    install("broken", "import lower\nraise ValueError")
    assert list(registry.load_guests()) == ["broken"]
    assert [plugin.name for plugin in registry.guests()] == ["lower/still"]


def test_two_packages_may_share_an_entry_point_but_not_a_plugin(install: Install) -> None:
    install("one", ATTACK.format(name="still"), point="both")
    install("two", ATTACK.format(name="moving"), point="both")
    assert registry.load_guests() == {}
    assert {"both/still", "both/moving"} <= set(registry.names("attack"))
    install("three", ATTACK.format(name="still"), point="both")
    assert "two attacks are named 'both/still'" in registry.load_guests()["both"]


def test_a_plugin_file_is_called_by_its_function(tmp_path: Path) -> None:
    path = _plugin(tmp_path, ATTACK.format(name="still"))
    registry.load_file(path)
    assert registry.get("attack", "still").summary == "Return x as it is."
    registry.load_file(path)  # twice is once
    assert [plugin.name for plugin in registry.guests()] == ["still"]


def test_two_plugin_files_of_one_name_are_two(tmp_path: Path) -> None:
    registry.load_file(_plugin(tmp_path / "a", ATTACK.format(name="one")))
    registry.load_file(_plugin(tmp_path / "b", ATTACK.format(name="two")))
    assert {"one", "two"} <= set(registry.names("attack"))
    with pytest.raises(BadInput, match="two attacks are named 'one'"):
        registry.load_file(_plugin(tmp_path / "c", ATTACK.format(name="one")))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "it holds no decorated function"),
        ("from trustml.attacks.pgd import pgd", "it holds no decorated function"),
        ("def f(:", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import sys; sys.exit()", "SystemExit"),
        (ATTACK.format(name="half") + "\n1 / 0", "ZeroDivisionError"),
        (ATTACK.format(name="pgd"), "two attacks are named 'pgd'.*in trustml.attacks.pgd"),
        (ATTACK.format(name="nothing").replace('"""Return x as it is."""', ""), "a docstring"),
    ],
)
def test_a_plugin_file_that_is_none_is_refused_each_time(
    tmp_path: Path, code: str, said: str
) -> None:
    """Also the second time: what failed must not count as loaded. Nothing of it stays."""
    path = _plugin(tmp_path, code)
    for _ in range(2):
        with pytest.raises(BadInput, match=f"--plugin {path}: .*{said}"):
            registry.load_file(path)
    assert registry.guests() == []
    assert registry.get("attack", "pgd").function.__module__ == "trustml.attacks.pgd"


def test_a_built_in_name_is_taken_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a file's `pgd` would stand in for trustml's own wherever nothing had asked for that."""
    plugins = {key: value for key, value in registry._plugins.items() if key != ("attack", "pgd")}
    monkeypatch.setattr(registry, "_plugins", plugins)
    with pytest.raises(BadInput, match=r"two attacks are named 'pgd'.*in trustml\.attacks\.pgd"):
        registry.load_file(_plugin(tmp_path, ATTACK.format(name="pgd")))


def test_a_path_that_is_no_python_file_is_refused(tmp_path: Path) -> None:
    for path in ("", str(tmp_path), str(tmp_path / "absent.py")):
        with pytest.raises(BadInput, match="no such file"):
            registry.load_file(path)
    with pytest.raises(BadInput, match="not a Python file"):
        registry.load_file(_plugin(tmp_path, "hello", "notes.txt"))


def test_a_name_may_be_given_anew_in_its_own_module_only() -> None:
    """A notebook cell is run again and again; another module's function is somebody else's."""

    def written() -> Any:
        def still(model: Any, x: Tensor, y: Any, threat: Any, /, *, random: Any) -> Tensor:
            """Return x."""
            return x

        return still

    mark = registry.attack(source="Nobody", needs=Access.LABELS, norms=("l2",))
    mark(written())
    again = mark(written())
    assert registry.get("attack", "still").function is again
    elsewhere = written()
    elsewhere.__module__ = "elsewhere"
    with pytest.raises(UsageError, match="two attacks are named 'still'"):
        mark(elsewhere)


def test_each_kind_has_its_decorator_and_facts() -> None:
    """One plugin of each kind, with what its decorator declares."""

    def first(*given: Any) -> Any:
        """Return nothing."""

    registry.attribution(source="a", influence=True)(first)
    registry.detector(source="a", reads=("logits",))(first)
    registry.stealer(source="a", needs=Access.TOP1)(first)
    limits = {"beaten_by": "b", "does_not_stop": "c"}
    registry.safeguard(source="a", stage="serving", **limits)(first)
    registry.poison(source="a")(first)
    registry.data(source="a")(first)
    registry.model(source="a", training=Training(epochs=7))(first)
    facts = {
        kind: registry.get(kind, "first").facts
        for kind in ("attribution", "detector", "stealer", "safeguard", "poison", "data")
    }
    assert facts["attribution"] == {"needs": Access.GRADIENTS, "influence": True}
    assert facts["detector"] == {"reads": ("logits",), "front_end": ""}
    assert facts["stealer"] == {"needs": Access.TOP1}
    assert facts["safeguard"] == {"stage": "serving", **limits}
    assert facts["poison"] == facts["data"] == {}
    fitted = {option.name: option.default for option in registry.get("model", "first").options}
    assert fitted["epochs"] == 7
    assert fitted["weights"] is None


def test_a_model_may_not_rename_how_it_is_fitted() -> None:
    def first(domain: Any, /, *, epochs: int = 3) -> Any:
        """Return nothing."""

    with pytest.raises(UsageError, match="options of its own named epochs"):
        registry.model(source="a")(first)
