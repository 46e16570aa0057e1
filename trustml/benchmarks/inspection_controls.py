"""Honest models of the same recipe, and how odd a model is among them."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.benchmarks.discipline import Bench
from trustml.benchmarks.honest_models import Honest, clean_of, honest_models
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import blaming
from trustml.contracts import Suspects
from trustml.errors import BrokenClaim, MethodFailed
from trustml.files import write_whole
from trustml.randomness import keyed
from trustml.recipes import Choice

OWN, CONTROLS, FAR = "suspicion", "controls", "far"
FIRST_SEED = 1000
# So many times as far from its model's median class as the farthest of any control.
_OUT = 1.5


def suspicions(bench: Bench, look: Choice) -> Tensor:
    """Return the suspicions (N, K) float64 of honest models; each is kept once it is known.

    Raises:
        TrustError: a model cannot be trained or inspected.
    """
    honest = honest_models(bench)
    found = []
    for seed, path in files(bench, look).items():
        if not path.exists():
            make(bench, look, seed, honest)
        found.append(kept(path))
    return torch.cat(found)


def files(bench: Bench, look: Choice) -> dict[int, Path]:
    """Return where the suspicion of the honest model of each seed is kept.

    Raises:
        NotApplicable: there are no honest models to compare with.
    """
    digest = hashlib.sha256(f"{look.text} {honest_models(bench).told}".encode()).hexdigest()[:16]
    room = bench.folder / CONTROLS / f"{look.plugin.name}-{digest}"
    return {seed: room / f"{seed}.safetensors" for seed in seeds(bench.plan)}


def make(bench: Bench, look: Choice, seed: int, honest: Honest | None = None) -> None:
    """Train the honest model of a seed, inspect it and keep what is said of it.

    Raises:
        TrustError: it cannot be trained or inspected.
    """
    module = (honest or honest_models(bench)).made(seed)
    said = inspected(look, module, bench).suspicion[None]
    write_whole(files(bench, look)[seed], save({"suspicion": said}))


def kept(path: Path) -> Tensor:
    """Return the suspicions (1, K) of an honest model that are on the disk.

    Raises:
        BrokenClaim: the file is damaged.
    """
    try:
        return load(path.read_bytes())["suspicion"]
    except (OSError, SafetensorError, KeyError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def seeds(plan: Plan) -> Iterator[int]:
    """Yield the seeds of the controls, none of which is the seed of an examined model."""
    examined = range(plan.seed, plan.seed + plan.seeds)
    first = FIRST_SEED
    if first in examined or first + plan.controls - 1 in examined:
        first = examined.stop
    yield from range(first, first + plan.controls)


def inspected(look: Choice, module: torch.nn.Module, bench: Bench) -> Suspects:
    """Return what the inspection says of the model, on the CPU and checked.

    Raises:
        NotApplicable: it does not suit the model or the data.
        MethodFailed: it raised, or broke its contract.
    """
    clean = clean_of(bench).to(bench.device)
    with blaming(f"inspection {look.plugin.name}"):
        said = look.plugin.function(module, clean, random=keyed(0, clean.ids), **look.options)
    if not isinstance(said, Suspects) or said.suspicion.shape != (clean.classes,):
        raise MethodFailed(f"inspection {look.plugin.name} did not return a suspicion per class")
    suspicion = said.suspicion.detach().double().cpu()
    if not bool(suspicion.isfinite().all()):
        raise MethodFailed(f"inspection {look.plugin.name} returned NaN or infinity")
    triggers = said.triggers
    if triggers is not None:
        triggers = triggers.detach().float().cpu()
        if triggers.shape != (clean.classes, *clean.x.shape[1:]):
            raise MethodFailed(f"inspection {look.plugin.name}: a trigger has another shape")
    masks = said.masks
    if masks is not None:
        masks = masks.detach().float().cpu()
        if triggers is None or masks.shape != triggers[:, :1].shape:
            raise MethodFailed(f"inspection {look.plugin.name}: a mask has another shape")
    return Suspects(suspicion, triggers, masks)


def comparable(found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the suspicions of a model (K,) and its controls (N, K), on one scale.

    Models of unlike architecture or training differ in all classes at once: what counts is then how
    far a class is from its own model's median class.
    """
    own, controls = found[OWN].double(), found[CONTROLS].double()
    if FAR not in found:
        return own, controls
    return (
        own - own.median(),
        controls - controls.median(1, keepdim=True).values,
    )


def oddness(own: Tensor, controls: Tensor) -> tuple[Tensor, Tensor]:
    """Return how odd each class of a model is (K,), and how odd the oddest of each control (N,).

    A class is measured in standard deviations from the mean of that class in the other models, the
    one examined among them: for an honest model all N + 1 are alike, so that the rank of its oddest
    class is even, and a p-value from the rank is exact, whatever the inspection measures.

    Args:
        own: (K,) of the model.
        controls: (N, K) of the honest ones, N ≥ 2.
    """
    every = torch.cat([own[None], controls]).double()
    scores = []
    for row in range(len(every)):
        others = torch.cat([every[:row], every[row + 1 :]])
        spread = others.std(0)
        # A class whose numbers hardly differ must not decide alone.
        spread = (spread.square() + spread.square().mean()).div(2).sqrt().clamp_min(1e-9)
        scores.append((every[row] - others.mean(0)) / spread)
    return scores[0], torch.stack(scores[1:]).amax(1)


def is_alarm(found: Mapping[str, Tensor], rate: float, among: Tensor | None = None) -> bool:
    """Return whether the oddest class, of some or of all, is odd enough.

    Beside controls of another kind it must be far from its own model's median class, too.
    """
    values, others = comparable(found)
    own, controls = oddness(values, others)
    if among is not None:
        own = own.masked_fill(~among, -torch.inf)
    most, named = own.amax(), int(own.argmax())
    p = (1 + int((controls >= most).sum())) / (len(controls) + 1)
    times = float(most / controls.amax().clamp_min(1e-9))
    out = FAR not in found or bool(values[named] >= _OUT * others.amax())
    return p <= rate and times >= float(found.get(FAR, 0.0)) and out
