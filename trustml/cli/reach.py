"""Options that would be ignored are refused: those of other exams, and what other words end."""

from collections.abc import Callable

import click

from trustml.benchmarks.plan import Plan
from trustml.benchmarks.reach import HEEDED_BY, heeds
from trustml.errors import BadOption, UsageError
from trustml.recipes import choose, read_recipe

_WORDS = {
    "attacks": "--attack",
    "attributions": "--attribution",
    "aware": "--detector with --aware",
    "detectors": "--detector",
    "stealers": "--stealer",
    "routes": "--route",
    "poisons": "--poison",
    "inspections": "--inspection",
}
# Numbers of which 0 is the default and stands for something else than 0.
_AT_LEAST_ONE = {
    "limit": "all samples",
    "eot": "the usual number of readings",
    "budget": "no bound",
}
# Each of these may stand more than once and mean something: two surrogates have two seeds.
_AGAIN = ("surrogates", "plugins")


def given() -> dict[str, str]:
    """Return the options that stand on the command line: parameter → as it is written there."""
    context = click.get_current_context()
    return {
        str(option.name): _flag(option, context.params.get(str(option.name)))
        for option in context.command.params
        if context.get_parameter_source(str(option.name)) is click.core.ParameterSource.COMMANDLINE
    }


def check_reach(plan: Plan) -> None:
    """Refuse options that no exam of the plan would heed, and what stands twice.

    Raises:
        BadOption: there is one; the message says what it is for.
    """
    words = given()
    for name, meaning in _AT_LEAST_ONE.items():
        if name in words and getattr(plan, name) < 1:
            raise BadOption(
                f"{words[name]} must be 1 or more, not {getattr(plan, name)}; left out it is "
                f"{meaning}"
            )
    for name in words:
        if not heeds(plan, name):
            raise BadOption(
                f"{words[name]} is for {_or([_WORDS[exam] for exam in HEEDED_BY[name]])}, which "
                f"this command does not ask for: add it, or leave {words[name]} out"
            )
    for name, flag in words.items():
        values = getattr(plan, name, ())
        if isinstance(values, tuple) and name not in (*_AGAIN, "shard"):
            _check_once(flag, values)
    _check_pairs(plan, words)


def _check_pairs(plan: Plan, words: dict[str, str]) -> None:
    """Refuse what another option leaves without effect."""
    if "certify" in words and plan.certify == "tight" and plan.curve:
        raise BadOption("--certify tight proves a ball, and --curve has none: leave one out")
    if "indicators" in words and plan.indicators and plan.surrogates:
        raise BadOption(
            "--indicators looks at attacks on the model itself, which --surrogate hides from "
            "them: leave one out"
        )


def check_apart(plan: Plan) -> None:
    """Refuse two attacks, or two models, that are one and the same in other words.

    Args:
        plan: as it is written, its plugin files loaded.

    Raises:
        BadOption: there are such.
    """
    whole: dict[str, Callable[[str], str]] = {
        "--attack": lambda text: choose("attack", text).text,
        "--model": lambda text: read_recipe(text).text,
    }
    for flag, texts in (("--attack", plan.attacks), ("--model", plan.models)):
        seen: dict[str, str] = {}
        for text in texts:
            other = seen.setdefault(whole[flag](text), text)
            if other != text:
                raise BadOption(f"{flag} {other} and {flag} {text} are the same: leave one out")


def _check_once(flag: str, values: tuple[object, ...]) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise BadOption(f"{flag} {value} stands twice: leave one of them out")


def check_alone(*allowed: str) -> None:
    """Refuse options that a resumed run, which has its own, would ignore.

    Raises:
        UsageError: there is one.
    """
    for name, flag in given().items():
        if name not in allowed:
            raise UsageError(
                f"--resume continues a run as it was begun; leave {flag} out, or start another run"
            )


def check_without(reason: str, *names: str) -> None:
    """Refuse options that another word leaves without effect.

    Args:
        reason: what leaves them so, for the message.
        names: of their parameters.

    Raises:
        UsageError: one of them stands there.
    """
    for name, flag in given().items():
        if name in names:
            raise UsageError(f"{flag} is of no use {reason}: leave it out")


def _flag(option: click.Parameter, value: object) -> str:
    if isinstance(option, click.Argument):
        return option.human_readable_name
    off = option.secondary_opts if value is False else []
    return [*off, *option.opts][0]


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
