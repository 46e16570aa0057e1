"""How findings are graded and counted: bands, the worse end of the interval, the worst of all."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trustml.audit.findings import (
    SEVERITIES,
    Finding,
    at_least,
    from_json,
    graded,
    left,
    numbered,
    worst,
)
from trustml.audit.taxonomy import KINDS, names
from trustml.contracts import Score
from trustml.errors import BadInput


def _finding(severity: str, name: str = "x") -> Finding:
    score = Score(0.5, 0.4, 0.6, "higher")
    return Finding(name, "s", "T", severity, "m", score, "c", ("extraction",), "Do.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "severity"),
    [
        (0.0, "critical"), (0.049, "critical"), (0.05, "high"), (0.39, "high"), (0.4, "medium"),
        (0.79, "medium"), (0.8, "low"), (0.98, "low"), (0.99, "passed"), (1.0, "passed"),
    ],
)  # fmt: skip
def test_bands(share: float, severity: str) -> None:
    """The bands are those of garak's reports: 5, 40, 80 and 99 %."""
    assert graded(share) == severity


def test_what_is_left_is_the_worse_end() -> None:
    """Robust accuracy 0.45 of 0.9, at its lower end; a success rate 0.2, at its upper end."""
    assert left(Score(0.5, 0.45, 0.55, "higher"), 0.9) == pytest.approx(0.5)
    assert left(Score(0.1, 0.05, 0.2, "lower")) == pytest.approx(0.8)
    assert left(Score(0.5, 0.4, 0.6, "higher"), 0.0) == 0.0
    assert left(Score(1.0, 0.99, 1.0, "higher"), 0.5) == 1.0


def test_a_section_is_as_good_as_its_worst_finding() -> None:
    """No mean: ten passes do not make up for one that failed."""
    assert worst(["passed"] * 10 + ["high"]) == "high"
    assert worst([]) == "passed"


@given(some.sampled_from(SEVERITIES), some.sampled_from(SEVERITIES))
def test_severities_have_one_order(one: str, other: str) -> None:
    worse = SEVERITIES.index(one) <= SEVERITIES.index(other)
    assert at_least(one, other) == worse  # type: ignore[arg-type]


@given(some.lists(some.sampled_from(SEVERITIES), max_size=9))
def test_ids_begin_with_the_worst_and_keep_the_order(severities: list[str]) -> None:
    found = numbered(_finding(severity, str(i)) for i, severity in enumerate(severities))
    assert [f.id for f in found] == [f"F-{n:03}" for n in range(1, len(found) + 1)]
    order = [(SEVERITIES.index(f.severity), int(f.name)) for f in found]
    assert order == sorted(order)


def test_a_finding_comes_back_from_json() -> None:
    finding = numbered([_finding("low")])[0]
    assert from_json(finding.to_json()) == finding
    with pytest.raises(BadInput, match="not a finding"):
        from_json({"name": "x"})


def test_every_kind_has_ids_of_the_right_form() -> None:
    """ATLAS: AML.T and four digits, with a sub-technique or not; NIST: NISTAML and three digits."""
    for kind in KINDS.values():
        assert all(re.match(r"AML\.T\d{4}(\.\d{3})? \w", name) for name in kind.atlas)
        assert all(re.match(r"NISTAML\.\d{3} \w", name) for name in kind.nist)
    assert names(("white-box evasion", "physical evasion")).count("NISTAML.022 Evasion") == 1
