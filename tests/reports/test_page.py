"""A run's page: whole in itself, safe, readable on a phone, and true to the records."""

import base64
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from rich.table import Table

from trustml.benchmarks import harness
from trustml.benchmarks.command import command, commands, word_of
from trustml.benchmarks.exams import cases, checked
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import load_data
from trustml.cli.bench import bench
from trustml.cli.running import plan_of
from trustml.errors import BadInput
from trustml.reports import markup
from trustml.reports.page import write_page
from trustml.reports.pictures import _caption
from trustml.reports.tables import percent

_NOT_OF_THE_PLAN = ("out", "resume", "as_json", "executor", "workers")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    plan = Plan(("logistic:epochs=2",), attacks=("fgsm", "square:queries=5"), limit=40)
    list(harness.start(plan, folder))
    write_page(folder)
    return folder


class _Reader(HTMLParser):
    """Collects what a page refers to, its images, its headings and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.anchors: set[str] = set()
        self.images: list[dict[str, str]] = []
        self.headings: list[int] = []
        self.text = ""

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in given}
        self.asked += [found[name] for name in ("src", "href") if name in found]
        self.anchors |= {found["id"]} if "id" in found else set()
        if tag == "img":
            self.images.append(found)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    return reader


def test_a_page_asks_for_nothing_from_elsewhere(run: Path) -> None:
    """Each source is inside the page, and each link leads to an anchor that is in it."""
    page = _read((run / "report.html").read_text(encoding="utf-8"))
    assert page.images
    assert all(asked.startswith(("data:image/png;base64,", "#")) for asked in page.asked)
    assert {asked[1:] for asked in page.asked if asked.startswith("#")} <= page.anchors


def test_pictures_are_whole_and_told_in_words(run: Path) -> None:
    """The bytes are those of the files, and the words are the figure's own titles and axes."""
    page = _read((run / "report.html").read_text(encoding="utf-8"))
    inside = {base64.b64decode(image["src"].split(",")[1]) for image in page.images}
    assert inside == {path.read_bytes() for path in run.glob("*.png")}
    said = " ".join(image["alt"] for image in page.images)
    assert "right answers that remain" in said
    assert "read as" in said


def test_headings_go_down_one_step_at_a_time(run: Path) -> None:
    """So that a screen reader's outline has no gap: one h1, and no level left out."""
    levels = _read((run / "report.html").read_text(encoding="utf-8")).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_tells_what_the_records_say(run: Path) -> None:
    """The worst case is the number to report: it stands in the verdict and in the table."""
    text = _read((run / "report.html").read_text(encoding="utf-8")).text
    worst = harness.finished(run)[-1]
    assert f"{percent(worst.scores['robust accuracy'].value)} remain" in text
    assert worst.weights in text
    assert f"trustml verify {run}" in text
    assert "how easily it is stolen" in text  # not asked for, and said so


def test_what_failed_is_never_a_pass(tmp_path: Path) -> None:
    """LeNet refuses inputs of 8×8, so each case fails: no verdict, and the reason in the page."""
    list(harness.start(Plan(("lenet:epochs=1",), attacks=("fgsm",), limit=8), tmp_path / "run"))
    text = _read(write_page(tmp_path / "run").read_text(encoding="utf-8")).text
    assert "say nothing about the model" in text
    assert "8×8" in text or "8x8" in text or "(1, 8, 8)" in text
    assert "remain" not in text


@pytest.mark.parametrize("curve", [False, True])
def test_pictures_of_several_seeds(tmp_path: Path, curve: bool) -> None:
    """A row over seeds has no samples: the pictures are of a row that has some."""
    attack = ("ddn:steps=5",) if curve else ("fgsm",)
    norms = ("l2",) if curve else ("linf",)
    plan = Plan(
        ("logistic:epochs=2",), attacks=attack, norms=norms, limit=20, seeds=2, curve=curve
    )  # fmt: skip
    list(harness.start(plan, tmp_path / "run"))
    page = write_page(tmp_path / "run").read_text(encoding="utf-8")
    drawn = {path.name for path in (tmp_path / "run").iterdir()}
    assert ("curve.png" if curve else "fooled.png") in drawn
    assert ("strengths.png" in drawn) != curve  # of a whole box nothing remains
    assert "seeds" in page


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run"):
        write_page(tmp_path)


