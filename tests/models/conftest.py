"""Data for the models' tests: scikit-learn's embedded digits, cut once."""

import pytest
import torch
from sklearn.datasets import load_digits

from trustml.contracts import Split


@pytest.fixture(scope="session")
def digits() -> tuple[Split, Split, Split]:
    """Return train, validation and test parts of the digits, (1, 8, 8) in [0, 1]."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cuts = order[:1200], order[1200:1437], order[1437:]
    train, validation, test = (Split(x[rows], y[rows], rows, 10) for rows in cuts)
    return train, validation, test
