"""The training figure: right counts, and a picture whatever the curve and the classes."""

import pytest
import torch
from sklearn.metrics import confusion_matrix

from trustml.contracts import Epoch
from trustml.errors import BadInput
from trustml.reports.training_figure import confusion, training_figure

CURVE = [Epoch(1.0 / n, 1 - 0.5 / n, 1.2 / n, 1 - 0.6 / n) for n in range(1, 6)]


def guesses(classes: int, count: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels and logits that are right most of the time."""
    generator = torch.Generator().manual_seed(classes)
    y = torch.randint(classes, (count,), generator=generator)
    return y, 2 * torch.eye(classes)[y] + torch.randn(count, classes, generator=generator)


def test_counts_are_those_of_scikit_learn() -> None:
    """Rows are true classes, columns are answers."""
    y, logits = guesses(7)
    truth = confusion_matrix(y, logits.argmax(1), labels=range(7))
    assert confusion(logits, y).tolist() == truth.tolist()


@pytest.mark.parametrize("classes", [2, 10, 25, 100])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_draws_any_number_of_classes_and_epochs(classes: int, epochs: int) -> None:
    """A PNG, without a warning, also for classes without samples and for weights from a file."""
    y, logits = guesses(classes)
    names = [f"a long name of class {k}" for k in range(classes)]
    picture = training_figure(CURVE[:epochs], logits, y.clamp(max=classes - 2), names, "title")
    assert picture.startswith(b"\x89PNG")


def test_refuses_what_does_not_fit() -> None:
    """Three names for two classes."""
    y, logits = guesses(2)
    with pytest.raises(BadInput, match="3 class names"):
        training_figure(CURVE, logits, y, ["a", "b", "c"], "title")
    with pytest.raises(BadInput, match=r"labels \(5,\)"):
        training_figure(CURVE, logits, y[:5], ["a", "b"], "title")
