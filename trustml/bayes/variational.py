"""Layers with a Gaussian belief over each weight: w = μ + softplus(ρ)·ε, ε ~ N(0, 1)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, softplus

from trustml.bayes.checks import check_positive, check_whole
from trustml.bayes.noise import noise
from trustml.errors import BadOption, NotApplicable

Estimator = Literal["weights", "local", "flipout"]
Drawn = tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True)
class VariationalOptions:
    """What a variational layer starts from, and how it adds noise while it learns.

    Args:
        prior_scale: standard deviation of the N(0, prior_scale²) prior of every weight and bias.
        initial_scale: standard deviation of every weight before training. Near 0.001 a network
            trains like a deterministic one; near 1 the noise drowns the signal.
        estimator: "weights" draws one network a batch. "local" draws the layer's outputs instead
            (Kingma et al. 2015, arXiv:1506.02557): least variance; for a convolution it draws each
            pixel by itself, so the correlation of pixels that share a weight is lost. "flipout"
            draws one network a batch and flips its signs for each sample (Wen et al. 2018,
            arXiv:1803.04386): nearly independent noise, exact for both kinds of layer.

    Raises:
        BadOption: a scale that is not above 0, or an unknown estimator.
    """

    prior_scale: float = 1.0
    initial_scale: float = 0.03
    estimator: Estimator = "flipout"

    def __post_init__(self) -> None:
        check_positive(prior_scale=self.prior_scale, initial_scale=self.initial_scale)
        if self.estimator not in get_args(Estimator):
            raise BadOption(
                f"estimator={self.estimator!r} is not allowed: {', '.join(get_args(Estimator))}"
            )


class GaussianWeights(nn.Module):
    """A tensor of independent Gaussian weights; `mean` and `rho` are learnt."""

    def __init__(self, mean: Tensor, options: VariationalOptions) -> None:
        """Start at `mean` with the options' initial scale."""
        super().__init__()
        self.mean = nn.Parameter(mean)
        rho = options.initial_scale + math.log(-math.expm1(-options.initial_scale))
        self.rho = nn.Parameter(torch.full_like(mean, rho))
        self.prior_scale = options.prior_scale

    @property
    def scale(self) -> Tensor:
        """The standard deviation of each weight."""
        return softplus(self.rho)

    def noise(self) -> Tensor:
        """Return what a fresh draw adds to the mean, from torch's global random numbers."""
        return self.scale * torch.randn_like(self.mean)

    def draw(self, key: str) -> Tensor:
        """Return the weights that belong to the key: the same always and on every device."""
        return self.mean + self.scale * noise(key, self.mean)

    def kl(self) -> Tensor:
        """Return KL(q ‖ prior), exact, summed over the weights."""
        scale = self.scale / self.prior_scale
        square = scale**2 + (self.mean / self.prior_scale) ** 2
        return (0.5 * (square - 1) - scale.log()).sum()


class LayerBelief(nn.Module):
    """The weight and bias of one layer, the held draw if there is one, and how noise is added."""

    def __init__(self, weight: Tensor, bias: Tensor | None, options: VariationalOptions) -> None:
        """Start at the given means."""
        super().__init__()
        self.weight = GaussianWeights(weight.detach(), options)
        self.bias = None if bias is None else GaussianWeights(bias.detach(), options)
        self.estimator = options.estimator
        self.held: Drawn | None = None

    def means(self) -> Drawn:
        """Return the mean weight and bias."""
        return self.weight.mean, None if self.bias is None else self.bias.mean

    def variances(self) -> Drawn:
        """Return the variance of each weight and bias."""
        return self.weight.scale**2, None if self.bias is None else self.bias.scale**2

    def noise(self) -> Drawn:
        """Return what one fresh draw adds to the means, from torch's global random numbers."""
        return self.weight.noise(), None if self.bias is None else self.bias.noise()

    def draw(self, number: int, seed: int, position: int) -> Drawn:
        """Return weight and bias of draw `number`; `position` tells a network's layers apart."""
        key = f"{seed}/{number}/{position}"
        bias = None if self.bias is None else self.bias.draw(f"{key}/bias")
        return self.weight.draw(f"{key}/weight"), bias

    def shared(self) -> Drawn | None:
        """Return the weights of the whole batch, or None where each sample has its own noise."""
        if self.held is not None:
            return self.held
        if not self.training:
            return self.means()
        if self.estimator == "weights":
            bias = None if self.bias is None else self.bias.mean + self.bias.noise()
            return self.weight.mean + self.weight.noise(), bias
        return None

    def kl(self) -> Tensor:
        """Return KL(q ‖ prior) summed over weight and bias."""
        return self.weight.kl() if self.bias is None else self.weight.kl() + self.bias.kl()


