"""Recipes as text: what is read, and that the canonical text reads back as the same."""

import pytest

from trustml.contracts import Training
from trustml.errors import BadOption, UnknownName
from trustml.recipes import choose, read_recipe, split_recipe


def test_reads_own_options_training_and_weights_apart() -> None:
    """`hidden` is the builder's; `epochs` belongs to how it is fitted; defaults fill the rest."""
    recipe = read_recipe("mlp:hidden=[64,32],epochs=5,optimizer=sgd")
    default = read_recipe("mlp").training
    assert recipe.own["hidden"] == (64, 32)
    assert not {"epochs", "weights"} & set(recipe.own)
    assert recipe.training.epochs == 5
    assert recipe.training.optimizer == "sgd"
    assert recipe.training.learning_rate == default.learning_rate
    assert recipe.weights is None
    assert recipe.name == "mlp"
    assert read_recipe("mlp:weights=somewhere/a.pt").weights == "somewhere/a.pt"


@pytest.mark.parametrize(
    "text",
    ["mlp", "cnn:channels=[12],kernel=3", "logistic:solver=numpy,l2=1/1000", "mlp:hidden=[]"],
)
def test_canonical_text_reads_back(text: str) -> None:
    """Every option stands in it, and writing what was read changes nothing."""
    recipe = read_recipe(text)
    assert read_recipe(recipe.text) == recipe
    assert read_recipe(recipe.text).text == recipe.text
    for option in recipe.model.plugin.options:
        assert f"{option.name}=" in recipe.text


def test_equal_choices_have_equal_text_whatever_the_order() -> None:
    """Options come in the signature's order, so that a cache finds them."""
    assert (
        read_recipe("mlp:epochs=3,hidden=[8]").text == read_recipe("mlp:hidden=[8],epochs=3").text
    )


def test_choose_is_for_every_kind() -> None:
    """The same reading serves other kinds than models."""
    choice = choose("model", "logistic:l2=0.5")
    assert choice.options["l2"] == 0.5
    assert choice.text.startswith("logistic:solver=torch,l2=0.5")


def test_safeguards_are_split_at_plus() -> None:
    """Brackets and numbers like 1e+3 keep their plus; the rest separates."""
    assert split_recipe("mlp:a=[x+y]+b:rate=1e+3 + c") == ["mlp:a=[x+y]", "b:rate=1e+3", "c"]


@pytest.mark.parametrize("text", ["mlp+", "+mlp", "mlp++mlp", ""])
def test_a_plus_with_nothing_beside_it_is_refused(text: str) -> None:
    """No name, no recipe."""
    with pytest.raises(BadOption, match="no recipe"):
        read_recipe(text)


def test_unknown_names_give_the_nearest() -> None:
    """A misspelt model, option or safeguard is met with what is near."""
    with pytest.raises(UnknownName, match="'mlp'"):
        read_recipe("mpl")
    with pytest.raises(UnknownName, match="'hidden'"):
        read_recipe("mlp:hiden=[3]")
    with pytest.raises(UnknownName, match="safeguard"):
        read_recipe("mlp+no_such_thing")


def test_training_options_are_those_of_the_contract() -> None:
    """Every field of Training can be set on every model."""
    text = "mlp:epochs=2,batch_size=3,learning_rate=0.5,weight_decay=0.1,optimizer=sgd,patience=1"
    assert read_recipe(text).training == Training(2, 3, 0.5, 0.1, "sgd", 1)


def test_the_same_safeguard_twice_is_refused_unless_its_options_differ() -> None:
    """The second would do nothing new, or is a slip; spelt-out defaults are the same options."""
    for text in ("mlp+abstain+abstain", "mlp+trades+trades"):
        with pytest.raises(BadOption, match="stands there twice with the same options"):
            read_recipe(text)
    epsilon = read_recipe("mlp+trades").safeguards[0].text
    with pytest.raises(BadOption, match="trades stands there twice"):
        read_recipe(f"mlp+trades+{epsilon}")
    assert len(read_recipe("mlp+output_rounding:decimals=2+output_rounding").safeguards) == 2
