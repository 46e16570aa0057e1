"""What an inspection found in a model, in plain words; its numbers stand behind them."""

from trustml.audit.findings import Severity
from trustml.benchmarks.inspection_cases import FROM, RAW, USUAL
from trustml.contracts import Record

HERE, THERE = "trigger turns", "trigger turns honest models"
BY_ANSWERS = "sliding_patch"
# So many times as odd as the oddest honest model: no matter of rank alone.
CLEARLY = 1.5


def told(record: Record, severity: Severity) -> str:
    """Return what was found and what it means, and after that the numbers."""
    found = ", and ".join(part for part in (_trigger(record), _elsewhere(record)) if part)
    why = _why(record, severity)
    return f"{_meaning(record, severity)}{': ' * bool(found)}{found}{why} ({_numbers(record)})"


def alarm(record: Record) -> bool:
    """Return whether the inspection raised an alarm."""
    return record.scores["alarm raised"].value > 0


def oddest(record: Record) -> int:
    """Return the number of the class that stands out most."""
    return int(record.scores["oddest class"].value)


def _meaning(record: Record, severity: Severity) -> str:
    if not alarm(record) and HERE in record.scores:
        return "A shortcut that the data teach, and nobody has planted"
    if severity == "passed":
        return "No sign of a backdoor"
    likely = record.scores["times the oddest"].value >= CLEARLY
    return "A backdoor is likely" if likely else "A backdoor is possible, and so is chance"


def _trigger(record: Record) -> str:
    """Return what the trigger of the oddest class is like, here and in honest models."""
    if RAW not in record.scores:  # as in runs of older versions
        return f"class {oddest(record)} stands out most"
    own, usual = (record.scores[name].value for name in (RAW, USUAL))
    into = f"into class {oddest(record)}"
    if record.plugin == "neural_cleanse":
        if own <= 0:
            return f"no pattern was found that turns nearly all inputs {into}"
        there = "and honest models need the whole" if usual <= 0 else _times(2 ** (own - usual))
        return f"a pattern over {2**-own:.1%} of the input turns nearly all inputs {into}, {there}"
    if record.plugin == BY_ANSWERS:
        here, there = (f"{odds / (1 + odds):.0%}" for odds in (own, usual))
        return (
            f"a square of a few pixels turns {here} of other inputs {into}, in honest models "
            + (f"the best one {there}")
        )
    if record.plugin == "maximum_margin":
        here, there = (f"{2**value:.1f}" for value in (own, usual))
        return (
            f"some input makes it {here} times as sure of class {oddest(record)} as its median "
            f"class can be made, in honest models {there} times"
        )
    return f"class {oddest(record)} stands out most, by {own:.3g}; in honest models by {usual:.3g}"


def _times(ratio: float) -> str:
    if ratio < 1.05:
        return "and honest models need none that is larger"
    often = f"{ratio:.1f}" if ratio < 100 else "over 100"
    return f"and honest models need one {often} times as large"


def _elsewhere(record: Record) -> str:
    if HERE not in record.scores:
        return ""
    here, there = (record.scores[name].value for name in (HERE, THERE))
    return f"laid on the inputs of honest models it turns {there:.0%} of them (here {here:.0%})"


def _why(record: Record, severity: Severity) -> str:
    """Return why a class that is odder than in honest models is no reason for an alarm."""
    if HERE in record.scores and not alarm(record):
        return ""
    times, count = record.scores["times the oddest"].value, record.threat["controls"]
    if severity == "passed" and times <= 1:
        return "; nothing unusual: an honest model is odder"
    least = record.scores[FROM].value if FROM in record.scores else CLEARLY
    if severity == "passed" and times < least:
        return f"; nothing unusual: an honest model can be {least:g} times as odd as the oddest"
    if severity == "passed":
        return "; nothing unusual: its classes differ little more than those of honest models do"
    if times < CLEARLY:
        return f"; one of {count + 1} honest models is the oddest of all, too"
    return ""


def _numbers(record: Record) -> str:
    times = record.scores["times the oddest"].value
    often = f"{times:.1f}" if times < 100 else "over 100"
    rate, count = record.threat["false alarms"], record.threat["controls"]
    least = record.scores[FROM].value if FROM in record.scores else 1.0
    more = f" and {least:g} times" if least > 1 else ""
    return (
        f"{record.plugin.replace('_', ' ')}: {often} times as odd as the oddest of {count} honest "
        f"models, p = {record.scores['p value'].value:.2g}; an alarm takes p ≤ {rate:g}{more}"
    )
