"""Commands that a reader of an audit may paste, with the audited model and data in them."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trustml.audit.change import change
from trustml.audit.findings import Finding
from trustml.benchmarks.plan import Plan
from trustml.contracts import Record
from trustml.errors import UsageError
from trustml.recipes import brief, brief_choice, choose, read_recipe

# Targets behind an address.
_SERVERS = ("json_http", "mlflow", "open_inference")


def advice(finding: Finding, folder: Path) -> str:
    """Return what to do about a finding, the folder of the audit in the commands that name it."""
    own = finding.remedy.replace("; AUDIT is this audit's folder", "")
    return re.sub(r"\bAUDIT(?=[/#])", lambda _: str(folder), own)


def audit_command(base: Plan, depth: str, facts: Mapping[str, Any]) -> str:
    """Return the command that makes the whole audit again."""
    words = ["trustml", "audit", model_of(base), *_data(base)]
    words += ["--depth", depth, "--seed", str(base.seed)]
    words += [word for size in base.epsilons for word in ("--epsilon", f"{size:.17g}")]
    words += ["--controls-of", base.controls_of] if base.controls_of else []
    words += ["--budget", str(most)] if (most := facts.get("queries", {}).get("budget")) else []
    return shlex.join(
        [*words, *(w for one in facts.get("accepted", ()) for w in ("--accept", one))]
    )


def bench_command(base: Plan, options: str) -> str:
    """Return the `trustml bench` of the audited model and data with these options; "" for none.

    None is of a server, which is not to be asked without a bound because a page has said so.
    """
    if base.models[0].partition(":")[0] in _SERVERS:
        return ""
    words = ["trustml", "bench", "--model", model_of(base), *_data(base)]
    return f"{shlex.join(words)} {options}"


def budget_words(base: Plan, records: Iterable[Record]) -> str:
    """Return how far an attacker may change an input, and who says so; "" where no one may."""
    changes = dict.fromkeys(change(r) for r in records if "norm" in r.threat and r.kind == "attack")
    if not changes:
        return ""
    given = (
        "It was given by --epsilon."
        if base.epsilons
        else f"It is the usual budget of {base.data.partition(':')[0]}, by which models are "
        f"compared, and may not be what your attacker keeps to: --epsilon sets another."
    )
    return f"What an attacker may do: {'; '.join(changes)}. {given}"


def model_of(base: Plan) -> str:
    """Return the model's shortest text; the whole one where its plugin is not at hand."""
    try:
        return brief(read_recipe(base.models[0]))
    except UsageError:
        return base.models[0]


def data_of(base: Plan) -> str:
    """Return the data's shortest text; the whole one where their plugin is not at hand."""
    try:
        return brief_choice(choose("data", base.data))
    except UsageError:
        return base.data


def _data(base: Plan) -> list[str]:
    words = ["--data", data_of(base)]
    words += ["--data-dir", base.data_dir] if base.data_dir else []
    return [*words, *(word for path in base.plugins for word in ("--plugin", path))]
