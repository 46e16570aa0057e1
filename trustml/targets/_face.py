"""A model of any kind behind the one face: prepared inputs, read answers, what it shows, a hash."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Interface, Target
from trustml.errors import BadInput, MethodFailed
from trustml.targets._inputs import Declared, Preparation, preparation
from trustml.targets._reading import Reading, reading_of

# Inputs that a model is asked about, twice, when it is opened.
_TRIALS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a kind of target knows of a model before it is asked anything.

    Args:
        body: prepared inputs → the model's own words: scores (B, K), or labels.
        describes: what it is, and where.
        digest: SHA-256 of its file.
        shape: of one input.
        class_names: in the model's order.
        says: what it is known to answer.
        notes: what a reader of a record should know.
        remote: whether a server answers, which may serve another model tomorrow.
        builder: seed → the same body with new random weights, or None where it has none.
    """

    body: Callable[[Tensor], Any]
    describes: str
    digest: str
    shape: Declared | None = None
    class_names: tuple[str, ...] = ()
    says: Access | None = None
    notes: tuple[str, ...] = ()
    remote: bool = False
    builder: Callable[[int], nn.Module | None] | None = None


class Deployed(nn.Module):
    """A deployed model as the harness has it: inputs of the data → logits (B, K)."""

    identity: Tensor

    def __init__(self, found: Found, prepare: Preparation, reading: Reading) -> None:
        super().__init__()
        self.body, self.prepare, self.reading = found.body, prepare, reading
        self.builder = found.builder
        self.describes, self.digest, self.notes = found.describes, found.digest, found.notes
        self.remote = found.remote
        # How its server is asked, where there is one.
        self.manner = getattr(getattr(found.body, "client", None), "manner", None)
        # How many inputs: said where the model raises, so that one sees where its patience ends.
        self.answered = 0
        self.class_names, self.access = reading.names, reading.says
        # The model's own, where nobody has said what the data call them.
        self.own_names: tuple[str, ...] = ()
        if inspect.ismethod(getattr(found.body, "features", None)):
            # Only where there are some: who looks for the attribute must find none elsewhere.
            self.features = self._features
        identity = torch.frombuffer(bytearray(bytes.fromhex(found.digest)), dtype=torch.uint8)
        self.register_buffer("identity", identity)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, log probabilities, or one-hot labels (B, K)."""
        return self.reading.logits(self._said(x))

    def _said(self, x: Tensor) -> Any:
        try:
            said = self.body(self.prepare(x))
        except Exception as error:
            error.add_note(f"the model had answered {self.answered} inputs before")
            raise
        if isinstance(x, Tensor):  # not where it is traced for a certificate
            self.answered += len(x)
        return said

    def _features(self, x: Tensor) -> Tensor:
        body: Any = self.body
        features: Tensor = body.features(self.prepare(x))
        return features

    def anew(self, seed: int) -> nn.Module | None:
        """Return the model with new random weights, to be trained; None where nobody can build it.

        Raises:
            BadInput: the code that builds it does not run.
        """
        body = self.builder(seed) if self.builder is not None else None
        if body is None:
            return None
        found = Found(body, f"{self.describes}, trained anew", self.digest)
        return Deployed(found, self.prepare, self.reading)

    def answers(self, x: Tensor) -> Tensor:
        """Return what the model itself says: logits, probabilities, or one-hot labels (B, K)."""
        with torch.no_grad():
            return self.reading.answers(self._said(x))

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        """Refuse the weights of another model: kept weights say whose they are."""
        kept = state.get(f"{prefix}identity")
        if kept is not None and not torch.equal(kept.cpu(), self.identity.cpu()):
            was = bytes(kept.cpu().tolist()).hex()
            raise BadInput(
                f"{self.describes} is not the one that the run began with: SHA-256 {was[:16]}… "
                f"then, {self.digest[:16]}… now"
            )
        super()._load_from_state_dict(state, prefix, *rest)


def target_of(found: Found, domain: Domain | None, interface: Interface) -> Target:
    """Return the model behind its face, after a few trial questions.

    Raises:
        BadInput: its file is not the one asked for, or it does not take the data, or its answers
            are none of a classifier.
    """
    if interface.sha256 and interface.sha256.lower() != found.digest:
        raise BadInput(
            f"{found.describes} has the SHA-256 {found.digest}, not {interface.sha256}: it is "
            f"another file"
        )
    prepare, face = preparation(domain, found.shape, interface)
    if isinstance(found.body, nn.Module):
        found.body.eval()
    inputs = _trials(face)
    with torch.no_grad():
        first, second = (_said(found, prepare(inputs)) for _ in range(2))
    reading = reading_of(first, domain, interface, found.class_names, found.says)
    once, again = (reading.answers(said) for said in (first, second))
    if len(once) != len(inputs):
        raise BadInput(f"the model gave {len(once)} answers to {len(inputs)} inputs")
    module = Deployed(found, prepare, reading)
    module.answered = 2 * len(inputs)
    module.own_names = () if interface.classes else found.class_names
    if reading.says != Access.LABELS and _flows(module, inputs):
        module.access = Access.GRADIENTS
    module.notes = (*_told(module), *found.notes)
    return Target(
        module.eval(),
        module.answers,
        Domain(face.shape, len(reading.names), face.low, face.high),
        module.access,
        reading.says,
        reading.names,
        found.describes,
        found.digest,
        torch.equal(once, again),
        module.notes,
    )


def trials(found: Found, domain: Domain | None, interface: Interface) -> Tensor:
    """Return the trial inputs as the model takes them.

    Raises:
        BadInput: nobody says the shape, or what is said does not go together.
    """
    prepare, face = preparation(domain, found.shape, interface)
    prepared: Tensor = prepare(_trials(face))
    return prepared


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


def file_at(path: str, option: str = "path") -> Path:
    """Return the path of a file that is there.

    Raises:
        BadInput: none is named, or there is none.
    """
    if not path:
        raise BadInput(f"no file is named: say {option}=")
    found = Path(path).expanduser()
    if not found.exists():
        raise BadInput(f"{path}: no such file")
    return found


def _trials(domain: Domain) -> Tensor:
    """Return inputs (B, *S) from all over the box, the same ones always."""
    spread = torch.rand(_TRIALS, *domain.shape, generator=torch.Generator().manual_seed(0))
    return domain.low + (domain.high - domain.low) * spread


def _said(found: Found, x: Tensor) -> Any:
    """Return the model's own words.

    Raises:
        BadInput: it does not take such inputs.
    """
    try:
        return found.body(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"{found.describes} does not take inputs of shape {tuple(x.shape[1:])} ({said}): say "
            f"input_shape= or layout=, or take other data"
        ) from error


def _flows(module: Deployed, inputs: Tensor) -> bool:
    """Return whether the answers have a gradient with respect to the inputs."""
    x = inputs.clone().requires_grad_()
    try:
        with torch.enable_grad():
            logits = module(x)
        if not logits.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(logits.sum(), x, allow_unused=True)
    except RuntimeError as error:
        if "grad" in str(error) or "backward" in str(error) or "derivative" in str(error):
            return False
        raise MethodFailed(f"{module.describes}: {error}") from error
    return gradient is not None


def _told(module: Deployed) -> tuple[str, ...]:
    shown = module.access.name.lower()
    says = module.reading.says.name.lower()
    with_gradients = f"{says}, with gradients" if module.access == Access.GRADIENTS else shown
    first = (
        f"deployed model: {module.describes} (SHA-256 {module.digest}), answers {with_gradients}"
    )
    if module.reading.says == Access.PROBABILITIES:
        return first, "its logits are the logarithms of its probabilities: known up to a shift"
    return (first,)
