"""Whether scores that were found again are those that a record claims."""

import math
from collections.abc import Mapping

from trustml.contracts import Score


def close(found: Mapping[str, Score], claimed: Mapping[str, Score]) -> bool:
    """Return whether the scores agree, up to what another version of a library may round."""
    return found.keys() == claimed.keys() and all(
        math.isclose(getattr(found[name], part), getattr(claimed[name], part), abs_tol=1e-9)
        for name in found
        for part in ("value", "low", "high")
    )
