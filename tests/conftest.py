"""What all tests share: one thread, a fixed seed, a cache of their own, real data if any."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch starts its threads: the tests are small, and processes side by side use the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
# pytest-xdist tells its processes a width; what is printed is to be the same in each.
os.environ.pop("COLUMNS", None)

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep trained models in a folder of this test run; a person's is left alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUSTML_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Give each test the same global random numbers, whichever test ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder TRUSTML_DATA of real data files, or skip."""
    folder = os.environ.get("TRUSTML_DATA", "")
    if not Path(folder, "MNIST", "raw").is_dir():
        pytest.skip("no real data: set TRUSTML_DATA to a folder with MNIST/raw")
    return Path(folder)
