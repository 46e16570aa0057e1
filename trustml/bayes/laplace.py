"""Laplace approximation of a softmax layer in closed form: no Jacobian is ever built.

Source: MacKay 1992, "The evidence framework applied to classification networks"; the Kronecker
factors are those of Ritter et al. 2018, restricted to the last layer (Daxberger et al. 2021,
arXiv:2106.14806). The layer must be at the maximum of likelihood times prior: trained with weight
decay λ on the mean loss of N examples, its prior precision is Nλ.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad, softmax

from trustml.bayes.checks import check_finite_entries, check_positive, check_real, check_whole
from trustml.bayes.curvature import Full, Kronecker
from trustml.bayes.noise import noise
from trustml.errors import BadInput, BadOption, NotApplicable

Structure = Literal["kronecker", "full"]
Bias = Literal["joint", "separate"]
Link = Literal["contrast", "probit", "bridge", "monte_carlo"]
LARGEST_FULL = 6000


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    """A Gaussian belief over the weight (K, D) and bias (K,) of a softmax layer.

    It is held in float64; what it says of features comes in the type of the features.
    """

    weight: Tensor
    bias: Tensor
    weights: Kronecker | Full
    # Set where the bias has a block of its own; else `weights` has a column for it, the last.
    biases: Kronecker | None

    @property
    def prior_precision(self) -> float:
        """The precision of the prior of each weight."""
        return self.weights.prior

    def logits(self, features: Tensor) -> Tensor:
        """Return the mean logits (B, K) at features (B, D)."""
        return features @ self.weight.T.to(features) + self.bias.to(features)

    def logit_variances(self, features: Tensor) -> Tensor:
        """Return the variance (B, K) of each logit at features (B, D)."""
        if self.biases is None:
            return self.weights.variances(_with_one(features))
        return self.weights.variances(features) + self.biases.variances(features.new_ones(1, 1))

    def contrast_variances(self, features: Tensor) -> Tensor:
        """Return the variance (B, K) of each logit without that of a shift common to them all."""
        if self.biases is None:
            return self.weights.contrasts(_with_one(features))
        return self.weights.contrasts(features) + self.biases.contrasts(features.new_ones(1, 1))

    def logit_covariance(self, features: Tensor) -> Tensor:
        """Return the covariance (B, K, K) of the logits at features (B, D)."""
        if self.biases is None:
            return self.weights.covariance(_with_one(features))
        return self.weights.covariance(features) + self.biases.covariance(features.new_ones(1, 1))

    def draw(self, number: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return weight (K, D) and bias (K,) of draw `number`: the same always."""
        drawn = self.weights.draw(f"{seed}/{number}/weight")
        if self.biases is None:
            return self.weight + drawn[:, :-1], self.bias + drawn[:, -1]
        return self.weight + drawn, self.bias + self.biases.draw(f"{seed}/{number}/bias")[:, 0]

    def spectrum(self) -> Tensor:
        """Return every eigenvalue of the curvature, the prior not counted."""
        parts = [self.weights] if self.biases is None else [self.weights, self.biases]
        return torch.cat([part.spectrum() for part in parts])


