"""Every error that trustml raises on purpose, on one screen.

TrustError
├── UsageError            what the caller asked for cannot be done: exit code 2
│   ├── UnknownName       no plugin, option or value of that name
│   ├── BadOption         an option's text or value is not allowed
│   ├── BadInput          data, labels, budgets or files that are not what they should be
│   └── MissingPackage    an optional library is not installed
├── NotApplicable         a method cannot be used on this model or data: the case is skipped
├── MethodFailed          a plugin raised, or returned something that breaks its contract
│   ├── BudgetSpent       a method asked for more queries than it was given
│   └── Refused           a victim does not answer these queries, or this asker any more
├── DiskFull              there was no room to write; what was finished is whole
└── BrokenClaim           a stored claim does not hold when it is checked again: exit code 1
"""

from collections.abc import Iterable
from difflib import get_close_matches


class TrustError(Exception):
    """Base of the family; its text is one line that a person can act on."""


class UsageError(TrustError):
    """The request cannot be carried out as given."""


class UnknownName(UsageError):
    """No such name; the message carries the nearest ones."""

    @classmethod
    def of(cls, what: str, given: str, known: Iterable[str]) -> "UnknownName":
        """Return the error for `given`, naming up to three near names and then all of them."""
        names = sorted(known)
        near = get_close_matches(given, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else "."
        return cls(f"no {what} named {given!r}{hint} Known: {', '.join(names) or 'none'}")


class BadOption(UsageError):
    """An option's text or value is not allowed."""


class BadInput(UsageError):
    """Data, labels, budgets or files are not what they should be."""


class MissingPackage(UsageError):
    """An optional library is not installed."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> "MissingPackage":
        """Return the error that says which extra to install."""
        return cls(f"{purpose} needs the package {package}: pip install 'trustml[{extra}]'")


class NotApplicable(TrustError):
    """The method does not fit this model or data; the case is recorded as skipped."""


class MethodFailed(TrustError):
    """A plugin raised, or what it returned breaks its contract; the case is recorded as failed."""


class BudgetSpent(MethodFailed):
    """A method asked for more queries than its budget."""


class Refused(MethodFailed):
    """A victim's countermeasure turned queries away."""


class DiskFull(TrustError):
    """The disk has no room; what was finished is on it, whole."""


class BrokenClaim(TrustError):
    """A stored claim does not hold when it is checked again."""
