"""Loads plugin files named on the command line, and keeps the tests off the network."""

import socket
from typing import Any

import pytest

from trustml.registry import load_file


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer `--plugin FILE`, as trustml itself does."""
    parser.addoption(
        "--plugin", action="append", default=[], help="a plugin file to be tested with the rest"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugins of the files before tests are made from the registry."""
    for path in config.getoption("--plugin", default=[]):
        load_file(path)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections: what is tested is the plugin, not a server."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the conformance tests do not use the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
