"""Virtual-logit matching."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._gaussians import covariance
from trustml.detectors._head import last_layer
from trustml.detectors._parts import Scorer, features_of, logits_of, need_between, need_rows
from trustml.errors import NotApplicable
from trustml.registry import detector

# Below this share of the features' length a residual is rounding.
ROUNDING = 1e-6


@detector(source="Wang et al. 2022, arXiv:2203.10807, section 4", reads=("logits", "features"))
def vim(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    dimensions: int | None = None,
) -> Scorer:
    """Score, (B,), by the scaled length of features off their principal space, less log Σ exp z.

    Args:
        dimensions: of the principal space; none is as published: 1000 of 2048 features or more,
            512 of 768 or more, else half.

    Raises:
        NotApplicable: no features, features that never leave the principal space, or a last layer
            that is not linear.
        BadInput: no training outputs, or outputs that are no numbers.
        BadOption: dimensions that leave no residual space.
    """
    need_rows(train, "training")
    head, known = last_layer(model, train, validation), features_of(train).double()
    width = known.shape[1]
    if dimensions is None:
        dimensions = 1000 if width >= 2048 else 512 if width >= 768 else width // 2
    need_between("vim", 0, width - 1, dimensions=dimensions)
    origin = -torch.linalg.pinv(head.weight.double()) @ head.bias.double()
    from_origin = known - origin
    # Eigenvalues ascend: the first vectors span what is not principal.
    residual = torch.linalg.eigh(covariance(from_origin)).eigenvectors[:, : width - dimensions]
    lengths = torch.linalg.vector_norm(from_origin @ residual, dim=1)
    if not float(lengths.mean()) > ROUNDING * float(from_origin.abs().mean()):
        raise NotApplicable(
            f"the training features lie in a space of {dimensions} dimensions, so nothing is left "
            f"outside it: lower dimensions"
        )
    scale = logits_of(train).amax(1).mean() / lengths.mean()

    def score(outputs: Outputs) -> Tensor:
        outside = (features_of(outputs).double() - origin) @ residual
        length = torch.linalg.vector_norm(outside, dim=1)
        return scale * length - logits_of(outputs).logsumexp(1)

    return score
