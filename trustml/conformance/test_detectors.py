"""What every detector keeps to: it returns a scorer, and a score is a sample's own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.conformance._scenes import Scene, scene
from trustml.contracts import Outputs
from trustml.errors import MissingPackage, NotApplicable
from trustml.registry import Plugin, all_of

PARTS = ("logits", "features", "draws", "x")
ROUNDING = 1e-4
on_every_detector = pytest.mark.parametrize(
    "plugin", [pytest.param(plugin, id=plugin.name) for plugin in all_of("detector")]
)

# Images with features of either sign; vectors with features of a ReLU.
in_both_scenes = pytest.mark.parametrize("name", ["image", "vector"])


def fitted(plugin: Plugin, stage: Scene, train: Outputs) -> Callable[[Outputs], Tensor]:
    """Return the detector's scorer, or skip where it does not apply.

    A front end scores nothing: the greatest logit of what it returns stands for it.
    """
    try:
        made = plugin.function(stage.model, train, train)
        scorer: Callable[[Outputs], Tensor] = made
        if plugin.facts["front_end"]:

            def scorer(outputs: Outputs) -> Tensor:
                changed: Outputs = made(outputs)
                return changed.logits.amax(1)
    except (NotApplicable, MissingPackage) as reason:
        pytest.skip(str(reason))
    return scorer


@in_both_scenes
@on_every_detector
def test_it_scores_each_sample_by_itself(plugin: Plugin, name: str) -> None:
    """One finite suspicion (B,) a sample, the same again and in smaller batches."""
    stage = scene(name)
    train, test = outputs(stage, 40, seed=1), outputs(stage, 9, seed=2)
    scorer = fitted(plugin, stage, train)
    scores = scorer(test)
    assert scores.shape == (9,)
    assert bool(scores.isfinite().all())
    assert not scores.requires_grad, "the scores hang on a graph; detach them"
    assert torch.equal(scores, scorer(test)), "asked twice, it scores twice"
    parts = torch.cat([scorer(part(test, slice(0, 4))), scorer(part(test, slice(4, 9)))])
    assert torch.allclose(scores, parts, atol=ROUNDING, rtol=ROUNDING)


@in_both_scenes
@on_every_detector
def test_it_reads_what_it_declares(plugin: Plugin, name: str) -> None:
    """With every part that it does not declare set to noise, the scores stay."""
    stage = scene(name)
    train, test = outputs(stage, 40, seed=1), outputs(stage, 9, seed=2)
    scores = fitted(plugin, stage, train)(test)
    reads = {*plugin.facts["reads"], *(("x",) if "gradients" in plugin.facts["reads"] else ())}
    hidden = [name for name in PARTS if name not in reads]
    again = fitted(plugin, stage, scrambled(train, hidden))(scrambled(test, hidden))
    assert torch.allclose(scores, again), f"it reads more than {plugin.facts['reads']}"


def outputs(stage: Scene, count: int, seed: int) -> Outputs:
    """Return what the scene's model says of new inputs, with three draws near its logits."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, *stage.x.shape[1:], generator=generator)
    with torch.no_grad():
        features = stage.model.features(x)
        logits = stage.model(x)
    draws = logits + 0.1 * torch.randn(3, *logits.shape, generator=generator)
    y = torch.randint(logits.shape[1], (count,), generator=generator)
    return Outputs(logits, features, x, y, draws)


def part(whole: Outputs, rows: slice) -> Outputs:
    """Return the outputs of the given rows."""
    draws = None if whole.draws is None else whole.draws[:, rows]
    return Outputs(whole.logits[rows], whole.features[rows], whole.x[rows], whole.y[rows], draws)


def scrambled(whole: Outputs, names: list[str]) -> Outputs:
    """Return the outputs with the named parts replaced by noise."""
    generator = torch.Generator().manual_seed(3)
    noise: dict[str, Any] = {
        name: torch.rand(getattr(whole, name).shape, generator=generator) for name in names
    }
    return replace(whole, **noise)
