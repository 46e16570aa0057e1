"""The catalogue read from the files without running them, against what the files say when run."""

import subprocess
import sys

import pytest

from trustml import registry
from trustml.catalogue import ROOMS, built_in, built_in_names
from trustml.contracts import Access
from trustml.options import read


def _words(fact: object) -> str:
    if isinstance(fact, Access):
        return fact.name.lower()
    if isinstance(fact, tuple):
        return " ".join(fact)
    return str(fact).lower() if isinstance(fact, bool) else str(fact)


@pytest.mark.parametrize("kind", ROOMS)
def test_the_listing_is_what_the_registry_says(kind: str) -> None:
    """The imported plugins are the truth: same names, sources, options, defaults and facts."""
    entries = {entry.name: entry for entry in built_in(kind)}
    assert sorted(entries) == built_in_names(kind)
    for name, entry in entries.items():
        plugin = registry.get(kind, name)
        assert (entry.kind, entry.source, entry.summary) == (kind, plugin.source, plugin.summary)
        assert list(entry.options) == [option.name for option in plugin.options]
        for option in plugin.options:
            assert read(entry.options[option.name], option.type, name) == option.default
        # How a model is fitted is listed among its options.
        facts = {key: _words(fact) for key, fact in plugin.facts.items() if key != "training"}
        assert entry.facts == facts


def test_there_is_something_to_list() -> None:
    """So that the comparison above cannot pass for want of entries."""
    assert {"noise", "fgsm", "pgd"} <= set(built_in_names("attack"))
    assert {"logistic", "mlp", "cnn"} <= set(built_in_names("model"))
    assert {"digits", "mnist", "csv"} <= set(built_in_names("data"))


def test_the_catalogue_does_not_import_torch() -> None:
    """Only a fresh process can tell: here torch is long there."""
    code = (
        "import sys; from trustml.catalogue import ROOMS, built_in; "
        "[built_in(kind) for kind in ROOMS]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
