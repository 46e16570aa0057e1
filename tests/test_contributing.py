"""What CONTRIBUTING.md shows works as it stands, and the conformance tests tell bad plugins."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import trustml.registry

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"
# Wherever the trustml under test lies, installed or not; a program elsewhere must find the same.
PACKAGE_HOME = Path(trustml.registry.__file__).parent.parent


def shown_files() -> Mapping[str, str]:
    """Return path → text of every fenced block that names its file."""
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    return dict(blocks)


def run(
    folder: Path, *words: str, path: tuple[Path, ...] = (), plugins: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a Python module in `folder`, with `path` and the trustml under test to import from."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (*path, PACKAGE_HOME))),
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "TRUSTML_PLUGINS": os.pathsep.join(plugins),
    }
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with all the page's files."""
    for name, text in shown_files().items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return tmp_path


def test_the_attack_has_15_lines_at_most() -> None:
    """Counted as a reader does: lines with code on them, without the file's docstring."""
    lines = [line for line in shown_files()["climb.py"].splitlines()[1:] if line.strip()]
    assert len(lines) <= 15


def test_the_attack_runs_from_its_file(files: Path) -> None:
    """The page's command with fewer samples: exit code 0, and the attack's record is done."""
    words = "trustml bench --plugin climb.py --attack climb:steps=20 --model logistic --limit 40"
    done = run(files, *words.split(), "--epsilon", "0.1", "--json", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert re.search(r'"plugin": ?"climb"[^\n]*"status": ?"done"', done.stdout), done.stdout


def test_the_files_conform(files: Path) -> None:
    """Both single files at once: tests are run, and none fails."""
    words = ("pytest", "-q", "--pyargs", "trustml.conformance", "-k", "climb or doubt")
    done = run(files, *words, plugins=("climb.py", "doubt.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_the_package_is_found_and_conforms(files: Path) -> None:
    """Built as pip builds it, unpacked, found by its entry point, listed and tested."""
    package, site = files / "acme-attacks", files / "site"
    built = run(package, "hatchling", "build", "-t", "wheel")
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = package.glob("dist/*.whl")
    zipfile.ZipFile(wheel).extractall(site)

    listed = run(files, "trustml", "list", "attack", path=(site,))
    assert listed.returncode == 0, listed.stderr
    assert "acme/shove" in listed.stdout

    words = ("pytest", "-q", "--pyargs", "trustml.conformance", "-k", "acme")
    tested = run(files, *words, path=(site,))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"\d+ passed", tested.stdout)


def test_a_broken_package_is_named_and_stops_nothing(tmp_path: Path) -> None:
    """A guest that raises when imported: its name and reason appear, the rest is listed."""
    facts = tmp_path / "rotten-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: rotten\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[trustml]\nrotten = rotten\n")
    (tmp_path / "rotten.py").write_text("raise ValueError('gone off')\n")
    listed = run(tmp_path, "trustml", "list", "attack", path=(tmp_path,))
    assert listed.returncode == 0, listed.stderr
    assert "pgd" in listed.stdout
    assert "rotten" in listed.stderr
    assert "gone off" in listed.stderr
    tested = run(
        tmp_path, "pytest", "-q", "--pyargs", "trustml.conformance.test_plugins",
        "-k", "guest", path=(tmp_path,),
    )  # fmt: skip
    assert tested.returncode == 1
    assert "gone off" in tested.stdout


SINS = '''"""Attacks that each break one rule."""
import torch
from torch import nn
from trustml.contracts import Access
from trustml.registry import attack

def sin(needs=Access.GRADIENTS):
    return attack(source="A sin", needs=needs, norms=("linf",), targeted=False)

def climbed(model, x, y, threat, gradient=None):
    point = x.detach().clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(point), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, point)
    return gradient

def moved(x, threat, direction):
    return (x + threat.budget(x) * direction).to(x.dtype)

@sin()
def sin_none(model, x, y, threat, /, *, random):
    """Break no rule."""
    return threat.project(moved(x, threat, climbed(model, x, y, threat).sign()), x)

@sin()
def sin_outside(model, x, y, threat, /, *, random):
    """Trust rounding instead of the projection."""
    return moved(x, threat, climbed(model, x, y, threat).sign()).clamp(threat.low, threat.high)

@sin()
def sin_type(model, x, y, threat, /, *, random):
    """Return float64."""
    return threat.project(moved(x, threat, 1.0), x).double()

@sin()
def sin_nan(model, x, y, threat, /, *, random):
    """Divide by epsilon."""
    size = threat.budget(x)
    return threat.project((x + size * (size / size)).to(x.dtype), x)

@sin()
def sin_neighbours(model, x, y, threat, /, *, random):
    """Scale by the largest gradient of the whole batch."""
    gradient = climbed(model, x, y, threat)
    return threat.project(moved(x, threat, gradient / gradient.abs().max()), x)

@sin()
def sin_dice(model, x, y, threat, /, *, random):
    """Draw from torch's global random numbers."""
    return threat.project(moved(x, threat, 2 * torch.rand_like(x) - 1), x)

@sin(needs=Access.LOGITS)
def sin_access(model, x, y, threat, /, *, random):
    """Take a gradient with access to logits alone."""
    return threat.project(moved(x, threat, climbed(model, x, y, threat).sign()), x)

@sin()
def sin_inplace(model, x, y, threat, /, *, random):
    """Write on the inputs."""
    wanted = threat.project(moved(x, threat, 1.0), x)
    return x.copy_(wanted)

@sin()
def sin_weights(model, x, y, threat, /, *, random):
    """Leave gradients on the weights."""
    point = x.detach().clone().requires_grad_()
    nn.functional.cross_entropy(model(point), y, reduction="sum").backward()
    return threat.project(moved(x, threat, point.grad.sign()), x)

@sin()
def sin_mode(model, x, y, threat, /, *, random):
    """Put the model into evaluation mode for good."""
    if isinstance(model, nn.Module):
        model.eval()
    return x

@sin()
def sin_hook(model, x, y, threat, /, *, random):
    """Leave a hook behind."""
    if isinstance(model, nn.Module):
        model.register_forward_hook(lambda *_: None)
    return x
'''

# Each sin and the test that must tell it; a sin may fail others too.
TELLING = {
    "sin_outside": "test_candidates_are_allowed",
    "sin_type": "test_candidates_are_allowed",
    "sin_nan": "test_no_budget_is_no_change",
    "sin_neighbours": "test_a_sample_never_depends_on_its_batch",
    "sin_dice": "test_a_sample_never_depends_on_its_batch",
    "sin_access": "test_candidates_are_allowed",
    "sin_inplace": "test_everything_is_left_as_it_was",
    "sin_weights": "test_everything_is_left_as_it_was",
    "sin_mode": "test_everything_is_left_as_it_was",
    "sin_hook": "test_everything_is_left_as_it_was",
}


def test_the_conformance_tests_tell_every_sin(tmp_path: Path) -> None:
    """And acquit the attack that breaks no rule, so that it is the sin that fails."""
    (tmp_path / "sins.py").write_text(SINS, "utf-8")
    words = ("pytest", "-q", "--tb=no", "-rf", "--pyargs", "trustml.conformance.test_attacks")
    done = run(tmp_path, *words, "-k", "sin_", plugins=("sins.py",))
    failed = re.findall(r"^FAILED \S*::(\w+)\[(?:\w+-)?(sin_\w+)-linf\]", done.stdout, re.M)
    assert {(test, sin) for sin, test in TELLING.items()} <= set(failed), done.stdout
    assert "sin_none" not in {sin for _, sin in failed}, done.stdout
