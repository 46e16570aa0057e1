"""One way to fit a model: minibatches, early stop and progress, on the module's device."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from trustml.contracts import (
    Course,
    Epoch,
    OwnCourse,
    OwnFit,
    OwnLoss,
    Split,
    Training,
)
from trustml.errors import BadInput, BadOption, MethodFailed, TrustError
from trustml.progress import progress

EVALUATION_BATCH = 1000
# An own loss gives no logits, so its accuracy on the training split is read off this many samples.
TRAIN_ACCURACY_SAMPLES = 500
WARM_UP = 0.3
WORK_FOR_THREADS = 100_000_000


def fit(
    module: nn.Module, train: Split, validation: Split, training: Training, seed: int
) -> list[Epoch]:
    """Fit the module in place, leave it in eval mode, and return its curve.

    The loss is the cross-entropy, or the module's own (OwnLoss); an OwnFit module fits itself.
    With patience, the weights of the best validation loss are kept, else the last ones. Equal
    seeds give equal weights on one device; the global random state is left as it was.

    Raises:
        BadInput: an empty split.
        BadOption: an option of `training` that is out of range.
        MethodFailed: the loss is not a number, the device's memory does not hold a batch, or the
            module raised.
    """
    check_training(training)
    for name, split in (("training", train), ("validation", validation)):
        if not len(split):
            raise BadInput(f"the {name} split is empty: nothing to fit a model with")
    device = device_of(module)
    try:
        train, validation = train.to(device), validation.to(device)
        with seeded(seed), threads_for(module, train.x[: training.batch_size]):
            if isinstance(module, OwnFit):
                return module.fit(train, validation, training, seed)
            return _descend(module, train, validation, training, seed)
    except torch.OutOfMemoryError as error:
        raise MethodFailed(
            f"training does not fit in the memory of {device}: try a batch_size below "
            f"{training.batch_size}, or another --device"
        ) from error
    except TrustError:
        raise
    except Exception as error:  # a stranger's module may raise anything
        raise MethodFailed(f"training failed: {type(error).__name__}: {error}") from error
    finally:
        module.eval()
        module.zero_grad(set_to_none=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers inside the block, and put the former state back after it."""
    cards = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=cards):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads_for(module: nn.Module, batch: Tensor) -> Iterator[None]:
    """Use one thread inside the block where a batch is so little work that threads only wait.

    On a busy machine the waiting makes small models twenty times slower than one thread does.
    """
    before = torch.get_num_threads()
    if batch.device.type == "cpu" and _work(module, batch) < WORK_FOR_THREADS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(module: nn.Module) -> torch.device:
    """Return where the module's first parameter or buffer lives; the CPU if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def check_training(training: Training) -> None:
    """Refuse options that no fit can work with.

    Raises:
        BadOption: the first one that is out of range.
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 0), ("weight_decay", 0)):
        value = getattr(training, name)
        if not (math.isfinite(value) and value >= least):
            raise BadOption(f"{name}={value} is not allowed: it must be {least} or more")
    if not (math.isfinite(training.learning_rate) and training.learning_rate > 0):
        raise BadOption(
            f"learning_rate={training.learning_rate} is not allowed: it must be above 0"
        )


def evaluate(module: nn.Module, split: Split, examples: int | None = None) -> tuple[float, float]:
    """Return the mean loss and the accuracy of the module on the split, in eval mode.

    Args:
        examples: size of the training split, which an own loss asks for; the split's size if None.
    """
    module.eval()
    loss = torch.zeros((), device=split.x.device, dtype=torch.float64)
    right = torch.zeros((), device=split.x.device, dtype=torch.int64)
    with torch.no_grad():
        for part in split.batches(EVALUATION_BATCH):
            logits = module(part.x)
            if isinstance(module, OwnLoss):
                part_loss = module.training_loss(part.x, part.y, examples or len(split))
            else:
                part_loss = cross_entropy(logits, part.y)
            loss += part_loss.double() * len(part)
            right += (logits.argmax(1) == part.y).sum()
    return loss.item() / len(split), right.item() / len(split)


