"""A class whose features fall into two heaps, one of them small."""

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.defenses._learners import check_share, learnt_features
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Chen et al. 2018, arXiv:1811.03728, section 4",
    stage="data",
    beaten_by="poisons whose features mix with those of their class, as clean-label ones",
    does_not_stop="poisons spread over the classes, label flips among many, slow drift",
)
def activation_clustering(
    split: Split,
    /,
    *,
    smaller: float = 0.35,
    silhouette: float = 0.3,
    dimensions: int = 10,
    model: str = "mlp",
) -> Split:
    """Return the split without the smaller heap of each class that falls into two.

    Args:
        split: a share of any class may be poisoned.
        smaller: a heap above this share of its class is none of poisons.
        silhouette: how well apart two heaps must be, above 0; a clean class's are at
            0.15 to 0.4, and heaps of like size.
        dimensions: principal components that are looked at.
        model: recipe of the model that is trained for its features, in double quotes where it has
            options: model="mlp:epochs=5".

    Raises:
        BadOption: a share that is not between 0 and 1, no dimension, or no such model.
    """
    check_share("activation_clustering", "smaller", smaller)
    check_share("activation_clustering", "silhouette", silhouette)
    if dimensions < 1:
        raise BadOption(f"activation_clustering: dimensions={dimensions} is not allowed: 1 or more")
    features = learnt_features(split, model)
    keep = torch.ones(len(split), dtype=torch.bool, device=features.device)
    for number in range(split.classes):
        rows = (split.y == number).nonzero()[:, 0]
        if len(rows) <= 2:
            continue
        side, apart = heaps(features[rows], dimensions)
        small = side > 0
        if apart >= silhouette and float(small.double().mean()) <= smaller:
            keep[rows[small]] = False
    return split.at(keep)


def heaps(features: Tensor, dimensions: int) -> tuple[Tensor, float]:
    """Return how much nearer each sample (B,) is to the smaller heap's middle, and the silhouette.

    Args:
        features: of one class, (B, D), B above 2.
        dimensions: principal components that are looked at.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    part = features.detach().cpu().double()
    part = part - part.mean(0)
    axes = torch.linalg.svd(part, full_matrices=False).Vh[:dimensions]
    seen = (part @ axes.T).numpy()
    found = KMeans(2, n_init=10, random_state=0).fit(seen)
    sizes = [(found.labels_ == heap).sum() for heap in (0, 1)]
    small = int(sizes[1] < sizes[0])
    middles = torch.from_numpy(found.cluster_centers_)
    far = torch.cdist(torch.from_numpy(seen), middles)
    apart = float(silhouette_score(seen, found.labels_)) if min(sizes) else -1.0
    return (far[:, 1 - small] - far[:, small]).to(features.device), apart
