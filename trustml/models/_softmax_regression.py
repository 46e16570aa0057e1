"""Four ways to fit softmax regression; each yields weights (K, D) and biases (K,) as they improve.

All minimise the same convex function: mean cross-entropy + l2/2 · the sum of squared weights (the
biases are free), so that they end at the same place up to what the number of epochs allows.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from trustml.contracts import Training
from trustml.errors import MissingPackage

Floats = NDArray[np.float64]
Fitted = tuple[Tensor, Tensor]
# Beyond this many numbers a second copy in float64 costs more memory than its digits are worth.
DOUBLE_LIMIT = 50_000_000
CHUNK = 5
MOMENTUM = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Inputs x (B, D), labels y (B,), the classes, the penalty's strength, and how to fit."""

    x: Tensor
    y: Tensor
    classes: int
    l2: float
    training: Training
    seed: int


def by_torch(problem: Problem) -> Iterator[Fitted]:
    """Yield weights after every few iterations of L-BFGS on all samples; each is an epoch."""
    precise = problem.x.numel() <= DOUBLE_LIMIT and problem.x.device.type != "mps"
    x = problem.x.double() if precise else problem.x
    weight = torch.zeros(problem.classes, x.shape[1], dtype=x.dtype, device=x.device)
    bias = weight.new_zeros(problem.classes)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    solver = torch.optim.LBFGS(
        parameters, max_iter=CHUNK, max_eval=5 * CHUNK, history_size=20, tolerance_grad=1e-9,
        tolerance_change=0.0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        solver.zero_grad()
        fitted = cross_entropy(x @ weight.T + bias, problem.y)
        value = fitted + 0.5 * problem.l2 * weight.square().sum()
        value.backward()
        return value

    before = math.inf
    for _ in range(math.ceil(problem.training.epochs / CHUNK)):
        now = float(solver.step(loss).detach())
        yield weight.detach(), bias.detach()
        # A step that moves the loss by less than its last digits is the end.
        if not before - now > 1e-13 * abs(now):
            return
        before = now


def by_sklearn(problem: Problem) -> Iterator[Fitted]:
    """Yield the weights of scikit-learn's LogisticRegression; an epoch is one of its iterations."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # Of two classes scikit-learn penalises the difference, whose square is twice that of both rows.
    penalty = problem.l2 / 2 if len(problem.y.unique()) == 2 else problem.l2
    strength = 1 / (penalty * len(problem.x)) if penalty else math.inf
    solver = LogisticRegression(C=strength, max_iter=problem.training.epochs, tol=1e-6)
    with warnings.catch_warnings():
        # The number of epochs is the caller's; stopping there is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(problem.x.cpu().double().numpy(), problem.y.cpu().numpy())
    weight, bias = torch.as_tensor(solver.coef_), torch.as_tensor(solver.intercept_)
    if len(solver.classes_) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = torch.cat([-weight / 2, weight / 2]), torch.cat([-bias / 2, bias / 2])
    # Classes that no sample has stay at the bottom.
    full = torch.zeros(problem.classes, weight.shape[1], dtype=weight.dtype)
    low = torch.full((problem.classes,), -30.0, dtype=bias.dtype)
    rows = torch.as_tensor(solver.classes_)
    full[rows], low[rows] = weight, bias
    yield full, low


def by_numpy(problem: Problem) -> Iterator[Fitted]:
    """Yield weights after every epoch of minibatch descent with momentum, by hand."""
    x, y = problem.x.cpu().numpy(), problem.y.cpu().numpy()
    weight = np.zeros((x.shape[1], problem.classes))
    bias = np.zeros(problem.classes)
    rate = _rate(problem)
    generator = np.random.default_rng(problem.seed)
    size = problem.training.batch_size
    steps = math.ceil(len(x) / size) * problem.training.epochs
    step, speed_weight, speed_bias = 0, np.zeros_like(weight), np.zeros_like(bias)
    for _ in range(problem.training.epochs):
        order = generator.permutation(len(x))
        for start in range(0, len(x), size):
            rows = order[start : start + size]
            slope_weight, slope_bias = gradients(weight, bias, x[rows].astype(np.float64), y[rows])
            speed_weight = MOMENTUM * speed_weight - rate(step / steps) * (
                slope_weight + problem.l2 * weight
            )
            speed_bias = MOMENTUM * speed_bias - rate(step / steps) * slope_bias
            weight += speed_weight
            bias += speed_bias
            step += 1
        yield torch.from_numpy(weight.T.copy()), torch.from_numpy(bias.copy())


def gradients(
    weight: Floats, bias: Floats, x: Floats, y: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Return the slopes of the mean cross-entropy: xᵀ(softmax(xW + b) - Y)/B and its mean.

    Args:
        weight: (D, K).
        bias: (K,).
        x: inputs (B, D).
        y: labels (B,).
    """
    scores = x @ weight + bias
    scores -= scores.max(axis=1, keepdims=True)  # softmax is the same, and cannot overflow
    residual = np.exp(scores)
    residual /= residual.sum(axis=1, keepdims=True)
    residual[np.arange(len(y)), y] -= 1
    return x.T @ residual / len(x), residual.mean(axis=0)


def by_keras(problem: Problem) -> Iterator[Fitted]:
    """Yield the weights of a Keras Dense layer fitted by the same minibatch descent, at the end.

    Raises:
        MissingPackage: Keras is not installed, or runs on another backend than torch.
    """
    if not os.environ.get("KERAS_BACKEND"):  # read when Keras is first imported
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise MissingPackage.of("keras", "keras", "logistic:solver=keras") from error
        raise _other_backend(os.environ["KERAS_BACKEND"]) from error
    if keras.backend.backend() != "torch":
        raise _other_backend(keras.backend.backend())
    x, y = problem.x.cpu().numpy(), problem.y.cpu().numpy()
    training, rate = problem.training, _rate(problem)
    steps = math.ceil(len(x) / training.batch_size) * training.epochs
    keras.utils.set_random_seed(problem.seed)
    penalty = keras.regularizers.L2(problem.l2 / 2)
    layer = keras.layers.Dense(
        problem.classes, kernel_initializer="zeros", kernel_regularizer=penalty
    )
    network = keras.Sequential([keras.Input((x.shape[1],)), layer])
    network.compile(
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(rate(0.0), steps), momentum=MOMENTUM
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    network.fit(x, y, batch_size=training.batch_size, epochs=training.epochs, verbose=0)
    yield layer.kernel.value.detach().T, layer.bias.value.detach()


def _other_backend(backend: str) -> MissingPackage:
    return MissingPackage(
        f"logistic:solver=keras needs Keras on torch, and here it is set to {backend}: "
        f"set KERAS_BACKEND=torch, before anything else imports keras"
    )


def _rate(problem: Problem) -> Callable[[float], float]:
    """Return the step size by the share of the way gone: along a cosine from the peak to 0.

    The peak is the asked one, but never above 1/L, where L = λmax(XᵀX/B)/2 + l2 bounds the
    curvature (Böhning 1992): descent with a longer step may diverge.
    """
    x = problem.x.float()
    direction = torch.ones(x.shape[1] + 1, device=x.device)
    curvature = 1.0
    for _ in range(20):
        direction = direction / direction.norm().clamp_min(1e-30)
        seen = x @ direction[:-1] + direction[-1]
        direction = torch.cat([x.T @ seen, seen.sum()[None]]) / len(x)
        curvature = float(direction.norm())
    peak = min(problem.training.learning_rate, 1 / (curvature / 2 + problem.l2))
    return lambda gone: peak * 0.5 * (1 + math.cos(math.pi * gone))


SOLVERS: Mapping[str, Callable[[Problem], Iterator[Fitted]]] = {
    "torch": by_torch,
    "sklearn": by_sklearn,
    "numpy": by_numpy,
    "keras": by_keras,
}
