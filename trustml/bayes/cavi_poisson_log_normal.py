"""Mean-field mixture of Poisson strengths and log-Normal distances: one station hears K sources.

Model: as `cavi_poisson_normal`, of which this is the case in one dimension with ln distance as the
position; so `mean` and `spread` are those of the logarithm, and exp(mean) is a median distance.
"""

import torch
from torch import Tensor

from trustml.bayes import cavi_poisson_normal
from trustml.bayes.cavi_poisson_normal import Prior, Sources
from trustml.bayes.checks import check_finite_entries
from trustml.bayes.coordinate_ascent import Ascent, Climb
from trustml.errors import BadInput


def fit(
    distances: Tensor,
    strengths: Tensor,
    *,
    components: int,
    spread: float,
    prior: Prior | None = None,
    climb: Climb | None = None,
    seed: int = 0,
) -> Ascent[Sources]:
    """Return the belief about K sources of events at distances (N,) with strengths (N,).

    Args:
        spread: standard deviation of ln distance about its source's, which is known.

    Raises:
        BadInput: as `cavi_poisson_normal.fit`, or a distance that is not above 0.
        BadOption: a spread, a number of components or an option of the climb out of range.
    """
    logarithms = _logarithms(distances)
    ascent = cavi_poisson_normal.fit(
        logarithms, strengths, components=components, spread=spread, prior=prior, climb=climb,
        seed=seed,
    )  # fmt: skip
    # The density of a distance is that of its logarithm over the distance.
    jacobian = float(logarithms.sum())
    elbo = tuple(value - jacobian for value in ascent.elbo)
    return Ascent(ascent.belief, ascent.responsibilities, elbo, ascent.converged)


def log_density(sources: Sources, distances: Tensor, strengths: Tensor) -> Tensor:
    """Return the log predictive density (B,) of new events: low is odd.

    Raises:
        BadInput: distances or strengths of the wrong shape, or values that are no event's.
    """
    logarithms = _logarithms(distances)
    return cavi_poisson_normal.log_density(sources, logarithms, strengths) - logarithms


def _logarithms(distances: Tensor) -> Tensor:
    check_finite_entries(distances=distances)
    if distances.ndim != 1 or not bool((distances > 0).all()):
        raise BadInput(f"distances {tuple(distances.shape)}: give (N,) numbers above 0")
    return torch.log(distances.double())
