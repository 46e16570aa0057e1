"""Known findings that a person has accepted: they are shown, and decide nothing."""

import re
from collections.abc import Iterable, Mapping

from trustml.audit.findings import Finding, Severity, at_least
from trustml.errors import BadInput, UnknownName

# What judges in each section, as findings name it.
RULES: dict[str, tuple[str, ...]] = {
    "robustness": ("worst case", "noise", "masked gradients"),
    "black_box": ("black box",),
    "stealing": ("copied",),
    "doubt": ("calibration", "outsiders", "errors foretold"),
    "physical": ("route",),
    "backdoor": ("backdoor",),
    "explaining": ("better than chance", "stable under attack"),
}


def name_of(finding: Finding) -> str:
    """Return what a finding is called in every audit of such a model: `section/rule/case`."""
    return f"{finding.section}/{_dashed(finding.name)}/{finding.case}"


def read_accepted(
    texts: Iterable[str], cases: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, ...]:
    """Return names of findings as `section`, `section/rule` or `section/rule/case`, each once.

    Args:
        texts: such names, or a rule alone; the fingerprint of a finding in SARIF is one.
        cases: section → the cases that it will have; those of another section are not checked.

    Raises:
        BadInput: one is the number that a finding has in one audit.
        UnknownName: there is no such section, rule or case; the message has near ones.
    """
    return tuple(dict.fromkeys(_read(text, cases or {}) for text in texts))


def accepted_by(finding: Finding, accepted: Iterable[str]) -> str:
    """Return the name by which a finding is accepted; "" if it is not, or needs not be."""
    if finding.severity == "passed":
        return ""
    own = f"{name_of(finding)}/"
    return next((name for name in accepted if own.startswith(f"{name}/")), "")


def deciding(
    findings: Iterable[Finding], limit: Severity, accepted: Iterable[str]
) -> list[Finding]:
    """Return the findings that are as bad as the limit, or worse, and not accepted."""
    names = tuple(accepted)
    return [f for f in findings if at_least(f.severity, limit) and not accepted_by(f, names)]


def _read(text: str, cases: Mapping[str, Iterable[str]]) -> str:
    if re.fullmatch(r"(.*#)?F-\d+", text):
        raise BadInput(
            f"--accept {text}: in the next audit another finding may have this number; name it by "
            f"what it is called on the page, such as robustness/worst-case"
        )
    rules = {_dashed(rule): name for name, known in RULES.items() for rule in known}
    section, _, rest = text.partition("/")
    rule, _, case = rest.partition("/")
    if not rest and (alone := _dashed(section)) in rules and section not in RULES:
        section, rule = rules[alone], alone
    whole = [*RULES, *(f"{name}/{one}" for one, name in rules.items())]
    name = f"{section}/{_dashed(rule)}" if rule else section
    if name not in whole:
        raise UnknownName.of("finding to accept", text, set(whole))
    if not case:
        return name
    known = [f"{name}/{one}" for one in cases.get(section, ())]
    if section in cases and f"{name}/{case}" not in known:
        raise UnknownName.of("finding to accept", text, known)
    return f"{name}/{case}"


def _dashed(rule: str) -> str:
    return rule.replace(" ", "-")
