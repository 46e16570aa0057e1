"""What every detector of the room does with outputs that are missing, empty or no numbers."""

import math
from dataclasses import replace

import pytest
import torch

from trustml.catalogue import built_in_names
from trustml.contracts import Outputs
from trustml.errors import BadInput, NotApplicable
from trustml.registry import Plugin, get

# The autoencoder and ConfidNet are fitted for long, and the median filter needs images: they have
# tests of their own.
PLUGINS = [
    get("detector", name)
    for name in built_in_names("detector")
    if name not in ("vae", "confidnet", "feature_squeezing")
]
on_every_detector = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)


def spoilt(outputs: Outputs, part: str, value: float) -> Outputs:
    tensor = getattr(outputs, part).clone()
    tensor.view(-1)[7] = value
    return replace(outputs, **{part: tensor})


def read(plugin: Plugin) -> list[str]:
    """Return the parts whose numbers the plugin reads itself; x goes through the model."""
    return [part for part in plugin.facts["reads"] if part in ("logits", "features", "draws")]


@on_every_detector
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(plugin: Plugin, value: float, model, made) -> None:
    """Among the outputs that are scored, in each part that the detector declares to read.

    A front end recomputes logits from the features, and then does not look at the former ones.
    """
    train, test = made(), made(20, seed=2)
    scorer = plugin.function(model, train, train)
    parts = read(plugin)
    if plugin.facts["front_end"] and "features" in parts:
        parts = ["features"]
    if not parts:
        test = replace(test, x=spoilt(test, "x", value).x)
        with pytest.raises(BadInput, match="NaN"):
            scorer(test)
    for part in parts:
        with pytest.raises(BadInput, match=f"1 of the {part} are NaN or infinite"):
            scorer(spoilt(test, part, value))


@on_every_detector
def test_training_outputs_that_are_no_numbers_are_refused(plugin: Plugin, model, made) -> None:
    """By those that learn from them; the others never look."""
    if plugin.name in (*LEARNS_NOTHING, "odin") and plugin.name != "energy":
        pytest.skip("it learns nothing from them")
    part = (read(plugin) or ["x"])[-1]
    spoilt_outputs = spoilt(made(), part, math.nan)
    with pytest.raises(BadInput, match="NaN"):
        plugin.function(model, spoilt_outputs, spoilt_outputs)


@on_every_detector
def test_without_features_it_says_so_or_does_without(plugin: Plugin, model, made) -> None:
    def blind(outputs: Outputs) -> Outputs:
        return replace(outputs, features=torch.empty(len(outputs.y), 0))

    def attempt() -> None:
        plugin.function(model, blind(made()), blind(made()))(blind(made(20, seed=2)))

    if "features" not in plugin.facts["reads"]:
        attempt()
        return
    with pytest.raises(NotApplicable, match="it needs features"):
        attempt()


@on_every_detector
def test_one_class_only_is_refused(plugin: Plugin, model, made) -> None:
    if "logits" not in plugin.facts["reads"] or plugin.facts["front_end"]:
        pytest.skip("it does not read logits")
    single = replace(made(), logits=made().logits[:, :1])
    with pytest.raises(NotApplicable, match="two classes"):
        plugin.function(model, single, single)(single)


@on_every_detector
def test_no_outputs_give_no_scores(plugin: Plugin, model, made) -> None:
    def none(outputs: Outputs) -> Outputs:
        assert outputs.draws is not None
        return Outputs(
            outputs.logits[:0], outputs.features[:0], outputs.x[:0], outputs.y[:0],
            outputs.draws[:, :0],
        )  # fmt: skip

    scorer = plugin.function(model, made(), made())
    found = scorer(none(made()))
    assert len(found.logits if plugin.facts["front_end"] else found) == 0


LEARNS_NOTHING = (
    "mcp", "entropy", "margin", "max_logit", "gradnorm", "variation_ratio", "mutual_information",
    "predictive_entropy", "disagreement", "energy",
)  # fmt: skip


@on_every_detector
def test_an_empty_training_split_is_refused_by_those_that_learn(
    plugin: Plugin, model, made
) -> None:
    empty = Outputs(*(part[:0] for part in (made().logits, made().features, made().x, made().y)))
    if plugin.name in LEARNS_NOTHING:
        plugin.function(model, empty, empty)
        return
    with pytest.raises(BadInput, match="too few to learn from"):
        plugin.function(model, empty, empty)


@on_every_detector
def test_any_order_of_rows(plugin: Plugin, model, made) -> None:
    test = made(20, seed=2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert test.draws is not None
    turned = Outputs(
        test.logits[order], test.features[order], test.x[order], test.y[order], test.draws[:, order]
    )
    scorer = plugin.function(model, made(), made())
    found, again = scorer(test), scorer(turned)
    if plugin.facts["front_end"]:
        found, again = found.logits, again.logits
    assert torch.allclose(found[order], again, rtol=1e-4, atol=1e-5)
