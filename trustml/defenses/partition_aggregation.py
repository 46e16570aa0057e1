"""Models that learn from separate parts of the data and vote: a few poisons reach a few votes."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Split
from trustml.defenses._votes import Votes
from trustml.errors import BadInput, BadOption
from trustml.registry import safeguard


@safeguard(
    source="Levine, Feizi 2021, arXiv:2006.14768 (DPA), theorem 1",
    stage="training",
    beaten_by="more poisons than the certificate allows",
    does_not_stop="poisonings of a share of the data that reaches most parts; changes of the mail",
)
def partition_aggregation(
    fresh: Callable[[], nn.Module], domain: Domain, /, *, parts: int = 25
) -> nn.Module:
    """Train a model on each of `parts` parts, cut by a hash of the input; each has one vote.

    `certified_poisons(model.votes(x))` says how many poisons cannot change an answer, as long as
    the validation split has none.

    Args:
        fresh: builds a member.
        domain: of its inputs.
        parts: how many; more stop more poisons, and learn less each.

    Raises:
        BadOption: fewer than two parts.
    """
    if parts < 2:
        raise BadOption(f"partition_aggregation: parts={parts} is not allowed: 2 or more")
    return Votes([fresh() for _ in range(parts)], lambda train: partition(train, parts))


def certified_poisons(votes: Tensor) -> Tensor:
    """Return (B,) int64: so many samples added, taken or relabelled cannot change the vote.

    A sample whose input is changed counts twice: it leaves one part and enters another.

    Args:
        votes: of the members, (B, K) int64; ties go to the lowest class.
    """
    winner = votes.argmax(1, keepdim=True)
    classes = torch.arange(votes.shape[1], device=votes.device)
    # A lower class wins a tie, so it needs one vote less.
    rivals = votes + (classes < winner)
    rivals = rivals.scatter(1, winner, torch.iinfo(torch.int64).min // 2)
    return (votes.gather(1, winner)[:, 0] - rivals.amax(1)).div(2, rounding_mode="floor")


def partition(train: Split, parts: int) -> list[Split]:
    """Return the parts, by each input's own hash, whatever other samples there are.

    Raises:
        BadInput: a part without a sample.
    """
    hashes = [
        hashlib.blake2b(one.numpy().tobytes(), digest_size=8).digest()
        for one in train.x.cpu().contiguous()
    ]
    numbers = torch.tensor([int.from_bytes(h, "little") % parts for h in hashes])
    # In the order of the hashes: the order of the data is the poisoner's to choose, too.
    order = torch.tensor(sorted(range(len(hashes)), key=hashes.__getitem__))
    rows = [order[numbers[order] == number] for number in range(parts)]
    if empty := sum(not len(part) for part in rows):
        raise BadInput(
            f"partition_aggregation: {len(train)} samples leave {empty} of {parts} parts empty: "
            f"use fewer parts"
        )
    return [train.at(part.to(train.x.device)) for part in rows]