def test_names_are_text_not_markup() -> None:
    """A class, a model or a file may be called anything; the reader sees just that."""
    evil = '<script>alert("x")</script>'
    table = Table(title=evil, caption=evil)
    table.add_column(evil)
    table.add_row(evil)
    page = markup.document(
        evil,
        [
            markup.section(evil, "a", [markup.table(table), markup.paragraph(evil)]),
            markup.picture(b"", evil, evil),
            markup.facts([(evil, evil)]),
            markup.items([evil]),
            markup.verbatim(evil),
            markup.contents([(evil, "a")]),
        ],
    )
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert evil in _read(page).text


def test_numbers_are_marked_and_rows_have_a_head() -> None:
    """The first column names the row; what a terminal aligns to the right is a number."""
    table = Table()
    table.add_column("name")
    table.add_column("value", justify="right")
    table.add_row("a", "1.5")
    assert '<th scope="row">a</th><td class="number">1.5</td>' in markup.table(table)


def test_names_break_where_they_may_and_keep_their_place() -> None:
    """A safeguard stands below its route, set in; the text that is copied is as it was."""
    table = Table(caption="one line\nthat goes on;\nanother")
    table.add_column("name")
    table.add_column("value", justify="right")
    table.add_row("lens_sticker", "1")
    table.add_row("  abstain", "2")
    found = markup.table(table)
    assert ">lens_<wbr>sticker</th>" in found
    assert ">&emsp;abstain</th>" in found
    assert "one line that goes on;\nanother" in found
    page = _read(markup.verbatim("--model mlp:hidden=[1,2],learning_rate=0.1"))
    assert page.text == "--model mlp:hidden=[1,2],learning_rate=0.1"


def test_a_picture_is_no_smaller_than_can_be_read() -> None:
    """Its own width where it is smaller: 1 pixel of a picture of 1 × 1."""
    tiny = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
        "gg=="
    )
    assert 'style="min-width:1px"' in markup.picture(tiny, "said", "caption")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("queries", "by its queries"),
        ("routes-2", "what the safeguard costs"),
        ("mlp-seed0-roc-pgd_linf_0.1", "mlp-seed0: ROC and precision-recall of each detector"),
        ("a-b-heat-maps", "a-b: what speaks for the class"),
        ("something-else", "something else"),
    ],
)
def test_pictures_have_captions_that_say_what_they_show(name: str, said: str) -> None:
    assert said in _caption(name)


def test_what_was_not_asked_for_names_every_exam(run: Path) -> None:
    text = _read((run / "report.html").read_text(encoding="utf-8")).text
    _, _, missing = text.partition("Not asked for")
    for word in ("--corruption", "--detector", "--attribution", "--stealer", "--route",
                 "--inspection"):  # fmt: skip
        assert word in missing
    assert "(--attack)" not in missing


def test_the_command_says_every_field_of_the_plan() -> None:
    """What `bench` calls an option is click's own word, so the printed command is understood."""
    flags = {flag for option in bench.params for flag in (*option.opts, *option.secondary_opts)}
    assert {f"--{word_of(field.name)}" for field in fields(Plan)} <= flags


def test_the_command_makes_the_same_plan() -> None:
    """Read by the command's own parser, its words give the plan's values back."""
    plan = Plan(
        ("mlp:hidden=[64]", "cnn"), attacks=("pgd:steps=3",), epsilons=(0.1,), shard=(1, 3),
        indicators=False, limit=7, norms=("l2",), data="digits:classes=[0,1]",
    )  # fmt: skip
    words = shlex.split(command(plan).replace("\\\n", " "))
    context = bench.make_context("bench", words[2:])
    given = context.params
    for name in ("models", "attacks", "norms", "data", "limit", "indicators"):
        assert given[name] == getattr(plan, name)
    assert given["shard"] == "1/3"
    assert given["epsilons"] == ("0.1",)
    assert command(replace(plan, attacks=())) != command(plan)


