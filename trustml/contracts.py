"""The nouns (frozen dataclasses) and the verbs (Protocols) that every room speaks.

Shape letters: B batch or samples, K classes, D features, S draws, *S the shape of one input.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Norm = Literal["linf", "l2", "l1", "l0"]
# What an epsilon counts: a norm, or something that is none.
Measure = Literal[Norm, "patch", "spatial", "colour", "structure", "wasserstein", "flow"]
Kind = Literal[
    "data", "model", "attack", "attribution", "detector", "stealer", "safeguard", "poison",
    "route", "inspection", "target", "corruption",
]  # fmt: skip
Status = Literal["done", "failed", "skipped"]
Stage = Literal["data", "training", "serving", "monitoring"]
Via = Literal["scanner", "envelope", "retraining"]
Json = Any


class Access(IntEnum):
    """What a method may see of a model, least to most."""

    LABELS = 1
    TOP1 = 2
    PROBABILITIES = 3
    LOGITS = 4
    GRADIENTS = 5


@runtime_checkable
class Classifier(Protocol):
    """Inputs (B, *S) within the data's bounds → logits (B, K). Normalisation lives inside."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def features(self, x: Tensor, /) -> Tensor:
        """Return the features (B, D) that the last layer reads."""
        ...


@runtime_checkable
class Bayesian(Protocol):
    """A classifier with a distribution over its weights; `__call__` is the log mean probability."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def features(self, x: Tensor, /) -> Tensor: ...

    def sample_logits(self, x: Tensor, draws: int, /) -> Tensor:
        """Return logits (S, B, K) of `draws` networks; draw number s is the same network always."""
        ...


@runtime_checkable
class OwnLoss(Protocol):
    """A module whose training loss is not the cross-entropy (an ELBO, say)."""

    def training_loss(self, x: Tensor, y: Tensor, examples: int, /) -> Tensor:
        """Return the scalar loss of one batch; `examples` is the size of the training split."""
        ...


@runtime_checkable
class OwnFit(Protocol):
    """A module that fits itself: by a closed form, or by a library's solver."""

    def fit(
        self, train: "Split", validation: "Split", training: "Training", seed: int, /
    ) -> "list[Epoch]":
        """Learn in place and return the curve, one entry an epoch (or one in all)."""
        ...


@runtime_checkable
class OwnCourse(Protocol):
    """A module that is fitted by the usual loop, but says how it is shown the data and steps."""

    def course(self, train: "Split", steps: int, training: "Training", seed: int, /) -> "Course":
        """Return the course of a training of so many steps; may first look at the data."""
        ...