def fit_last_layer(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    structure: Structure = "kronecker",
    bias_block: Bias = "joint",
    prior_precision: float | None = None,
) -> LastLayer:
    """Return the belief over a trained layer from the features (N, D) of its training data.

    Args:
        features: what the layer reads, for every training example.
        structure: "full" is the exact generalised Gauss-Newton curvature of the layer, whose cost
            grows with (K·D)³; "kronecker" factors it, and is cheap for any width.
        bias_block: "joint" counts how weights and bias trade off; "separate" gives the bias a
            Kronecker block of its own, as laplace-torch does.
        prior_precision: of each weight; None takes the one of greatest evidence.

    Raises:
        BadInput: shapes that do not fit, no rows, or values that are not finite.
        BadOption: an unknown structure or bias block, or a prior precision not above 0.
        NotApplicable: the full curvature is too large to decompose.
    """
    _check(features, weight, bias, structure, bias_block)
    h, w, b = (tensor.detach().double() for tensor in (features, weight, bias))
    if prior_precision is not None:
        check_positive(prior_precision=prior_precision)
    probabilities = softmax(h @ w.T + b, dim=1)
    if structure == "full":
        values, vectors = _full(_with_one(h), probabilities)
        prior = prior_precision or _best_prior(values, w, b)
        root = vectors / (values + prior).sqrt()
        inverse = (root @ root.T).view(len(b), -1, len(b), h.shape[1] + 1)
        return LastLayer(w, b, Full(values, root, inverse, prior), None)
    inputs = _with_one(h) if bias_block == "joint" else h
    classes, factors = _classes(probabilities), _decompose(inputs.T @ inputs / len(h))
    one = _decompose(h.new_ones(1, 1))
    biases = Kronecker(classes, one, 1.0) if bias_block == "separate" else None
    layer = LastLayer(w, b, Kronecker(classes, factors, 1.0), biases)
    prior = prior_precision or _best_prior(layer.spectrum(), w, b)
    biases = replace(biases, prior=prior) if biases else None
    return replace(layer, weights=Kronecker(classes, factors, prior), biases=biases)


def predict(
    layer: LastLayer,
    features: Tensor,
    *,
    link: Link = "contrast",
    draws: int = 100,
    seed: int = 0,
) -> Tensor:
    """Return the mean class probabilities (B, K) over the belief, at features (B, D).

    Args:
        link: "contrast" divides each logit by √(1 + π/8 variance) before the softmax, with the
            variance that a softmax sees; "probit" takes the logit's whole variance, as is usual:
            it counts a shift common to all logits too, and is far too unsure where the prior is
            wide and features are long; "bridge" maps the Gaussian to a Dirichlet (Hobbhahn et al.
            2022, arXiv:2003.01227); "monte_carlo" averages `draws` softmaxes, the same draws for
            every row.

    Raises:
        BadOption: an unknown link, or no draws.
        BadInput: features of the wrong shape, or not finite.
    """
    _check_features(layer, features)
    mean = layer.logits(features)
    if link in ("contrast", "probit"):
        seen = layer.contrast_variances if link == "contrast" else layer.logit_variances
        return softmax(mean / (1 + math.pi / 8 * seen(features)).sqrt(), dim=1)
    if link == "bridge":
        return _bridge(mean.double(), layer.logit_covariance(features.double())).to(mean)
    if link != "monte_carlo":
        raise BadOption(f"link={link!r} is not allowed: {', '.join(get_args(Link))}")
    check_whole(1, draws=draws)
    root = torch.linalg.cholesky(layer.logit_covariance(features.double())).to(mean)
    total = torch.zeros_like(mean)
    for number in range(draws):
        total += softmax(mean + root @ noise(f"{seed}/{number}/link", mean[0]), dim=1)
    return total / draws


def log_evidence(layer: LastLayer, features: Tensor, y: Tensor) -> float:
    """Return the Laplace approximation of log p(y | features, prior precision).

    Raises:
        BadInput: shapes that do not fit, features that are not finite, or labels that are none.
    """
    _check_features(layer, features)
    check_real(labels=y)
    logits = layer.logits(features.double())
    if y.is_floating_point() or not bool(((y >= 0) & (y < len(layer.bias))).all()):
        raise BadInput(f"labels must be whole numbers from 0 to {len(layer.bias) - 1}")
    if y.shape != logits.shape[:1]:
        raise BadInput(f"labels {tuple(y.shape)} do not fit features {tuple(features.shape)}")
    likelihood = -float(cross_entropy(logits, y, reduction="sum"))
    prior = torch.tensor([layer.prior_precision])
    return likelihood + float(_occam(layer.spectrum(), _square(layer.weight, layer.bias), prior))


