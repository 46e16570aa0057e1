"""Several models, trained apart, that vote."""

from collections.abc import Callable

from torch import nn

from trustml.contracts import Domain
from trustml.defenses._votes import Votes
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Hansen, Salamon 1990, IEEE PAMI 12",
    stage="training",
    beaten_by="gradients of the mean of all members, or an example that transfers",
    does_not_stop="what all members have in common: their data, hence poisons and drift",
)
def ensemble_vote(
    fresh: Callable[[], nn.Module], domain: Domain, /, *, members: int = 5
) -> nn.Module:
    """Train several models from different first weights; each has one vote, ties to the lowest.

    Logits are the votes; their gradient is that of the mean probabilities, so attacks see through.

    Args:
        fresh: builds a member.
        domain: of its inputs.
        members: how many.

    Raises:
        BadOption: fewer than two members.
    """
    if members < 2:
        raise BadOption(f"ensemble_vote: members={members} is not allowed: 2 or more")
    return Votes([fresh() for _ in range(members)], lambda train: [train] * members)