@dataclass(frozen=True, slots=True)
class Domain:
    """What a model is built for: the shape of one input, the number of classes, the bounds."""

    shape: tuple[int, ...]
    classes: int
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Inputs x (B, *S) float32 in [low, high], labels y (B,) int64, sample ids (B,) int64."""

    x: Tensor
    y: Tensor
    ids: Tensor
    classes: int
    low: float = 0.0
    high: float = 1.0

    def __len__(self) -> int:
        return len(self.x)

    @property
    def domain(self) -> Domain:
        """The shape, classes and bounds that a model for this split must have."""
        return Domain(tuple(self.x.shape[1:]), self.classes, self.low, self.high)

    def at(self, rows: Tensor | slice) -> "Split":
        """Return the split of the given rows; ids travel with their samples."""
        return Split(self.x[rows], self.y[rows], self.ids[rows], self.classes, self.low, self.high)

    def to(self, device: Any) -> "Split":
        """Return the split on `device`."""
        return Split(
            self.x.to(device), self.y.to(device), self.ids.to(device),
            self.classes, self.low, self.high,
        )  # fmt: skip

    def batches(self, size: int) -> "Iterator[Split]":
        """Yield the split in order, `size` rows at a time."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Train, validation and test parts, with named out-of-distribution splits and usual budgets.

    `budgets` maps a norm to the epsilon that the field uses on this data. Test data never tunes
    anything.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    budgets: Mapping[Norm, float]
    outside: Mapping[str, Split] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is fitted; a recipe may set any of these beside the model's own options.

    Args:
        epochs: passes over the training split at most.
        batch_size: samples a step.
        learning_rate: peak step of the optimizer.
        weight_decay: decoupled L2 decay a step.
        optimizer: "adam" (AdamW) or "sgd" (Nesterov momentum 0.9, one-cycle).
        patience: stop after this many epochs without a better validation loss; 0 never stops.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    patience: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How a training goes.

    Args:
        optimizer: what makes the steps.
        stepped: what follows each step: the next rate, an average.
        shown: a batch as the module sees it in an epoch (0, 1, …).
        smoothing: share of a label that is spread over all classes.
        dtype: what layers compute in.
    """

    optimizer: torch.optim.Optimizer
    stepped: Callable[[], None]
    shown: Callable[[Split, int], Split] = lambda batch, epoch: batch
    smoothing: float = 0.0
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of the training curve: mean losses and accuracies in [0, 1]."""

    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a model said about one split, computed once.

    logits (B, K), features (B, D), draws (S, B, K) where the model is Bayesian, the inputs (B, *S).
    """

    logits: Tensor
    features: Tensor
    x: Tensor
    y: Tensor
    draws: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number with its 95 % interval; `better` says which way is good for the owner."""

    value: float
    low: float
    high: float
    better: Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a case took. Passes and queries are means per attacked input; memory is in MiB.

    `peak_mib` is None where the device does not count it (a CPU).
    """

    seconds: float = 0.0
    forwards: float = 0.0
    backwards: float = 0.0
    queries: float = 0.0
    peak_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One case of a run, complete enough to be run and checked again. One JSON object a line.

    Args:
        case: the case's name within its run.
        kind: kind of the plugin ("attack"), or "union" for all together.
        options: every option with its value, defaults included.
        model: the recipe with every option, as text.
        weights: SHA-256 of the model's weights.
        data: the data's name with its options, as text.
        data_hash: SHA-256 of the inputs and labels that were scored.
        threat: norm, epsilon, bounds and goal of an attack; empty elsewhere.
        scores: name → Score.
        notes: what the harness noticed (noise floor, failure indicators, batch halved).
        place: device, versions, commit.
        samples: SHA-256 of the case's sample file, or "".
        surrogates: what the attack saw in the model's place: recipe and seed → SHA-256 of weights.
    """

    case: str
    kind: str
    plugin: str
    options: Mapping[str, Json]
    model: str
    weights: str
    data: str
    data_hash: str
    seed: int
    threat: Mapping[str, Json]
    scores: Mapping[str, Score]
    cost: Cost
    place: Mapping[str, Json]
    status: Status
    reason: str = ""
    notes: tuple[str, ...] = ()
    samples: str = ""
    schema: int = 2
    surrogates: Mapping[str, str] = field(default_factory=dict)


