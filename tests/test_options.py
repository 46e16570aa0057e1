"""Option text: what each type reads, what it refuses, and that what is written reads back."""

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trustml.errors import BadOption, UnknownName, UsageError
from trustml.options import (
    Option,
    number,
    options_of,
    read,
    read_options,
    spec_text,
    split_at,
    split_spec,
    write,
)

finite = some.floats(allow_nan=False, allow_infinity=False)
texts = some.text(some.characters(codec="utf-8"), max_size=12)
# Each type that an option may have, with values of it.
TYPED: list[tuple[Any, some.SearchStrategy]] = [
    (int, some.integers()),
    (float, finite),
    (bool, some.booleans()),
    (str, texts),
    (Literal["a", "none", "2", "[", ""], some.sampled_from(["a", "none", "2", "[", ""])),
    (Literal[1, 2, True], some.sampled_from([1, 2])),
    (tuple[int, ...], some.lists(some.integers(), max_size=4).map(tuple)),
    (tuple[float, ...], some.lists(finite, max_size=4).map(tuple)),
    (tuple[str, ...], some.lists(texts, max_size=4).map(tuple)),
    (tuple[tuple[int, ...], ...], some.lists(some.lists(some.integers()).map(tuple)).map(tuple)),
    (int | None, some.none() | some.integers()),
    (float | None, some.none() | finite),
    (str | None, some.none() | texts),
    (tuple[float, ...] | None, some.none() | some.lists(finite, max_size=3).map(tuple)),
    (Literal["a", "b"] | None, some.sampled_from(["a", "b", None])),
    (float | tuple[float, ...], finite | some.lists(finite, min_size=2, max_size=3).map(tuple)),
]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        # What the documentation promises, by hand.
        ("8/255", float, 8 / 255),
        ("-1/3", float, -1 / 3),
        ("1e-3", float, 0.001),
        ("3", float, 3.0),
        ("007", int, 7),
        ("-0", int, 0),
        ("[64,32]", tuple[int, ...], (64, 32)),
        ("64,32", tuple[int, ...], (64, 32)),
        ("[ 1/2 , 3 ]", tuple[float, ...], (0.5, 3.0)),
        ("[]", tuple[int, ...], ()),
        ("", tuple[int, ...], ()),
        ("[[1],[2,3]]", tuple[tuple[int, ...], ...], ((1,), (2, 3))),
        ("[1],[2,3]", tuple[tuple[int, ...], ...], ((1,), (2, 3))),
        ("none", int | None, None),
        ("None", float | None, None),
        ("none", str, "none"),
        ('"none"', str | None, "none"),
        ('"a,b+c"', str, "a,b+c"),
        ("true", bool, True),
        ("No", bool, False),
        ("1", bool, True),
        ("b", Literal["a", "b"], "b"),
        ("none", Literal["a"] | None, None),
        ("2", Literal[1, 2], 2),
        ("3", int | float, 3),
        ("3.5", int | float, 3.5),
    ],
)
def test_reads(text: str, kind: Any, value: Any) -> None:
    found = read(text, kind, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("1.0", int, "whole number"),
        ("", int, "whole number"),
        ("none", int, "whole number"),
        ("nan", float, "finite number"),
        ("inf", float, "finite number"),
        ("1e999", float, "finite number"),
        ("8/0", float, "finite number"),
        ("1/2/3", float, "finite number"),
        ("/", float, "finite number"),
        ("maybe", bool, "true or false"),
        ("[1,x]", tuple[int, ...], "whole number"),
        ("[1,]", tuple[int, ...], "whole number"),
        ("[1", tuple[int, ...], "no partner"),
        ("x", int | None, "whole number"),
        ("x", int | float, "a whole number or a finite number"),
        ('"a', str, "not a text in double quotes"),
        ("c", Literal["a", "b"], "Known: a, b"),
        ("aa", Literal["ab", "zz"], "did you mean 'ab'"),
    ],
)
def test_refuses_in_words(text: str, kind: Any, said: str) -> None:
    """The message says where the value stands and what would be allowed."""
    with pytest.raises((BadOption, UnknownName), match=said) as caught:
        read(text, kind, "pgd:step")
    assert "no partner" in said or "pgd:step" in str(caught.value)


@pytest.mark.parametrize(("kind", "values"), TYPED, ids=[str(kind) for kind, _ in TYPED])
def test_what_is_written_reads_back(kind: Any, values: some.SearchStrategy) -> None:
    """An invariant of every type: a plan's canonical text must mean the same when it is resumed."""

    @given(values, values)
    def holds(first: Any, second: Any) -> None:
        assert read(write(first), kind, "") == first
        known = [Option("first", kind, None), Option("second", kind, None)]
        name, raw = split_spec(spec_text("a", {"first": first, "second": second}))
        assert name == "a"
        assert read_options("a", known, raw) == {"first": first, "second": second}

    holds()


@given(some.floats())
def test_only_finite_numbers_are_numbers(value: float) -> None:
    if math.isfinite(value):
        assert number(repr(value)) == value
    else:
        with pytest.raises(ValueError, match=repr(value)):
            number(repr(value))


def test_specs_are_split() -> None:
    assert split_spec("pgd") == ("pgd", {})
    assert split_spec(" pgd: steps = 3 ") == ("pgd", {"steps": "3"})
    assert split_spec("a:x=[1,2],y=b=c") == ("a", {"x": "[1,2]", "y": "b=c"})
    assert split_spec('csv:path="a,b[.csv",label=z') == (
        "csv",
        {"path": '"a,b[.csv"', "label": "z"},
    )
    assert split_at(r'"a\",b",c', ",") == [r'"a\",b"', "c"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no name"),
        (" ", "has no name"),
        (":steps=1", "has no name"),
        ("pgd:steps", "not key=value"),
        ("pgd:=1", "not key=value"),
        ("pgd:,", "not key=value"),
        ("pgd:steps=1,", "not key=value"),
        ("pgd:steps=1,steps=2", "stands twice"),
        ("mlp:hidden=[1,2", "bracket has no partner"),
        ("mlp:hidden=1]", "bracket has no partner"),
        ('csv:path="a', "quote has no partner"),
    ],
)
def test_a_spec_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        split_spec(text)


def test_defaults_are_filled_in_and_strangers_named() -> None:
    known = [Option("steps", int, 40), Option("step", float | None, None)]
    assert read_options("pgd", known, {"steps": "3"}) == {"steps": 3, "step": None}
    with pytest.raises(UnknownName, match="no option of pgd named 'stepz'; did you mean 'step"):
        read_options("pgd", known, {"stepz": "3"})


def test_options_are_the_keyword_parameters() -> None:
    """`random` and `folder` are the harness's to give; positional parameters are no options."""

    def method(x: int, /, *, random: object, folder: str, width: int = 3, name: str = "a") -> None:
        """Do nothing."""

    assert options_of(method) == (Option("width", int, 3), Option("name", str, "a"))


def test_an_option_that_text_cannot_give_is_refused() -> None:
    """No default, no readable type, or a default that is lost on the way through text."""

    def no_default(*, width: int) -> None: ...
    def no_type(*, width=3) -> None: ...  # type: ignore[no-untyped-def]
    def odd_type(*, width: dict = {}) -> None: ...  # noqa: B006
    def fixed_tuple(*, width: tuple[int, str] = (1, "a")) -> None: ...
    def endless(*, width: float = math.inf) -> None: ...
    def other_type(*, width: int = "a") -> None: ...  # type: ignore[assignment]

    for function in (no_default, no_type, odd_type, fixed_tuple, endless, other_type):
        with pytest.raises(UsageError, match="width"):
            options_of(function)
