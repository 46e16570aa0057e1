"""Every posterior on digits over three seeds: python comparisons/posteriors.py [RECIPE …].

Accuracy, negative log likelihood and expected calibration error (15 bins of equal width) on the
test digits, each the mean over seeds with its range. `python comparisons/posteriors.py links`: how
far each link of the last-layer Laplace lies from 2000 draws, at temperature 1.
"""

import sys

import torch

from trustml.bayes.laplace import predict
from trustml.calibration import calibration_scores
from trustml.data.digits import digits
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import fit

SEEDS = 3
LAST_LAYER = "bnn:posterior=laplace_last_layer,temperature=1"
RECIPES = (
    "mlp",
    "bnn:posterior=mc_dropout",
    "bnn:posterior=variational",
    "bnn:posterior=variational,temperature=0.1",
    "bnn:posterior=laplace_last_layer",
    "bnn:posterior=laplace_last_layer,temperature=1",
    "bnn:posterior=laplace",
    "bnn:posterior=laplace,temperature=1",
    "bnn:posterior=swag",
    "bnn:posterior=swag,temperature=1",
    "bnn:posterior=ensemble",
    "bnn:posterior=bootstrap",
)


def scores(text: str, seed: int) -> tuple[float, float, float]:
    """Return accuracy in %, nats and calibration error in % of the recipe's model."""
    data, recipe = digits(folder=None), read_recipe(text)
    model = build(recipe, data.train.domain, seed)
    fit(model, data.train, data.validation, recipe.training, seed)
    with torch.no_grad():
        logits = model(data.test.x)
    right = (logits.argmax(1) == data.test.y).double().mean().item()
    found = calibration_scores(logits, data.test.y, bins=15)
    return 100 * right, found["nll"].value, 100 * found["ece"].value


def links() -> None:
    """Print for each seed the share of variance that is a common shift, and each link's distance.

    The distance is that of total variation, mean over test digits.
    """
    data, recipe = digits(folder=None), read_recipe(LAST_LAYER)
    print("| seed | shift, % of variance | probit, % | contrast, % |\n|---|---|---|---|")
    for seed in range(SEEDS):
        model = build(recipe, data.train.domain, seed)
        fit(model, data.train, data.validation, recipe.training, seed)
        with torch.no_grad():
            features, layer = model.features(data.test.x), model.belief()
            truth = model.sample_logits(data.test.x, 2000).softmax(2).mean(0)
            apart = [
                50 * (predict(layer, features, link=link) - truth).abs().sum(1).mean().item()
                for link in ("probit", "contrast")
            ]
            covariance = layer.logit_covariance(features.double())
        whole = covariance.diagonal(dim1=1, dim2=2).mean()
        shift = 100 * (covariance.mean() / whole).item()
        print(f"| {seed} | {shift:.0f} | {apart[0]:.1f} | {apart[1]:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    if sys.argv[1:] == ["links"]:
        links()
        return
    print("| recipe | accuracy % | NLL, nats | ECE % |\n|---|---|---|---|")
    for text in sys.argv[1:] or RECIPES:
        columns = zip(*(scores(text, seed) for seed in range(SEEDS)), strict=True)
        cells = [
            f"{sum(column) / SEEDS:.{digits}f} ({min(column):.{digits}f}–{max(column):.{digits}f})"
            for column, digits in zip(columns, (1, 3, 1), strict=True)
        ]
        print(f"| `{text}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
