"""A regression on the digits, in a file and behind a server, and a depth below quick."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests.targets.servers import StandIn
from trustml.audit.sections import DEPTHS, Subject
from trustml.contracts import Dataset, Domain, Target
from trustml.data.digits import digits
from trustml.deployment import opened
from trustml.recipes import read_recipe
from trustml.targets import _http


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The embedded digits."""
    return digits(folder=None)


@pytest.fixture(scope="session")
def fitted(data: Dataset) -> LogisticRegression:
    """A regression that anybody could have trained."""
    model = LogisticRegression(C=0.1, max_iter=200)
    return model.fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())


@pytest.fixture
def served(fitted: LogisticRegression, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The regression behind a server that answers probabilities."""
    monkeypatch.setattr(_http, "_FIRST_WAIT", 0.0025)
    stand_in = StandIn(
        lambda x: torch.from_numpy(fitted.predict_proba(x.flatten(1).numpy())).float(), shape=[64]
    )
    yield stand_in
    stand_in.stop()


@pytest.fixture
def open_target() -> Callable[[str], Target]:
    """Return a function that opens the target of a text, for the digits."""

    def opens(text: str) -> Target:
        recipe = read_recipe(text)
        return opened(recipe.model.plugin, recipe.own, Domain((1, 8, 8), 10))

    return opens


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the servers' environments."""
    kept = os.environ.get("TRUSTML_SERVER_VENVS")
    return Path(kept) if kept else tmp_path_factory.mktemp("venvs")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A depth below quick: the same sections on a tenth of the samples and queries."""

    def by_depth(subject: Subject, *values: Any) -> Any:
        value = values[DEPTHS.index(subject.depth)]
        return max(6, value // 10) if isinstance(value, int) and value > 20 else value

    monkeypatch.setattr(Subject, "by_depth", by_depth)
