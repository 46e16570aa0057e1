"""Autoencoders with three kinds of codes: digits that they rebuild, and digits of their own."""

import torch
from _picture import GREY, headline, panels, save
from matplotlib.axes import Axes
from torch import Tensor

from trustml.contracts import Split
from trustml.data.digits import digits
from trustml.models.vae import Autoencoder
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import fit

KINDS = (
    ("16 Gaussian codes", "vae"),
    ("16 exponential codes", "vae:latent=exponential"),
    ("16 codes of 8 values each", "vae:latent=gumbel"),
)
ROWS, COLUMNS = 6, 12


def sheet(images: Tensor) -> Tensor:
    """Return images (N, 1, H, W) as one picture, a row of COLUMNS after the other."""
    framed = torch.nn.functional.pad(images[:, 0], (0, 1, 0, 1))
    rows = framed.unflatten(0, (-1, COLUMNS))
    return rows.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)


def show(axis: Axes, images: Tensor, title: str, note: str) -> None:
    axis.imshow(sheet(images).numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title)
    axis.set_xlabel(note, color=GREY)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def fitted(text: str, train: Split, validation: Split) -> Autoencoder:
    recipe = read_recipe(text)
    model = build(recipe, train.domain, 0)
    fit(model, train, validation, recipe.training, 0)
    assert isinstance(model, Autoencoder)
    return model


def main() -> None:
    data = digits(folder=None)
    train, test = data.train, data.test
    shown = torch.cat([test.x[test.y == label][:4] for label in range(9)])  # 36 = three rows
    plain = (test.x - train.x.mean(0)).square().mean().item()
    figure, axes = panels(2, 3, (13.2, 6.05), gridspec_kw={"hspace": 0.06})
    for column, (title, text) in enumerate(KINDS):
        model = fitted(text, train, data.validation)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            rebuilt = model.reconstruct(test.x)
            elbo = model.elbo(test.x, generator=generator).mean().item()
            bound = model.importance_bound(test.x, 50, generator=generator).mean().item()
            pairs = [(x, model.reconstruct(x)) for x in shown.split(COLUMNS)]
            fresh = model.generate(ROWS * COLUMNS)
        error = (rebuilt - test.x).square().mean().item()
        assert error < 0.4 * plain
        assert bound > elbo
        assert float(fresh.min()) >= 0
        assert float(fresh.max()) <= 1
        # What is made up is as varied as digits are: no two alike, and about as much ink.
        assert float(torch.pdist(fresh.flatten(1)).min()) > 0.2
        assert abs(fresh.mean() / train.x.mean() - 1) < 0.15
        by_turns = torch.cat([half for pair in pairs for half in pair])
        note = f"by turns test digits and rebuilt; {error / plain:.0%} of the variance lost"
        show(axes[column], by_turns, title, note)
        show(axes[3 + column], fresh, "made up",
             f"ELBO {elbo:.1f}, 50-draw bound {bound:.1f} nats on test digits")  # fmt: skip
    headline(
        figure,
        "Rebuilt and made up",
        "Variational autoencoders on 8 × 8 digits. Above, test digits and under each what the "
        "decoder makes of its mean code; below, digits decoded from codes of the prior. The "
        "bound with 50 draws is never below the ELBO, and both are log densities that detectors "
        "of strange inputs can use.",
    )
    save(figure, "vae_sheets")


if __name__ == "__main__":
    main()