class Threat(Protocol):
    """What an attacker may do to one input, and what it wants.

    Not targeted: y holds the true classes and the model must answer anything else.
    Targeted: y holds the wanted classes and the model must answer just that.
    """

    @property
    def norm(self) -> Norm: ...

    @property
    def epsilon(self) -> "float | Tensor": ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def targeted(self) -> bool: ...

    def budget(self, x: Tensor, /) -> Tensor:
        """Return epsilon as a tensor (B, 1, …) that broadcasts over x (B, *S)."""
        ...

    def project(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return the nearest allowed point to each candidate, never outside by even one ulp."""
        ...

    def contains(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return (B,) whether each candidate is allowed, computed in float64."""
        ...

    def reached(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """Return (B,) whether logits (B, K) are what the attacker wants."""
        ...

    def at(self, rows: Tensor, /) -> "Threat":
        """Return the threat of the given rows (one epsilon a sample follows its sample)."""
        ...


class Random(Protocol):
    """Random numbers that belong to samples: keyed by (seed, sample id, purpose, step)."""

    def uniform(self, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return float32 (B, *shape) in [0, 1)."""
        ...

    def normal(self, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return float32 (B, *shape), standard normal."""
        ...

    def integers(self, high: int, shape: tuple[int, ...], purpose: str, step: int = 0) -> Tensor:
        """Return int64 (B, *shape) in 0..high-1."""
        ...

    def at(self, rows: Tensor, /) -> "Random":
        """Return the numbers of the given rows."""
        ...

    def fold(self, number: "int | Tensor", /) -> "Random":
        """Return an independent stream for each sample (a restart, a target)."""
        ...


class Attack(Protocol):
    """Return candidates like x that the model should misread; the harness judges them."""

    def __call__(
        self, model: Classifier, x: Tensor, y: Tensor, threat: Threat, /, *, random: Random
    ) -> Tensor: ...


class Attribution(Protocol):
    """Return a map like x (B, *S): how much each entry speaks for the class `target` (B,).

    `background` (N, *S) are training inputs, for methods that compare with ordinary ones.
    """

    def __call__(
        self, model: Classifier, x: Tensor, target: Tensor, background: Tensor, /
    ) -> Tensor: ...


class Detector(Protocol):
    """Learn from clean outputs; return a scorer: Outputs → suspicion (B,), higher is odder.

    `train` is what the model learnt from; `validation` it has not seen, so its errors are honest.
    """

    def __call__(
        self, model: Classifier, train: Outputs, validation: Outputs, /
    ) -> Callable[[Outputs], Tensor]: ...


class FrontEnd(Protocol):
    """Learn from clean outputs; return what changes outputs before a detector scores them."""

    def __call__(
        self, model: Classifier, train: Outputs, validation: Outputs, /
    ) -> Callable[[Outputs], Outputs]: ...


class Sanitiser(Protocol):
    """A safeguard of the data: return the split without, or with other labels for, what is odd."""

    def __call__(self, split: Split, /) -> Split: ...


class Hardening(Protocol):
    """A safeguard of the training: return an untrained module that learns in a safer way.

    `fresh` builds an untrained Classifier, its weights from torch's global generator. What is
    returned is fitted as any model is: it has a loss of its own (OwnLoss) or fits itself (OwnFit).
    """

    def __call__(self, fresh: Callable[[], nn.Module], domain: Domain, /) -> nn.Module: ...


class Guard(Protocol):
    """A safeguard of the deployed model: return a Classifier that answers in its place.

    It is built without data, so that kept weights can be loaded into it; what it has to learn it
    keeps in its state_dict and learns when it is asked to (Learns).
    """

    def __call__(self, model: nn.Module, domain: Domain, /) -> nn.Module: ...


class Monitor(Protocol):
    """A safeguard of the machine: return what watches the items as they come.

    What is returned takes items (N, *S) in the order in which they come, before the scanner, and
    the scanner as it is now, (B, *S) → (B, *S) with whatever was done to it; it returns a running
    suspicion (N,), higher is odder, of which entry n depends on the items up to n alone. It keeps
    nothing between calls. `validation` was not trained on; `random` belongs to its samples.
    """

    def __call__(
        self, model: Classifier, validation: Split, /, *, random: Random
    ) -> Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]: ...


Safeguard = Sanitiser | Hardening | Guard | Monitor


@runtime_checkable
class Learns(Protocol):
    """A guard that must see data before it can serve."""

    def learn(self, train: Split, validation: Split, seed: int, /) -> None:
        """Learn in place; the guarded model stays as it is."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A classifier that does not stand by each answer: it sends some inputs to a person."""

    def accepts(self, x: Tensor, /) -> Tensor:
        """Return (B,) bool: False where a person should look; the logits say what it would be."""
        ...


@runtime_checkable
class Doubting(Protocol):
    """A selective classifier that says how near it is to sending an input to a person."""

    def doubt(self, x: Tensor, /) -> Tensor | None:
        """Return (B,), above 0 where `accepts` is False, with a gradient; None if all pass."""
        ...


@runtime_checkable
class Scaffold(Protocol):
    """A module that is there while another one is trained, and not after."""

    @property
    def deployed(self) -> nn.Module:
        """The module that is trained."""
        ...


class Poison(Protocol):
    """Return the split as a poisoner leaves it, and the trigger that wakes a backdoor, or None."""

    def __call__(
        self, split: Split, /, *, random: Random
    ) -> tuple[Split, Callable[[Tensor], Tensor] | None]: ...


class Route(Protocol):
    """A tampering that is prepared before the mail comes, and then done to all of it.

    `model` is what the attacker looks at and `seen` data of its own; `random` belongs to these.
    What is returned takes inputs x (B, *S), labels y (B,) and their own random numbers, and returns
    inputs like x, within the bounds of `seen`; it keeps nothing between calls.
    """

    def __call__(
        self, model: Classifier, seen: Split, /, *, random: Random
    ) -> Callable[[Tensor, Tensor, Random], Tensor]: ...


class Corruption(Protocol):
    """Return pictures (B, C, H, W) in [0, 1] as a severity of 1 to 5 leaves them; C is 1 or 3."""

    def __call__(self, x: Tensor, severity: int, /, *, random: Random) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Suspects:
    """What an inspection says of a model, class by class.

    Args:
        suspicion: (K,), how much each class looks like a backdoor's target; higher is odder.
        triggers: (K, *S), what it takes for the triggers, each on the darkest input; or None.
        masks: (K, 1, *S without channels), how much of each place a trigger covers, in [0, 1]; with
            them a trigger can be laid on other inputs; or None.
    """

    suspicion: Tensor
    triggers: Tensor | None = None
    masks: Tensor | None = None


class Inspection(Protocol):
    """Search a model for a backdoor, class by class; what is usual, honest models tell.

    `clean` are samples of the inspector's own; `random` belongs to these.
    """

    def __call__(self, model: Classifier, clean: Split, /, *, random: Random) -> Suspects: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What a victim answers, to which inputs, how often: what its documentation would say.

    Args:
        answers: LABELS, TOP1, PROBABILITIES or LOGITS.
        explains: whose input gradient `explain` gives for the answered class, if any's.
        decimals: what probabilities are rounded to; None leaves them as they are.
        precision: what the model computes in, and takes and gives.
        inputs: any finite ones ("free"), those within the bounds ("box"), or multiples of
            1/255 of the box's side in it ("8-bit").
        budget: queries at most; None sets no bound.
    """

    answers: Access = Access.PROBABILITIES
    explains: Literal["nothing", "logit", "probability"] = "nothing"
    decimals: int | None = None
    precision: Literal["float32", "float64"] = "float32"
    inputs: Literal["free", "box", "8-bit"] = "box"
    budget: int | None = None


class Victim(Protocol):
    """A model that answers queries within its terms and counts each of them.

    LOGITS logits, PROBABILITIES their softmax, TOP1 the highest probability in its place and 0
    elsewhere, LABELS one-hot: always (B, K) in the terms' precision, and the arg max is the label.

    Raises: BudgetSpent where a call would go beyond the budget (nothing of it is answered or
    counted: ask again for fewer rows, or return what you have); BadInput for inputs outside the
    terms; Refused by a countermeasure; MethodFailed where the model behind it misbehaves.
    """

    @property
    def domain(self) -> Domain: ...

    @property
    def terms(self) -> Terms: ...

    @property
    def dtype(self) -> torch.dtype:
        """The terms' precision: float64 queries to a float32 victim are refused, not rounded."""
        ...

    @property
    def queries(self) -> int:
        """How many inputs have been asked about so far."""
        ...

    @property
    def left(self) -> float:
        """How many more may be: the budget less the queries, or infinity."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the answers (B, K) to x (B, *S); one query a row."""
        ...

    def explain(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the answers (B, K), and the gradients (B, *S) as the terms say; one query a row.

        NotApplicable where the terms explain nothing.
        """
        ...

    def at(self, access: Access, /) -> "Victim":
        """Return the victim seen at this level or its own, the lower; its count is shared."""
        ...


@dataclass(frozen=True, slots=True)
class Interface:
    """What a deployed model takes and answers, where its own file or server does not say it.

    Args:
        input_shape: of one input as the model takes it, without the batch; none: its own shape, or
            that of the data.
        input_range: what it takes for the lowest and the highest value of the data, such as
            [0,255]; none: the values as they are.
        mean: of each channel, subtracted after the range; one number is for all.
        std: of each channel, divided by after the mean.
        layout: the model takes channels first (C, H, W) or last (H, W, C).
        colours: the order of three channels that the model takes; data are rgb.
        classes: names in the order in which the data number the classes; a model that names its
            own has its answers put into this order.
        answers: what the model answers; auto looks at some answers.
        sha256: of the model's file; another file is refused.
    """

    input_shape: tuple[int, ...] | None = None
    input_range: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: Literal["auto", "first", "last"] = "auto"
    colours: Literal["rgb", "bgr"] = "rgb"
    classes: tuple[str, ...] | None = None
    answers: Literal["auto", "logits", "probabilities", "labels"] = "auto"
    sha256: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A deployed classifier behind one face: inputs (B, *S) float32 in the bounds → (B, K).

    Args:
        module: what the harness examines: logits; log probabilities where the model answers
            probabilities, one-hot where labels. In evaluation mode.
        answers: what the model itself says: logits, probabilities, or one-hot labels, as `says`.
        domain: shape, classes and bounds of its inputs, as the caller has them.
        access: what may be seen of it: GRADIENTS where its answers are differentiable.
        says: LOGITS, PROBABILITIES or LABELS.
        class_names: in the order of its answers.
        describes: what it is, and where, in a line.
        digest: SHA-256 of its file, or of what its server says of itself.
        deterministic: whether equal inputs had equal answers when it was opened.
        notes: what a reader of a record should know.
    """

    module: nn.Module
    answers: Callable[[Tensor], Tensor]
    domain: Domain
    access: Access
    says: Access
    class_names: tuple[str, ...]
    describes: str
    digest: str
    deterministic: bool
    notes: tuple[str, ...] = ()

    def __call__(self, x: Tensor, /) -> Tensor:
        return self.answers(x)


class Opener(Protocol):
    """Return a deployed model behind its face; `domain` is that of the data, where it is known.

    Raises: BadInput for a file, a server or answers that are not what they should be;
    MissingPackage where reading it needs an optional library.
    """

    def __call__(self, domain: Domain | None, interface: Interface, /) -> Target: ...


Symmetry = Literal["nothing", "shift", "shift and scale", "units", "units and shift", "behaviour"]


@dataclass(frozen=True, slots=True, eq=False)
class Theft:
    """A stolen copy, what is certified of it, and the queries that it took.

    Args:
        copy: a working module, in evaluation mode, of the thief's choice of dtype; it takes
            float32 and float64 inputs and gives logits.
        certificate: what the thief knows of its copy without seeing the victim's inside, such as
            residuals, gaps and checks; whole words → numbers, texts, truth values.
        queries: inputs asked about in all, the checks' included.
        up_to: what the answers cannot tell, so what parameters are compared modulo: nothing, one
            affine function added to every class (shift), also one positive factor (and scale), the
            order and positive scale of hidden units; "behaviour" claims no parameters.
        earlier: copies from fewer of the queries, for a curve of agreement.
    """

    copy: nn.Module
    certificate: Mapping[str, Json]
    queries: int
    up_to: Symmetry = "behaviour"
    earlier: "tuple[Theft, ...]" = ()


class Stealer(Protocol):
    """Ask the victim within its terms; return the copy.

    `pool` (N, *S) float32 are public inputs without labels, N ≥ 0. `fresh` builds an untrained
    Classifier of the recipe wanted for the copy, its weights from torch's global generator: seed it
    by `training.seeded`. `random` is a CPU generator, seeded by the harness, which every other
    random number comes from.

    Raises: NotApplicable where the victim's terms show too little, or the budget is below what the
    method needs at least (the message says how much that is).
    """

    def __call__(
        self,
        victim: Victim,
        pool: Tensor,
        fresh: Callable[[], nn.Module],
        /,
        *,
        random: torch.Generator,
    ) -> Theft: ...


class Builder(Protocol):
    """Return an untrained nn.Module that is a Classifier for the domain."""

    def __call__(self, domain: Domain, /) -> nn.Module: ...


class Loader(Protocol):
    """Return a dataset; `folder` is where files are looked for and kept."""

    def __call__(self, *, folder: str | None) -> Dataset: ...
