"""Every picture of the gallery is drawn, and what its script asserts holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_script_draws_its_picture(script: Path, tmp_path: Path) -> None:
    """Its own assertions are the check; a minute is what one picture may take on two cores."""
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.png")), "no PNG was written"
