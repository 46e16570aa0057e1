"""Loads the plugin files that are to be tested, and keeps the tests off the network."""

import os
import socket
from typing import Any

import pytest

from trustml.registry import load_file


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugins of `TRUSTML_PLUGINS`, files with what PATH has between folders.

    A variable, because pytest reads options before it finds the conftest of a `--pyargs` package.
    """
    config.addinivalue_line("markers", "slow: takes long; leave it out with -m 'not slow'")
    for path in filter(None, os.environ.get("TRUSTML_PLUGINS", "").split(os.pathsep)):
        load_file(path)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections: what is tested is the plugin, not a server."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the conformance tests do not use the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