def _descend(
    module: nn.Module, train: Split, validation: Split, training: Training, seed: int
) -> list[Epoch]:
    """Run the epochs; stop early where patience says so."""
    # On the CPU, so that the order of the samples is the same whatever the device.
    order = torch.Generator().manual_seed(seed)
    steps = _steps(len(train), training.batch_size)
    course = _course(module, train, len(steps) * training.epochs, training, seed)
    curve: list[Epoch] = []
    best, best_weights, waited = math.inf, None, 0
    with progress("training", len(steps) * training.epochs) as advance:
        for epoch in range(training.epochs):
            rows = torch.randperm(len(train), generator=order).to(train.x.device)
            batches = (course.shown(train.at(rows[step]), epoch) for step in steps)
            fitted = _epoch(module, batches, course, len(train))
            curve.append(_point(module, train, validation, fitted))
            _check_finite(curve, training)
            advance(len(steps))
            if not training.patience:
                continue
            if curve[-1].validation_loss < best:
                best, waited = curve[-1].validation_loss, 0
                best_weights = {name: t.clone() for name, t in module.state_dict().items()}
            elif (waited := waited + 1) >= training.patience:
                break
    if best_weights is not None:
        module.load_state_dict(best_weights)
    return curve


def _steps(examples: int, batch_size: int) -> list[slice]:
    """Return an epoch's slices, without a last batch of one: it has no batch statistics."""
    steps = [slice(start, start + batch_size) for start in range(0, examples, batch_size)]
    alone = batch_size > 1 and len(steps) > 1 and examples % batch_size == 1
    return steps[:-1] if alone else steps


def _epoch(
    module: nn.Module,
    batches: Iterator[Split],
    course: Course,
    examples: int,
) -> tuple[float, float | None]:
    """Take one epoch's steps; return mean loss and accuracy on the way (None under an own loss)."""
    module.train()
    own, device = isinstance(module, OwnLoss), device_of(module)
    total, right, seen = torch.zeros((), dtype=torch.float32, device=device), 0, 0
    reduced = course.dtype != torch.float32
    for batch in batches:
        with torch.autocast(device.type, course.dtype if reduced else None, enabled=reduced):
            if isinstance(module, OwnLoss):
                loss = module.training_loss(batch.x, batch.y, examples)
            else:
                logits = module(batch.x)
                loss = cross_entropy(logits, batch.y, label_smoothing=course.smoothing)
                right = right + (logits.detach().argmax(1) == batch.y).sum()
        course.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        course.optimizer.step()
        course.stepped()
        total += loss.detach() * len(batch)
        seen += len(batch)
    # The only reads from the device in an epoch.
    return float(total) / seen, None if own else float(right) / seen


def _point(
    module: nn.Module, train: Split, validation: Split, fitted: tuple[float, float | None]
) -> Epoch:
    loss, accuracy = fitted
    if accuracy is None:
        accuracy = evaluate(module, train.at(slice(TRAIN_ACCURACY_SAMPLES)), len(train))[1]
    return Epoch(loss, accuracy, *evaluate(module, validation, len(train)))


def _check_finite(curve: list[Epoch], training: Training) -> None:
    if not math.isfinite(curve[-1].train_loss + curve[-1].validation_loss):
        raise MethodFailed(
            f"the training loss is not a finite number after epoch {len(curve)}: try a "
            f"learning_rate below {training.learning_rate}, or look for odd values in the data"
        )


def _work(module: nn.Module, batch: Tensor) -> int:
    """Return the operations of one pass; counted, not timed, so that every run decides alike."""
    module.eval()
    with _Count() as count, torch.no_grad():
        module(batch)
    return count.operations


class _Count(TorchDispatchMode):
    """Counts operations as torch's FlopCounterMode does, which forbids autograd.grad inside."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.known, self.operations = flop_registry, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        known = self.known.get(function.overloadpacket)
        if known:
            self.operations += known(*args, **(kwargs or {}), out_val=result)
        return result


def _course(module: nn.Module, train: Split, steps: int, training: Training, seed: int) -> Course:
    """Return the module's own course, or the usual one, of as many steps."""
    weights = _learnt(module)
    for part in module.modules():
        # A scaffold around it, such as a safeguard of the training, has no weights of its own.
        if isinstance(part, OwnCourse) and _same(_learnt(part), weights):
            return part.course(train, steps, training, seed)
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        fused = device_of(module).type in ("cpu", "cuda")
        adam = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=fused)
        return Course(adam, lambda: None)
    sgd = torch.optim.SGD(weights, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, lambda step: _one_cycle(step, steps))
    return Course(sgd, schedule.step)


def _learnt(module: nn.Module) -> list[Tensor]:
    return [weight for weight in module.parameters() if weight.requires_grad]


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _one_cycle(step: int, steps: int) -> float:
    """Return the share of the peak rate: up in a line, down along a cosine, never quite 0."""
    place = (step + 1) / (steps + 1)
    if place < WARM_UP:
        return place / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (place - WARM_UP) / (1 - WARM_UP)))
