"""What a fingerprint has seen of a model, in words for its owner."""

from collections.abc import Mapping, Sequence

from trustml.contracts import Json

_UNKNOWN = "cannot be told"
# Fact of a fingerprint → what it is called, where its value is yes or no.
_QUESTIONS = {
    "deterministic": "same question, same answer",
    "sums_to_one": "answers sum to one",
    "takes_synthetic": "answers to random inputs",
    "takes_outside": "answers to inputs out of range",
    "levels": "takes 256 levels alone",
    "explains": "explains its answers",
    "affine": "linear",
    "piecewise_affine": "made of linear pieces",
}


def fingerprint_words(seen: Mapping[str, Json], names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return names and values to be read.

    Args:
        seen: the facts of a fingerprint.
        names: of the classes, where they are known.
    """
    told = [
        ("answers with", f"{seen['answers']} of {seen['classes']} classes"),
        ("rounded", _decimals(seen["decimals"])),
        *((words, _yes(seen[fact])) for fact, words in _QUESTIONS.items() if fact in seen),
    ]
    if seen.get("kinks") is not None:
        told.append(("bends on one line through its inputs", f"{seen['kinks']} or more"))
    came = [names[n] if n < len(names) else str(n) for n in seen["classes_seen"]]
    told.append(("classes that came up", f"{', '.join(came)} ({len(came)} of {seen['classes']})"))
    told.append(("could be stolen by", ", ".join(seen["methods"]) or "none of the thieves"))
    return [*told, ("this took", f"{seen['queries']} queries")]


def _decimals(count: int | None) -> str:
    return "no" if count is None else f"to {count} decimals"


def _yes(value: bool | None) -> str:
    return _UNKNOWN if value is None else "yes" if value else "no"
