"""Gaussian beliefs over the weights of one layer, by the eigenvalues of their precision."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bayes.noise import noise


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """Precision of weights (K, D): classes ⊗ features + prior, the factors as (values, vectors)."""

    classes: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    prior: float

    def spectrum(self) -> Tensor:
        """Return every eigenvalue (K·D,), the prior not counted."""
        return self._grid().flatten()

    def variances(self, h: Tensor) -> Tensor:
        """Return the logit variances (B, K) at features h (B, D)."""
        return self._along_classes(h) @ (self.classes[1] ** 2).T.to(h)

    def contrasts(self, h: Tensor) -> Tensor:
        """Return what `contrasts` makes of the logit covariances (B, K, K), without them."""
        vectors = self.classes[1]
        squares = (vectors - vectors.mean(0)) ** 2
        spread = squares + squares.sum(0) / _pairs(len(squares))
        return self._along_classes(h) @ spread.T.to(h)

    def covariance(self, h: Tensor) -> Tensor:
        """Return the logit covariances (B, K, K) at features h (B, D)."""
        vectors = self.classes[1].to(h)
        return (vectors * self._along_classes(h)[:, None]) @ vectors.T

    def draw(self, key: str) -> Tensor:
        """Return a draw of the weights (K, D) about zero."""
        grid = self._grid()
        scaled = noise(key, grid) / (grid + self.prior).sqrt()
        return self.classes[1] @ scaled @ self.features[1].T

    def _grid(self) -> Tensor:
        return self.classes[0][:, None] * self.features[0]

    def _along_classes(self, h: Tensor) -> Tensor:
        # A sum of squares: nothing cancels, so the precision of h is enough.
        return (h @ self.features[1].to(h)) ** 2 @ (1 / (self._grid() + self.prior)).T.to(h)


@dataclass(frozen=True, slots=True, eq=False)
class Full:
    """Precision of all K·D weights; `root` is a square root of the covariance, class-major."""

    values: Tensor
    root: Tensor
    inverse: Tensor
    prior: float

    def spectrum(self) -> Tensor:
        """Return every eigenvalue (K·D,), the prior not counted."""
        return self.values

    def variances(self, h: Tensor) -> Tensor:
        """Return the logit variances (B, K) at features h (B, D)."""
        blocks, exact = self.inverse.diagonal(dim1=0, dim2=2).unbind(2), h.double()
        return torch.stack([((exact @ b) * exact).sum(1) for b in blocks], dim=1).to(h)

    def contrasts(self, h: Tensor) -> Tensor:
        """Return what `contrasts` makes of the logit covariances (B, K, K)."""
        return contrasts(self.covariance(h))

    def covariance(self, h: Tensor) -> Tensor:
        """Return the logit covariances (B, K, K) at features h (B, D)."""
        exact, classes = h.double(), len(self.inverse)
        covariance = exact.new_empty(len(h), classes, classes)
        for i, row in enumerate(self.inverse):
            for j, block in enumerate(row.unbind(1)[: i + 1]):
                covariance[:, i, j] = covariance[:, j, i] = ((exact @ block) * exact).sum(1)
        return covariance.to(h)

    def draw(self, key: str) -> Tensor:
        """Return a draw of the weights (K, D) about zero."""
        return (self.root @ noise(key, self.values)).view(len(self.inverse), -1)


def contrasts(covariance: Tensor) -> Tensor:
    """Return the logit variances (B, K) that a softmax sees, for covariances (B, K, K).

    A shift common to all logits changes no softmax, but it has a variance: that of its prior, for
    the likelihood says nothing of it. It is chosen anew here, so that two logits have covariance 0
    on average: independent logits keep their variances, and a shift of any size adds none.
    """
    rows = covariance.mean(2)
    centred = covariance.diagonal(dim1=1, dim2=2) - 2 * rows + rows.mean(1, keepdim=True)
    return centred + centred.sum(1, keepdim=True) / _pairs(covariance.shape[1])


def _pairs(classes: int) -> int:
    """Return how many ordered pairs of classes there are, but never 0."""
    return max(1, classes * (classes - 1))
