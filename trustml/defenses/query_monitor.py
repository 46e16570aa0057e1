"""Is somebody asking about the same thing again and again?"""

from typing import Literal

import torch
from torch import Tensor

from trustml import countermeasures
from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Random, Split
from trustml.defenses._watching import (
    Scan,
    Watch,
    check_counts,
    check_validation,
    past,
    scanned,
    vectors,
)
from trustml.errors import BadOption
from trustml.registry import safeguard

# An alarm of its own would end PRADA's statistic; the threshold is set by whoever reads it.
NEVER = 1e-9


@safeguard(
    source="near duplicates: Chen, Carlini, Wagner 2019, arXiv:1907.05587; PRADA: Juuti et al. "
    "2019, arXiv:1805.02628",
    stage="monitoring",
    beaten_by="many accounts, waiting until its memory has gone by, or moved and turned queries "
    "(OARS: Feng et al. 2023, arXiv:2302.14267)",
    does_not_stop="attacks that ask nothing: transferred ones, white-box ones, tampered scanners",
)
def query_monitor(
    model: Classifier,
    validation: Split,
    /,
    *,
    random: Random,
    statistic: Literal["near_duplicates", "prada"] = "near_duplicates",
    reads: Literal["pixels", "features"] = "pixels",
    neighbours: int = 10,
    memory: int = 1000,
) -> Watch:
    """Return the watch of one account: how much its queries crowd, (N,), by those so far alone.

    Args:
        model: whose features are compared, if they are, and whose answers PRADA counts by.
        validation: ordinary queries: the account begins with a hundred of them, or fewer.
        random: draws these.
        statistic: "near_duplicates": an ordinary distance over the mean one to the nearest earlier
            queries; "prada": one less Shapiro-Wilk's W of the distances within each answer.
        reads: what distances are between: pixels, or the model's features (near_duplicates only).
        neighbours: how many earlier queries.
        memory: how many earlier queries are remembered (near_duplicates only).

    Raises:
        BadOption: a count below 1, or PRADA over features.
        BadInput: fewer than 20 validation samples.
    """
    check_counts("query_monitor", neighbours=neighbours, memory=memory)
    check_validation("query_monitor", validation, 20)
    if statistic == "prada" and reads == "features":
        raise BadOption("query_monitor: statistic=prada compares pixels: leave out reads=features")
    before = past(validation, min(countermeasures.LEAST_DISTANCES, len(validation)), random)
    if statistic == "prada":
        return lambda items, scan: _prada(model, before, scanned(scan, items))
    usual = _crowding(vectors(model, before, reads).double(), neighbours, memory)
    ordinary = float(usual[len(before) // 2 :].mean().clamp_min(1e-12))

    def watch(items: Tensor, scan: Scan) -> Tensor:
        stream = torch.cat([before.to(items), scanned(scan, items)])
        found = _crowding(vectors(model, stream, reads).double(), neighbours, memory)
        # The same thing again is at distance 0: a million times as crowded as usual is enough.
        return ordinary / found[len(before) :].clamp_min(1e-6 * ordinary)

    return watch


def _crowding(stream: Tensor, neighbours: int, memory: int) -> Tensor:
    """Return the mean distance (N,) of each vector to its nearest earlier ones."""
    found = []
    for place in range(len(stream)):
        earlier = stream[max(0, place - memory) : place]
        apart = torch.cdist(stream[place : place + 1], earlier)[0]
        near = apart.topk(min(neighbours, len(apart)), largest=False).values
        found.append(near.mean() if len(near) else stream.new_full((), torch.nan))
    return torch.stack(found)


def _prada(model: Classifier, before: Tensor, queries: Tensor) -> Tensor:
    """Return 1 - W (N,) after each query; 0 until there are enough distances."""
    stream = torch.cat([before.to(queries), queries])
    with torch.no_grad(), frozen(model):
        labels = in_blocks(model, stream).argmax(1)
    monitor, found = countermeasures.Monitor(NEVER), []
    for row in range(len(stream)):
        monitor(stream[row : row + 1], labels[row : row + 1])
        found.append(0.0 if monitor.statistic is None else 1 - monitor.statistic)
    return torch.tensor(found[len(before) :], dtype=torch.float64, device=queries.device)
