"""Two moons: one network is sure everywhere, Bayesian ones doubt where there were no data."""

import math

import numpy as np
import torch
from _picture import DEPTH, GREY, INK, SIDES, headline, panels, save
from torch import Tensor

from trustml.contracts import Split
from trustml.data.moons import moons
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import fit, seeded

BODY = "mlp:hidden=[32,32]"
TRAINING = "learning_rate=0.02,batch_size=64,patience=0"
RECIPES = {
    "deterministic": f"{BODY},epochs=60,{TRAINING}",
    "MC dropout": f'bnn:posterior=mc_dropout,dropout=0.1,body="{BODY}",epochs=120,{TRAINING}',
    "variational": (
        f'bnn:posterior=variational,prior_scale=3.0,estimator=local,body="{BODY}",epochs=200,'
        + TRAINING
    ),
    "ensemble of 5": f'bnn:posterior=ensemble,body="{BODY}",epochs=60,{TRAINING}',
}
DRAWS, SIDE = 50, 101
LOW, HIGH = -0.4, 1.4  # the data lie in the unit box
NEAR, FAR = 0.03, 0.3


def draws(recipe_text: str, train: Split, validation: Split, x: Tensor) -> Tensor:
    """Return class probabilities (S, B, 2) of a fitted model; one draw where there is one only."""
    recipe = read_recipe(recipe_text)
    model = build(recipe, train.domain, 0)
    fit(model, train, validation, recipe.training, 0)
    with torch.no_grad():
        if hasattr(model, "sample_logits"):
            count = len(model.members) if "ensemble" in recipe_text else DRAWS
            return model.sample_logits(x, count).softmax(2).double()
        return model(x)[None].softmax(2).double()


def disagreement(probabilities: Tensor) -> Tensor:
    """Return the mutual information (B,) of answer and weights, in bits."""
    total, each = probabilities.mean(0), probabilities
    noise = torch.special.entr(each).sum(2).mean(0)
    return ((torch.special.entr(total).sum(1) - noise) / math.log(2)).clamp_min(0)


def main() -> None:
    data = moons(folder=None, samples=1000)
    train, validation = data.train, data.validation
    line = np.linspace(LOW, HIGH, SIDE)
    grid = torch.cartesian_prod(*2 * [torch.tensor(line).float()])
    nearest = torch.cat([torch.cdist(rows, train.x).amin(1) for rows in grid.split(4000)])
    near, far = nearest < NEAR, nearest > FAR
    figure, axes = panels(2, 4, (13.2, 6.9), sharex=True, sharey=True)
    for column, (name, recipe) in enumerate(RECIPES.items()):
        above, below = axes[column], axes[4 + column]
        found = draws(recipe, train, validation, grid)
        probability, doubt = found.mean(0)[:, 1].view(SIDE, SIDE).T.numpy(), disagreement(found)
        sides = above.contourf(line, line, probability, 24, cmap=SIDES, vmin=0, vmax=1)
        above.contour(line, line, probability, [0.05, 0.5, 0.95], colors=INK, linewidths=0.6)
        depth = below.pcolormesh(
            line,
            line,
            doubt.view(SIDE, SIDE).T.numpy(),
            cmap=DEPTH,
            vmin=0,
            vmax=0.6,
            rasterized=True,
        )
        for label, colour in ((0, "#172554"), (1, "#7c2d12")):
            points = train.x[train.y == label].T
            above.plot(*points, "o", color=colour, markersize=1.8, markeredgecolor="white",
                       markeredgewidth=0.25)  # fmt: skip
            below.plot(*points, "o", color="white", markersize=1.2, markeredgecolor=INK,
                       markeredgewidth=0.25)  # fmt: skip
        inside, outside = doubt[near].mean().item(), doubt[far].mean().item()
        above.set_title(name)
        below.set_xlabel(f"amid the data {inside:.3f}, far away {outside:.3f}", color=GREY)
        if name == "deterministic":
            assert float(doubt.max()) == 0  # one network never disagrees with itself
        else:
            assert outside > 2 * inside
            assert outside > 0.02
    for axis in axes:
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel("probability of orange", color=GREY)
    axes[4].set_ylabel("disagreement of the draws", color=GREY)
    figure.colorbar(sides, ax=axes[3], ticks=[0, 0.5, 1], shrink=0.85, pad=0.02)
    figure.colorbar(depth, ax=axes[7], ticks=[0, 0.3, 0.6], shrink=0.85, pad=0.02, extend="max")
    headline(
        figure,
        "Sure where nothing was seen",
        "Above: the predicted probability, with contours at 5, 50 and 95 %. Below: the mutual "
        "information of answer and weights in bits, which more data would settle; its means stand "
        "underneath. One network has none. Dropout and the ensemble doubt where their boundaries "
        "fan out, and are sure beside them; drawn weights doubt most of the empty plane.",
    )
    save(figure, "two_moons")


if __name__ == "__main__":
    with seeded(0):
        main()
