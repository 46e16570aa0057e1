"""The page of an audit in a browser: whole, quiet, no wider than the window, labels as text."""

import json
import re
from html import escape
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.reports.test_page import BROWSER, _browse, _read
from trustml.audit import agenda
from trustml.audit.physical import PHYSICAL
from trustml.audit.robustness import ROBUSTNESS
from trustml.audit.sections import Subject
from trustml.cli.main import cli
from trustml.data.digits import digits

EVIL = "<img src=x onerror=alert(1)><script>alert(2)"
# Before anything else of the page: what would be said if a script of the label's ran.
_WATCH = """<script>
window.ran = 0;
window.alert = () => { window.ran += 1; };
</script><meta charset"""
_READ_OUT = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const text = [...document.querySelectorAll("dd, td, th, li, p, h3")]
    .filter(part => part.textContent.includes(EVIL)).length;
  const made = document.querySelectorAll("img[src=x], img[onerror]").length;
  document.title = `shown ${text > 0} tags ${made} ran ${window.ran}`;
}, 200));
</script></body>"""
_PROBE = """
<script>
window.addEventListener("load", () => {
  const images = [...document.images].filter(image => image.naturalWidth > 0).length;
  const links = [...document.querySelectorAll("a")]
    .filter(a => document.getElementById(a.getAttribute("href").slice(1))).length;
  const fits = document.documentElement.scrollWidth <= window.innerWidth;
  document.title = `images ${images} of ${document.images.length} links ${links} of ` +
    `${document.querySelectorAll("a").length} fits ${fits} wide ${window.innerWidth}`;
});
</script></body>"""


def _pictures(folder: Path) -> Path:
    """Write the digits 0 and 1 as PNG files, the class of the ones under a name that is markup."""
    split = digits(folder=None, classes=(0, 1)).train
    for number, (x, y) in enumerate(zip(split.x[:80], split.y[:80], strict=True)):
        home = folder / ("naught", EVIL)[int(y)]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[0] * 255).byte().numpy()).save(home / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small audit of pictures whose label is markup."""
    room = tmp_path_factory.mktemp("page")
    data = f"folder:path={_pictures(room / 'pictures')},size=8,channels=1"
    words = ["audit", "logistic:epochs=3", "--data", data, "--depth", "quick"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agenda, "SECTIONS", (ROBUSTNESS, PHYSICAL))
        patch.setattr(Subject, "by_depth", lambda subject, quick, *rest: (
            max(6, quick // 20) if isinstance(quick, int) and quick > 20 else quick))  # fmt: skip
        ended = CliRunner().invoke(cli, [*words, "--out", str(room / "audit"), "--json"])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return room / "audit" / "report.html"


@pytest.mark.slow
def test_a_label_is_text_on_the_page(page: Path) -> None:
    """No tag of the label's is in the page; one script is ours."""
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium, such as Debian's package chromium")
@pytest.mark.parametrize("escaped", [True, False])
def test_a_browser_reads_the_label_and_runs_nothing(
    page: Path, tmp_path: Path, escaped: bool
) -> None:
    """The label's characters are on the screen, and nothing of it is an element or a script.

    The page's own policy, which would stop scripts anyway, is taken away first. Where the label is
    put into the page as it is, both run: so the test can see them.
    """
    text = re.sub(r"<meta http-equiv=.*?>", "", page.read_text(encoding="utf-8"))
    assert escape(EVIL) in text
    probe = _READ_OUT.replace("EVIL", f"{json.dumps(EVIL[:20])} + {json.dumps(EVIL[20:])}")
    probe = probe.replace("<script>alert", "<scr\\u0069pt>alert")
    text = text.replace("<meta charset", _WATCH, 1).replace("</body>", probe)
    if not escaped:
        text = text.replace(escape(EVIL), EVIL + "</script>")
    (tmp_path / "open.html").write_text(text, encoding="utf-8")
    title = re.search("<title>(.*?)</title>", _browse(tmp_path / "open.html").stdout)
    assert title is not None
    if escaped:
        assert title.group(1) == "shown true tags 0 ran 0"
    else:
        assert re.fullmatch(r"shown \w+ tags [1-9]\d* ran [1-9]\d*", title.group(1)), title.group(1)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium, such as Debian's package chromium")
@pytest.mark.parametrize("width", [380, 1280])
def test_a_browser_shows_an_audit_without_a_complaint(
    page: Path, tmp_path: Path, width: int
) -> None:
    """Images load, links lead somewhere, nothing is wider than the window, the console is quiet."""
    text = page.read_text(encoding="utf-8")
    images, links = len(_read(text).images), text.count("<a ")
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
        f"images {images} of {images} links {links} of {links} fits true wide {width}"
    )
    quiet = _browse(page)
    assert "CONSOLE" not in quiet.stderr
    assert "Refused" not in quiet.stderr
