"""Density of a variational mixture of Gaussians over the chief directions of the features."""

import torch
from torch import Generator, Tensor

from trustml.bayes.cavi_gaussian import fit, log_density
from trustml.bayes.coordinate_ascent import Climb
from trustml.contracts import Classifier, Outputs
from trustml.detectors._gaussians import LEAST_VARIANCE, centred, covariance
from trustml.detectors._parts import Scorer, features_of, need_rows
from trustml.errors import BadOption, NotApplicable
from trustml.registry import detector


@detector(
    source="Bishop 2006, section 10.2 (variational mixture), on principal components",
    reads=("features",),
)
def cavi_density(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    dimensions: int = 8,
    components: int = 10,
    samples: int = 2000,
    sweeps: int = 50,
) -> Scorer:
    """Score by minus the log predictive density of the features' principal components, (B,).

    Args:
        dimensions: principal components, or as many as the features have.
        components: Gaussians of the mixture; those that are not needed empty themselves.
        samples: training outputs that it is fitted to.
        sweeps: of coordinate ascent, at most.

    Raises:
        NotApplicable: no features, or constant ones.
        BadInput: no training outputs, fewer than components, or features that are no numbers.
        BadOption: an option below 1.
    """
    given = {"dimensions": dimensions, "components": components, "samples": samples}
    for name, value in {**given, "sweeps": sweeps}.items():
        if value < 1:
            raise BadOption(f"cavi_density: {name}={value} is not allowed: it must be 1 or more")
    need_rows(train, "training", max(components, 2))
    known, middle = centred(features_of(train))
    values, vectors = torch.linalg.eigh(covariance(known))
    rank = int((values > LEAST_VARIANCE * values[-1]).sum()) if float(values[-1]) > 0 else 0
    if not rank:
        raise NotApplicable("the training features are constant: they tell no input from another")
    axes = vectors[:, -min(dimensions, rank) :]
    rows = torch.randperm(len(known), generator=Generator().manual_seed(0))[:samples]
    climb = Climb(sweeps=sweeps, tolerance=1e-4, restarts=1)
    points = known[rows.to(known.device)] @ axes
    gaussians = fit(points, components=components, climb=climb).belief

    def score(outputs: Outputs) -> Tensor:
        points = (features_of(outputs).double() - middle) @ axes
        return -log_density(gaussians, points) if len(points) else points.new_empty(0)

    return score