def _classes(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the decomposed Σ (diag p - p pᵀ), the curvature of the logits."""
    return _decompose(torch.diag(probabilities.sum(0)) - probabilities.T @ probabilities)


def _full(h: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the decomposed Σ (diag p - p pᵀ) ⊗ h hᵀ, class-major."""
    classes, width = probabilities.shape[1], h.shape[1]
    if classes * width > LARGEST_FULL:
        raise NotApplicable(
            f"full Laplace of {classes} classes x {width} features decomposes a matrix of "
            f"{classes * width} rows, more than {LARGEST_FULL}: use structure=kronecker"
        )
    hessian = h.new_empty(classes, width, classes, width)
    for i in range(classes):
        for j in range(i + 1):
            share = probabilities[:, i] * (float(i == j) - probabilities[:, j])
            block = (h * share[:, None]).T @ h
            hessian[i, :, j] = hessian[j, :, i] = block
    return _decompose(hessian.view(classes * width, -1))


def _decompose(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values.clamp_min(0), vectors  # rounding can leave -1e-17 where the truth is 0


def _best_prior(values: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Return the prior precision of greatest evidence: a grid over decades, then finer ones."""
    square, low, high = _square(weight, bias), -8.0, 8.0
    for _ in range(6):
        grid = torch.logspace(low, high, 41, dtype=torch.float64, device=values.device)
        step = (high - low) / 40
        centre = low + int(_occam(values, square, grid).argmax()) * step
        if abs(centre) > 8 - 1e-6:
            raise BadInput(
                "the evidence has no best prior precision between 1e-8 and 1e8 "
                "(weights all zero, or features all zero?): give prior_precision"
            )
        low, high = centre - step, centre + step
    return float(10**centre)


def _square(weight: Tensor, bias: Tensor) -> float:
    return float((weight**2).sum() + (bias**2).sum())


def _occam(values: Tensor, square: float, prior: Tensor) -> Tensor:
    """Return what the prior adds to the log likelihood, for each precision: the Occam factor."""
    prior = prior.to(values)
    volume = torch.stack([torch.log1p(values / p).sum() for p in prior])
    return -0.5 * (prior * square + volume)


def _bridge(mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the mean of the Dirichlet that the Laplace bridge assigns to Gaussian logits."""
    # The map is defined for logits that sum to zero: condition the Gaussian on that.
    rows = covariance.sum(2)
    total = rows.sum(1, keepdim=True)
    mean = mean - rows * mean.sum(1, keepdim=True) / total
    variances = covariance.diagonal(dim1=1, dim2=2) - rows**2 / total
    classes = mean.shape[1]
    # alpha = (1 - 2/K + exp(mean) Σ exp(-mean) / K²) / variance; scaled, so that nothing overflows.
    exponent = mean + torch.logsumexp(-mean, dim=1, keepdim=True)
    top = exponent.amax(1, keepdim=True)
    alpha = ((1 - 2 / classes) * (-top).exp() + (exponent - top).exp() / classes**2) / variances
    return alpha / alpha.sum(1, keepdim=True)


def _with_one(h: Tensor) -> Tensor:
    return pad(h, (0, 1), value=1.0)


def _check_features(layer: LastLayer, features: Tensor) -> None:
    check_finite_entries(features=features)
    if features.ndim != 2 or features.shape[1] != layer.weight.shape[1]:
        raise BadInput(
            f"features {tuple(features.shape)}: the layer reads (B, {layer.weight.shape[1]})"
        )


def _check(features: Tensor, weight: Tensor, bias: Tensor, structure: str, block: str) -> None:
    if structure not in get_args(Structure) or block not in get_args(Bias):
        raise BadOption(
            f"structure={structure!r}, bias_block={block!r}: allowed are "
            f"{', '.join(get_args(Structure))} and {', '.join(get_args(Bias))}"
        )
    check_real(features=features, weight=weight, bias=bias)
    fits = features.ndim == weight.ndim == 2 and features.shape[1:] == weight.shape[1:]
    if not fits or bias.shape != weight.shape[:1] or not len(features):
        raise BadInput(
            f"features {tuple(features.shape)}, weight {tuple(weight.shape)}, bias "
            f"{tuple(bias.shape)}: give (N, D), (K, D) and (K,), N at least 1"
        )
    check_finite_entries(features=features, weight=weight, bias=bias)
