"""Laplace approximation over the last layer of a trained network, in closed form."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, pad

from trustml.bayes.curvature import Kronecker
from trustml.bayes.laplace import LastLayer, fit_last_layer, log_evidence
from trustml.contracts import Epoch, Split, Training
from trustml.models._bayesian import temper
from trustml.models._network import Network
from trustml.models._penalised import Penalised
from trustml.training import EVALUATION_BATCH, fit

# Where the prior precision of greatest evidence is looked for, in powers of ten.
DECADES = (-4.0, 4.0)


class LaplaceLastLayer(nn.Module):
    """A network and the Kronecker-factored belief over its head; an answer needs no draws."""

    class_values: Tensor
    class_vectors: Tensor
    feature_values: Tensor
    feature_vectors: Tensor
    precision: Tensor
    temperature: Tensor

    def __init__(
        self, network: Network, draws: int, temperature: float | None, prior_scale: float | None
    ) -> None:
        super().__init__()
        self.network, self.draws = network, draws
        self.prior_scale, self.tempers = prior_scale, temperature is None
        self.register_buffer("temperature", torch.tensor(temperature or 1.0, dtype=torch.float64))
        classes, width = network.head.weight.shape
        # Before it has seen data the belief is the prior around the first weights.
        for name, size in (("class", classes), ("feature", width + 1)):
            self.register_buffer(f"{name}_values", torch.zeros(size, dtype=torch.float64))
            self.register_buffer(f"{name}_vectors", torch.eye(size, dtype=torch.float64))
        precision = torch.tensor((prior_scale or 1.0) ** -2, dtype=torch.float64)
        self.register_buffer("precision", precision)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability (B, K), by the contrasts' probit approximation."""
        h, layer = self.features(x), self.belief()
        variances = self.temperature.to(h) * layer.contrast_variances(h)
        return log_softmax(layer.logits(h) / (1 + math.pi / 8 * variances).sqrt(), dim=1)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (B, D)."""
        return self.network.features(x)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K) of drawn heads on the same features."""
        h, layer, spread = self.features(x), self.belief(), self.temperature.sqrt()
        weights, biases = zip(*(layer.draw(number) for number in range(draws)), strict=True)
        weight = layer.weight + spread * (torch.stack(weights) - layer.weight)
        bias = layer.bias + spread * (torch.stack(biases) - layer.bias)
        return torch.matmul(h, weight.transpose(1, 2).to(h)) + bias[:, None].to(h)

    def belief(self) -> LastLayer:
        """Return the belief over the head that the buffers hold."""
        factors = (
            (self.class_values, self.class_vectors),
            (self.feature_values, self.feature_vectors),
        )
        head = self.network.head
        around = head.weight.detach().double(), head.bias.detach().double()
        return LastLayer(*around, Kronecker(*factors, float(self.precision)), None)

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Train the network under the prior, bring its head to the maximum, see the curvature."""
        precision = float(self.precision)
        curve = fit(Penalised(self.network, precision), train, validation, training, seed)
        with torch.no_grad():
            parts = [self.features(part.x) for part in train.batches(EVALUATION_BATCH)]
        h, head = torch.cat(parts), self.network.head
        if self.prior_scale is None:
            precision = best_precision(head, h, train.y)
        layer = at_maximum(head, h, train.y, precision)
        assert isinstance(layer.weights, Kronecker)
        found = zip(
            ("class", "feature"), (layer.weights.classes, layer.weights.features), strict=True
        )
        for name, (values, vectors) in found:
            getattr(self, f"{name}_values").copy_(values)
            getattr(self, f"{name}_vectors").copy_(vectors)
        self.precision.fill_(precision)
        if self.tempers:
            temper(self, self.temperature, validation)
        return curve


def best_precision(head: nn.Linear, h: Tensor, y: Tensor) -> float:
    """Return the prior precision whose own maximum has the greatest evidence; moves the head.

    The head goes along to each precision's maximum: with the weights held, the evidence favours
    the precision that they were found with.
    """
    from scipy.optimize import minimize_scalar

    def lack(decade: float) -> float:
        return -log_evidence(at_maximum(head, h, y, 10**decade), h, y)

    found = minimize_scalar(lack, bounds=DECADES, method="bounded", options={"xatol": 0.02})
    return 10 ** float(found.x)


def at_maximum(head: nn.Linear, h: Tensor, y: Tensor, precision: float) -> LastLayer:
    """Move the head to the maximum under the precision, and return the belief around it."""
    to_maximum(head, h, y, precision)
    return fit_last_layer(h, head.weight, head.bias, prior_precision=precision)


def to_maximum(head: nn.Linear, h: Tensor, y: Tensor, precision: float) -> None:
    """Move the head to the maximum of likelihood times prior at features h (N, D), in place.

    The function is convex, so that L-BFGS in float64 finds the one maximum.
    """
    rows = pad(h.double(), (0, 1), value=1.0)
    start = torch.cat([head.weight, head.bias[:, None]], 1).detach().double()
    weight = start.requires_grad_()
    solver = torch.optim.LBFGS(
        [weight], max_iter=200, history_size=20, tolerance_grad=1e-8, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        value = cross_entropy(rows @ weight.T, y)
        value = value + precision / (2 * len(h)) * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    with torch.no_grad():
        head.weight.copy_(weight[:, :-1])
        head.bias.copy_(weight[:, -1])