def test_the_command_names_the_budget_that_the_data_chose(run: Path) -> None:
    """Elsewhere, or later, the same data may have another usual one: the page says which it was."""
    used = {record.threat["epsilon"] for record in harness.finished(run)}
    text = _read((run / "report.html").read_text(encoding="utf-8")).text
    assert used == {0.1}
    assert "--epsilon 0.1" in text
    assert "--norm linf" in text


def test_norms_with_budgets_of_their_own_have_commands_of_their_own() -> None:
    """One `--epsilon` counts in all norms: the commands' cases together are those of the plan."""
    plan = checked(
        Plan(
            ("logistic",), attacks=("fgsm",), norms=("linf", "l2"), corruptions=("fog",), controls=7
        )
    )
    dataset = load_data(plan.data, None)
    planned = cases(plan, dataset)
    budgets = {"linf": (0.1,), "l2": (0.5,)}
    assert {c.threat["norm"]: c.threat["epsilon"] for c in planned if "norm" in c.threat} == {
        norm: one[0] for norm, one in budgets.items()
    }
    made = []
    for text in commands(plan, budgets):
        words = shlex.split(text.replace("\\\n", " "))
        given = bench.make_context("bench", words[2:]).params
        own = {name: given[name] for name in given if name not in _NOT_OF_THE_PLAN}
        made += [case.name for case in cases(checked(plan_of(own)), dataset)]
    assert len(made) == len(planned)
    assert set(made) == {case.name for case in planned}
    assert len(commands(plan, {"linf": (0.1,), "l2": (0.1,)})) == 1
    assert commands(plan, {}) == [command(plan)]


def test_a_source_tree_has_a_version(run: Path) -> None:
    """That of its pyproject.toml: "not installed" tells nobody what made the numbers."""
    text = _read((run / "report.html").read_text(encoding="utf-8")).text
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"trustml{project['version']}" in text
    assert "not installed" not in text


_PROBE = """
<script>
window.addEventListener("load", () => {
  const images = [...document.images].filter(image => image.naturalWidth > 0).length;
  const links = [...document.querySelectorAll("a")]
    .filter(a => document.getElementById(a.getAttribute("href").slice(1))).length;
  const body = document.querySelector("tbody");
  const before = [...body.rows].map(row => row.cells[2].textContent);
  document.querySelectorAll("thead th button")[2].click();
  const after = [...body.rows].map(row => row.cells[2].textContent);
  const falls = after.every((text, i) => !i || parseFloat(after[i - 1]) >= parseFloat(text));
  const fits = document.documentElement.scrollWidth <= window.innerWidth;
  document.title = `images ${images} links ${links} rows ${before.length === after.length}` +
    ` sorted ${falls} fits ${fits} wide ${window.innerWidth}`;
});
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium, such as Debian's package chromium")
@pytest.mark.parametrize("width", [380, 1280])
def test_a_browser_shows_it_without_a_complaint(run: Path, tmp_path: Path, width: int) -> None:
    """Images load, links lead somewhere, tables sort, nothing is wider than the window."""
    assert BROWSER is not None
    text = (run / "report.html").read_text(encoding="utf-8")
    page = _read(text)
    links = sum(asked.startswith("#") for asked in page.asked)
    # The page forbids strangers' scripts: the probe goes into a copy that does not. The copy lies
    # in a frame, as a headless window is never narrower than 500 pixels.
    open_page = re.sub(r"<meta http-equiv=.*?>", "", text).replace("</body>", _PROBE)
    (tmp_path / "inner.html").write_text(open_page, encoding="utf-8")
    (tmp_path / "probe.html").write_text(
        f'<iframe id="f" src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>onload = () => setTimeout(() => { document.title = "
        "document.getElementById('f').contentDocument.title; }, 300);</script>"
    )
    shown = _browse(tmp_path / "probe.html", "--allow-file-access-from-files")
    title = re.search("<title>(.*?)</title>", shown.stdout)
    assert title is not None
    assert title.group(1) == (
        f"images {len(page.images)} links {links} rows true sorted true fits true wide {width}"
    )
    quiet = _browse(run / "report.html")
    assert "CONSOLE" not in quiet.stderr
    assert "Refused" not in quiet.stderr


def _browse(file: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    assert BROWSER is not None
    words = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--virtual-time-budget=5000", "--window-size=1400,1000", *more, "--dump-dom",
        file.as_uri(),
    ]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
