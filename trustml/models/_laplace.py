"""Laplace approximation over all weights: Kronecker-factored curvature, linearised predictions."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from trustml.bayes.curvature import Kronecker
from trustml.contracts import Epoch, Split, Training
from trustml.models._bayesian import Memory, log_mean_probability, temper
from trustml.models._linearised import Change, Weighted, leaves, linearised
from trustml.models._network import Network
from trustml.models._penalised import Penalised
from trustml.training import fit

FIT_BATCH = 256


class Laplace(nn.Module):
    """A network at its maximum, with a Gaussian belief of one Kronecker block a layer.

    A draw is the network's first-order expansion at the drawn weights (Immer et al. 2021,
    arXiv:2008.08216): the curvature belongs to that expansion, and the network itself, at drawn
    weights, is far off.
    """

    precision: Tensor
    temperature: Tensor

    def __init__(
        self, network: Network, draws: int, temperature: float | None, prior_scale: float | None
    ) -> None:
        super().__init__()
        self.network, self.draws = network, draws
        self.prior_scale, self.tempers = prior_scale, temperature is None
        self.register_buffer("temperature", torch.tensor(temperature or 1.0, dtype=torch.float64))
        self._memory: Memory[list[Change]] = Memory()
        # Before it has seen data the belief is the prior around the first weights.
        for number, layer in enumerate(self._layers()):
            for side, size in (("out", len(layer.weight)), ("in", layer.weight[0].numel() + 1)):
                self.register_buffer(f"{side}_values{number}", torch.zeros(size).double())
                self.register_buffer(f"{side}_vectors{number}", torch.eye(size).double())
        self.register_buffer("precision", torch.tensor((prior_scale or 1.0) ** -2).double())

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability over the draws, (B, K)."""
        return log_mean_probability(self.sample_logits(x, self.draws))

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads in the network at the maximum, (B, D)."""
        return self.network.features(x)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K): f(x) + J(x)·(drawn - best weights)."""
        changes = self._memory(self, draws, lambda: self._changes(draws))
        return linearised(self.network, x, changes)

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Train the network under the prior, and see the curvature at the maximum."""
        penalised = Penalised(self.network, float(self.precision))
        curve = fit(penalised, train, validation, training, seed)
        for number, (outputs, inputs) in enumerate(curvature(self.network, train)):
            for side, matrix in (("out", outputs), ("in", inputs)):
                values, vectors = torch.linalg.eigh(matrix)
                self.get_buffer(f"{side}_values{number}").copy_(values.clamp_min(0))
                self.get_buffer(f"{side}_vectors{number}").copy_(vectors)
        if self.prior_scale is None:
            self.precision.fill_(self._best_precision())
        if self.tempers:
            temper(self, self.temperature, validation)
        return curve

    def blocks(self) -> list[Kronecker]:
        """Return the belief over each layer's weights, the bias their last column."""
        found = []
        for number in range(len(self._layers())):
            outputs, inputs = (
                (
                    self.get_buffer(f"{side}_values{number}"),
                    self.get_buffer(f"{side}_vectors{number}"),
                )
                for side in ("out", "in")
            )
            found.append(Kronecker(outputs, inputs, float(self.precision)))
        return found

    def _layers(self) -> list[Weighted]:
        return [layer for layer in leaves(self.network) if isinstance(layer, Weighted)]

    def _changes(self, draws: int) -> list[Change]:
        """Return what each draw adds to the weight and bias of each layer."""
        changes = []
        for place, (layer, block) in enumerate(zip(self._layers(), self.blocks(), strict=True)):
            drawn = torch.stack([block.draw(f"0/{number}/{place}") for number in range(draws)])
            drawn = (self.temperature.sqrt() * drawn).to(layer.weight)
            changes.append((drawn[..., :-1].unflatten(2, layer.weight.shape[1:]), drawn[..., -1]))
        return changes

    def _best_precision(self) -> float:
        """Return the prior precision of greatest evidence, on a grid that closes in on it."""
        values = torch.cat([block.spectrum() for block in self.blocks()])
        square = sum(float(weight.detach().double().square().sum()) for weight in self.parameters())
        low, high = -6.0, 6.0
        for _ in range(4):
            grid = torch.logspace(low, high, 25, dtype=torch.float64).tolist()
            evidence = [-0.5 * (p * square + float(torch.log1p(values / p).sum())) for p in grid]
            step = (high - low) / 24
            centre = low + evidence.index(max(evidence)) * step
            low, high = centre - step, centre + step
        return float(10**centre)


def curvature(network: Network, train: Split) -> list[tuple[Tensor, Tensor]]:
    """Return for each layer the sum of its output slopes squared, and the mean of inputs squared.

    The slopes are those of a square root of the softmax's curvature, a class at a time, so that
    their squares sum to the generalised Gauss-Newton matrix. For a convolution inputs are summed
    and slopes averaged over places (Grosse, Martens 2016, arXiv:1602.01407).
    """
    layers = [layer for layer in leaves(network) if isinstance(layer, Weighted)]
    sums: list[tuple[Tensor, Tensor]] = []
    for part in train.batches(FIT_BATCH):
        inputs, outputs, logits = _run(network, part.x)
        slopes = _slopes(logits, outputs)
        found = []
        for layer, read, slope in zip(layers, inputs, slopes, strict=True):
            rows, places = _rows(layer, read)
            found.append((slope.T @ slope / places, rows.T @ rows / len(train)))
        both = zip(sums, found, strict=True) if sums else ()
        sums = [(a + c, b + d) for (a, b), (c, d) in both] or found
    return sums


def _run(network: Network, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return inputs and outputs of the layers with weights, and the logits."""
    inputs, outputs, value = [], [], network.scale(x)
    for layer in leaves(network):
        if isinstance(layer, Weighted):
            inputs.append(value.detach())
        value = layer(value)
        if isinstance(layer, Weighted):
            outputs.append(value)
    return inputs, outputs, value


def _slopes(logits: Tensor, outputs: list[Tensor]) -> list[Tensor]:
    """Return for each layer's outputs the slopes along every class's root, (K·B·places, O)."""
    p = logits.softmax(1).detach()
    found: list[list[Tensor]] = [[] for _ in outputs]
    for k in range(logits.shape[1]):
        root = -p[:, k : k + 1].sqrt() * p
        root[:, k] += p[:, k].sqrt()
        slopes = torch.autograd.grad(logits, outputs, root, retain_graph=True)
        for kept, slope in zip(found, slopes, strict=True):
            kept.append(slope.movedim(1, -1).flatten(0, -2).double())
    return [torch.cat(kept) for kept in found]


def _rows(layer: Weighted, inputs: Tensor) -> tuple[Tensor, int]:
    """Return what each output place reads, with a one for the bias, and how many places."""
    if isinstance(layer, nn.Linear):
        return pad(inputs.double(), (0, 1), value=1.0), 1
    assert isinstance(layer.padding, tuple)
    patches = unfold(inputs.double(), layer.kernel_size, 1, layer.padding, layer.stride)
    return pad(patches.transpose(1, 2).flatten(0, 1), (0, 1), value=1.0), patches.shape[2]
