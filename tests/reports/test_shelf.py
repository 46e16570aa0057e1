"""Many runs: found, chosen, exported and ranked; the truth is what their records say."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

from trustml.benchmarks import harness
from trustml.benchmarks.plan import PLAN, Plan
from trustml.benchmarks.shelf import read_filter, rows, runs
from trustml.cli.main import cli
from trustml.errors import BadInput, UnknownName
from trustml.reports.shelf import exported, leaderboard, leaderboard_page, runs_table


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    for number, l2 in enumerate((1, 4)):
        plan = Plan((f"logistic:l2={l2}",), attacks=("fgsm",), limit=60, indicators=False)
        run = folder / "deep" / f"run{l2}"
        list(harness.start(plan, run))
        os.utime(run / PLAN, (10.0 + number, 10.0 + number))
    other = Plan(("logistic:l2=1",), attacks=("fgsm",), limit=30, indicators=False)
    list(harness.start(other, folder / "other"))
    return folder


def _cells(table: Table) -> list[list[str]]:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_every_run_below_is_found_the_oldest_first(home: Path) -> None:
    found = runs(home)
    assert [run.folder.name for run in found] == ["run1", "run4", "other"]
    assert all(run.planned == len(run.records) == 4 for run in found)


def test_filters_hold_together(home: Path) -> None:
    """Each names a field and a text that one of the run's values must hold."""
    chosen = runs(home, read_filter(["model=l2=4", "status=done", "data=digits"]))
    assert [run.folder.name for run in chosen] == ["run4"]
    assert runs(home, read_filter(["run=deep", "plugin=pgd"])) == []
    for wrong in ("model", "shape=3"):
        with pytest.raises(BadInput, match="FIELD=TEXT"):
            read_filter([wrong])


def test_a_row_is_a_score_of_a_record(home: Path, tmp_path: Path) -> None:
    """What comes back from the file is what the records hold, digit for digit."""
    found = runs(home)
    count = exported(found, "csv", tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert count == len(read) == sum(len(r.scores) for run in found for r in run.records)
    told = {(row["run"], row["case"], row["score"]): float(row["value"]) for row in read}
    assert told == {
        (str(run.folder), record.case, name): score.value
        for run in found for record in run.records for name, score in record.scores.items()
    }  # fmt: skip


def test_parquet_holds_the_same_rows(home: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra: parquet)")
    exported(runs(home), "parquet", tmp_path / "all.parquet")
    assert parquet.read_table(tmp_path / "all.parquet").to_pylist() == list(rows(runs(home)))


def test_models_are_ranked_on_equal_samples_only(home: Path) -> None:
    """Two runs share their samples, the third has fewer of them: a table of its own."""
    tables = leaderboard(runs(home))
    assert sorted(len(_cells(table)) for table in tables) == [1, 2]
    ranked = next(_cells(table) for table in tables if len(_cells(table)) == 2)
    left = [float(row[1]) for row in ranked]
    worst = [run.records[-1].scores["robust accuracy"].value for run in runs(home)[:2]]
    assert left == sorted((round(100 * value, 1) for value in worst), reverse=True)


def test_of_one_models_runs_the_strongest_counts(home: Path, tmp_path: Path) -> None:
    """Noise leaves what FGSM does not: a run of noise only must not lift the model's rank."""
    plan = Plan(("logistic:l2=4",), attacks=("noise",), limit=60, indicators=False)
    weak = list(harness.start(plan, tmp_path / "weak"))[-1].scores["robust accuracy"].value
    strong = runs(home)[1]
    least = strong.records[-1].scores["robust accuracy"].value
    assert least < weak
    (table,) = leaderboard([*runs(tmp_path), strong])
    assert [row[1] for row in _cells(table)] == [f"{100 * least:.1f}"]


def test_the_list_tells_what_remains(home: Path) -> None:
    cells = _cells(runs_table(runs(home)))
    first = runs(home)[0].records[-1].scores["robust accuracy"].value
    assert cells[0][3:] == ["4/4", f"{100 * first:.1f}"]


def test_a_page_needs_a_run_of_attacks(tmp_path: Path, home: Path) -> None:
    assert "<table>" in leaderboard_page(runs(home), home)
    with pytest.raises(BadInput, match="no finished run"):
        leaderboard_page([], tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        runs(tmp_path / "none")
    with pytest.raises(UnknownName, match="csv"):
        exported(runs(home), "cvs", tmp_path / "x")
    with pytest.raises(BadInput, match="nothing to write"):
        exported([], "csv", tmp_path / "x")


def test_the_commands_say_what_they_do(home: Path, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert "run4" in said("runs", str(home))
    assert "No run" in said("runs", str(home), "--where", "model=cnn")
    assert '"score"' in said("runs", str(home), "--json")
    out = str(tmp_path / "board.html")
    assert out in said("leaderboard", str(home), "--out", out)
    assert "leaderboard" in Path(out).read_text(encoding="utf-8")


def test_half_an_export_is_refused(home: Path) -> None:
    """A form without a file, or a file without a form, would do nothing."""
    invoke: Callable[..., object] = CliRunner().invoke
    with pytest.raises(BadInput, match="go together"):
        invoke(cli, ["runs", str(home), "--to", "csv"], catch_exceptions=False)
