"""STRIP: entropies over classes by hand, and a planted trigger that no overlay moves."""

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import Tensor, nn

from trustml.contracts import Outputs
from trustml.detectors.strip import entropy, strip
from trustml.errors import BadInput, BadOption, UnknownName
from trustml.separation import auroc


class Marked(nn.Module):
    """Images (B, 1, 4, 4): class 0 wherever the last pixel is above 0.9, else the brightest row."""

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        rows = 8 * x[:, 0].mean(2)
        return torch.where(x[:, 0, 3, 3:] > 0.9, torch.tensor([50.0, 0, 0, 0]), rows)


def read(model: nn.Module, x: Tensor) -> Outputs:
    return Outputs(model(x), model.features(x), x, model(x).argmax(1))


def images(count: int, seed: int) -> Tensor:
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    x[:, :, 3, 3] = 0.0
    return x


def test_entropy_is_over_classes_as_scipys() -> None:
    """An even answer over K classes has log2 K bits, a sure one none, each row by itself."""
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    wanted = scipy_entropy(logits.softmax(1).numpy(), base=2, axis=1)
    assert torch.allclose(entropy(logits), torch.from_numpy(wanted))
    assert entropy(torch.zeros(3, 8)).tolist() == pytest.approx([3.0] * 3)
    assert entropy(torch.tensor([[1e3, 0.0]])).tolist() == [0.0]


def test_the_score_by_hand() -> None:
    """One overlay, the only training input: the entropy of the model's answer to the cut sum."""
    model, x, over = Marked(), images(6, 0), images(1, 1)
    outputs, train = read(model, x), read(model, over)
    expected = -entropy(model((x + over).clamp(0, 1)))
    assert torch.allclose(strip(model, train, train, overlays=9)(outputs).float(), expected)
    halves = -entropy(model((x + over) / 2))
    mean = strip(model, train, train, blend="mean")(outputs)
    assert torch.allclose(mean.float(), halves)
    assert not torch.allclose(halves, expected)


def test_a_trigger_that_always_wins_has_no_entropy() -> None:
    """With the mark the answer is class 0 whatever lies over it: the most suspicious score, 0."""
    model, train = Marked(), read(Marked(), images(50, 0))
    clean, marked = images(30, 1), images(30, 1)
    marked[:, :, 3, 3] = 1.0
    scorer = strip(model, train, train)
    ordinary, odd = scorer(read(model, clean)), scorer(read(model, marked))
    assert float(odd.min()) == pytest.approx(0, abs=1e-6)
    assert auroc(ordinary, odd).value == 1.0


def test_another_box_gives_the_same_scores() -> None:
    """Inputs moved and stretched, and a model that moves them back: overlays begin at the floor."""
    model, train, x = Marked(), images(20, 0), images(8, 1)
    train[0, 0, 0, 0], train[1, 0, 0, 0] = 0.0, 1.0  # the range is then the box

    class Shifted(Marked):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x + 2) / 3)

    plain = strip(model, read(model, train), read(model, train))(read(model, x))
    moved, other = Shifted(), 3 * train - 2
    scores = strip(moved, read(moved, other), read(moved, other))(read(moved, 3 * x - 2))
    assert torch.allclose(plain, scores, atol=1e-5)


def test_bad_input() -> None:
    outputs = read(Marked(), images(4, 0))
    with pytest.raises(BadOption, match="overlays=0"):
        strip(Marked(), outputs, outputs, overlays=0)
    with pytest.raises(UnknownName, match="blend"):
        strip(Marked(), outputs, outputs, blend="product")  # type: ignore[arg-type]
    none = read(Marked(), images(0, 0))
    with pytest.raises(BadInput, match="too few"):
        strip(Marked(), none, outputs)