class LinearVariational(nn.Module):
    """x (…, in) → (…, out) through weights that are drawn.

    In train mode every call draws fresh noise. In eval mode it answers with the mean weights,
    unless `drawn(network, number)` holds a numbered draw: then with that one, in either mode.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        options: VariationalOptions | None = None,
    ) -> None:
        """Start the means as nn.Linear starts its weights.

        Raises:
            BadOption: a size below 1.
        """
        super().__init__()
        check_whole(1, in_features=in_features, out_features=out_features)
        plain = nn.Linear(in_features, out_features, bias)
        self.belief = LayerBelief(plain.weight, plain.bias, options or VariationalOptions())
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (…, out) under the held, the fresh or the mean weights."""
        weights = self.belief.shared()
        if weights is not None:
            return linear(x, *weights)
        if self.belief.estimator == "local":
            return _normal(*self.moments(x))
        into, out = _signs(x, x.shape), _signs(x, (*x.shape[:-1], self.out_features))
        return linear(x, *self.belief.means()) + linear(x * into, *self.belief.noise()) * out

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance (…, out) of the outputs over all draws, exactly."""
        return linear(x, *self.belief.means()), linear(x**2, *self.belief.variances())


class Conv2dVariational(nn.Module):
    """x (B, in, H, W) → (B, out, H', W') through drawn filters; modes as in LinearVariational."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        options: VariationalOptions | None = None,
    ) -> None:
        """Start the means as nn.Conv2d starts its weights.

        Raises:
            BadOption: a size below 1.
        """
        super().__init__()
        check_whole(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)
        self.belief = LayerBelief(plain.weight, plain.bias, options or VariationalOptions())
        self.out_channels, self.stride, self.padding = out_channels, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (B, out, H', W') under the held, the fresh or the mean filters."""
        weights = self.belief.shared()
        if weights is not None:
            return self._convolve(x, weights)
        if self.belief.estimator == "local":
            return _normal(*self.moments(x))
        into, out = _signs(x, (*x.shape[:2], 1, 1)), _signs(x, (len(x), self.out_channels, 1, 1))
        noise = self._convolve(x * into, self.belief.noise()) * out
        return self._convolve(x, self.belief.means()) + noise

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance (B, out, H', W') of each output over all draws."""
        variance = self._convolve(x**2, self.belief.variances())
        return self._convolve(x, self.belief.means()), variance

    def _convolve(self, x: Tensor, weights: Drawn) -> Tensor:
        return conv2d(x, *weights, stride=self.stride, padding=self.padding)


def kl(network: nn.Module) -> Tensor:
    """Return KL(q ‖ prior) of a layer or a whole network, in nats.

    The loss per example is the mean negative log likelihood plus this over the number of training
    examples (not of batches, layers or weights).

    Raises:
        NotApplicable: the network has no variational layer.
    """
    return torch.stack([belief.kl() for belief in _beliefs(network)]).sum()


@contextmanager
def drawn(network: nn.Module, number: int, *, seed: int = 0) -> Iterator[nn.Module]:
    """Hold draw `number` inside the block: the network is one deterministic network there.

    The same number and seed give the same network always, on every device. Gradients reach the
    means and scales. Afterwards the layers are as they were, also when the block raises.

    Raises:
        NotApplicable: the network has no variational layer.
    """
    beliefs = _beliefs(network)
    before = [belief.held for belief in beliefs]
    try:
        for position, belief in enumerate(beliefs):
            belief.held = belief.draw(number, seed, position)
        yield network
    finally:
        for belief, held in zip(beliefs, before, strict=True):
            belief.held = held


def _beliefs(network: nn.Module) -> list[LayerBelief]:
    beliefs = [module for module in network.modules() if isinstance(module, LayerBelief)]
    if not beliefs:
        raise NotApplicable(
            f"{type(network).__name__} has no variational layer: "
            "build it with LinearVariational or Conv2dVariational"
        )
    return beliefs


def _normal(mean: Tensor, variance: Tensor) -> Tensor:
    # The floor keeps the root's gradient finite where an input is all zeros and there is no bias.
    return mean + variance.clamp_min(1e-16).sqrt() * torch.randn_like(mean)


def _signs(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return fresh random signs, with the type and device of `like`."""
    return like.new_empty(shape).bernoulli_(0.5).mul_(2).sub_(1)
