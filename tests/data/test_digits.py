"""The embedded digits, against scikit-learn's own loader."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trustml.data import digits as module
from trustml.data.digits import digits
from trustml.errors import BadOption


def test_every_sample_is_scikit_learns_of_that_row():
    truth = load_digits()
    dataset = digits(folder=None)
    for split in (dataset.train, dataset.validation, dataset.test):
        rows = split.ids.numpy()
        wanted = (truth.images[rows] / 16).astype(np.float32)
        np.testing.assert_array_equal(split.x[:, 0].numpy(), wanted)
        np.testing.assert_array_equal(split.y.numpy(), truth.target[rows])
    ids = torch.cat([dataset.train.ids, dataset.validation.ids, dataset.test.ids])
    assert ids.sort().values.tolist() == list(range(1797))


def test_sizes_are_the_shares():
    dataset = digits(folder=None)
    assert [len(s) for s in (dataset.test, dataset.validation)] == [539, 180]  # 30 and 10 % of 1797
    dataset = digits(folder=None, validation=0.2, test=0.5)
    assert [len(s) for s in (dataset.test, dataset.validation)] == [898, 359]
    with pytest.raises(BadOption, match="leave a part without any"):
        digits(folder=None, validation=0.6, test=0.5)


def test_every_class_is_in_every_part():
    dataset = digits(folder=None)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert len(split.y.unique()) == 10


def test_without_the_packaged_file_scikit_learn_gives_the_same(monkeypatch):
    fast = module._table()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    np.testing.assert_array_equal(module._table(), fast)


def test_loading_imports_no_scikit_learn():
    # Its import takes longer than all the rest; a fresh interpreter shows what is loaded.
    code = (
        "import sys; from trustml.data.digits import digits; digits(folder=None);"
        "print([m for m in ('sklearn', 'scipy', 'torchvision', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_these_partners_need_no_files():
    outside = digits(folder=None).outside
    made = ["noise", "gaussian", "photographs", "inverted", "rotated", "shuffled"]
    assert list(outside) == made
    assert {tuple(split.x.shape[1:]) for split in outside.values()} == {(1, 8, 8)}


def test_classes_8_and_9_can_be_held_out():
    whole, part = digits(folder=None), digits(folder=None, classes=tuple(range(8)))
    assert part.class_names == tuple("01234567")
    assert len(part.test) + len(part.outside["held_out"]) == len(whole.test)
    assert len(part.outside["held_out"]) == int((whole.test.y >= 8).sum())
    assert int(part.train.y.max()) == 7
    assert not torch.isin(part.outside["held_out"].ids, whole.test.ids).any()
