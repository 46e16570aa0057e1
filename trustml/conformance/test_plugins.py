"""What every plugin of every kind keeps to: it loads, says what it is, and its options are text."""

import pytest

from trustml.catalogue import ROOMS
from trustml.options import read, write
from trustml.registry import Plugin, all_of, load_guests

PLUGINS = [
    pytest.param(plugin, id=f"{kind}-{plugin.name}") for kind in ROOMS for plugin in all_of(kind)
]
on_every_plugin = pytest.mark.parametrize("plugin", PLUGINS)


def test_every_installed_guest_package_loads() -> None:
    """A package that does not load is left out of all other tests; here it is named."""
    broken = {package: reason for package, reason in load_guests().items() if reason}
    assert not broken, f"guest packages that do not load: {broken}"


@on_every_plugin
def test_a_plugin_says_what_it_is(plugin: Plugin) -> None:
    """`trustml list` prints name, one line and source in one row."""
    assert plugin.source.strip()
    assert plugin.summary.strip()
    assert "\n" not in plugin.source, "the source is one line"


@on_every_plugin
def test_options_read_back_as_they_are_written(plugin: Plugin) -> None:
    """So that a record's options, and a command copied from a report, mean the same again."""
    for option in plugin.options:
        text = write(option.default)
        again = read(text, option.type, f"{plugin.name}:{option.name}")
        same = again == option.default and type(again) is type(option.default)
        assert same, f"{option.name}={option.default!r} reads back as {again!r}"
