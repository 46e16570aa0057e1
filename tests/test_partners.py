"""Partners: the host's own, another dataset made to fit, and what is no partner at all."""

import numpy as np
import pytest
import torch

from trustml.contracts import Dataset, Split
from trustml.data.digits import digits
from trustml.data.moons import moons
from trustml.errors import BadInput, BadOption, UnknownName
from trustml.partners import partner


def images(names=("cat", "dog"), shape=(1, 8, 8), low=0.0, high=1.0) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(start: int) -> Split:
        x = low + (high - low) * torch.rand(12, *shape, generator=generator)
        return Split(x, torch.arange(12) % 2, torch.arange(12) + start, 2, low, high)

    return Dataset("pets", split(0), split(100), split(200), names, {"linf": 0.1})


@pytest.fixture
def letters(tmp_path):
    """Write images of 28x28 as an npz file and return its spec."""
    generator = np.random.default_rng(0)
    x = generator.random((40, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "letters.npz", x=x, y=np.arange(40) % 3)
    return f'npz:path="{tmp_path / "letters.npz"}"'


def test_a_datasets_own_partner_comes_first() -> None:
    host = digits(folder=None)
    assert torch.equal(partner(host, "rotated", None).x, host.outside["rotated"].x)


def test_another_dataset_is_put_into_the_hosts_size_and_box(letters) -> None:
    host = images(low=-1.0, high=3.0)
    split = partner(host, letters, None)
    assert tuple(split.x.shape[1:]) == (1, 8, 8)
    assert (split.low, split.high) == (-1.0, 3.0)
    assert not torch.isin(split.ids, host.test.ids).any()
    flat = partner(images(shape=(3, 28, 28)), letters, None)
    assert torch.equal(flat.x[:, 0], flat.x[:, 2])  # grey in all three channels
    same = partner(images(shape=(1, 28, 28)), "digits", None)
    assert len(same) == 539


def test_inputs_of_the_same_shape_are_left_as_they_are() -> None:
    split = partner(images(), "digits", None)
    assert torch.equal(split.x, digits(folder=None).test.x)


def test_other_classes_of_the_same_data_may_be_a_partner() -> None:
    host = digits(folder=None, classes=(0, 1, 2))
    assert len(partner(host, "digits:classes=[8,9]", None)) > 50
    with pytest.raises(BadInput, match="ask for held_out"):
        partner(host, "digits:classes=[2,9]", None)
    with pytest.raises(BadInput, match="ask for held_out"):
        partner(digits(folder=None), "digits", None)


def test_the_same_classes_in_another_hand_are_a_shift() -> None:
    host = images(names=tuple("0123456789"))
    with pytest.raises(BadInput, match=r"both show the classes 0, 1, .*ask for shift_digits"):
        partner(host, "digits", None)
    assert len(partner(host, "shift_digits", None)) == 539
    with pytest.raises(BadInput, match="a shift shows the same classes"):
        partner(images(), "shift_digits", None)


def test_what_cannot_be_made_to_fit_says_how_to_convert() -> None:
    with pytest.raises(BadInput, match=r"shape \(2,\), pets of \(1, 8, 8\).*npz:path=other\.npz"):
        partner(images(), "moons", None)
    with pytest.raises(BadInput, match=r"x\.reshape\(\(-1, 2\)\)"):
        partner(moons(folder=None), "digits", None)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"no out-of-distribution set named 'rotate'.*'rotated'"):
        partner(digits(folder=None), "rotate", None)
    with pytest.raises(UnknownName, match="sampels"):
        partner(images(), "moons:sampels=3", None)
    with pytest.raises(BadOption, match="samples"):
        partner(images(), "moons:samples=many", None)


def test_a_partner_whose_files_are_nowhere_says_so(monkeypatch, tmp_path) -> None:
    from trustml.data import _download

    monkeypatch.setattr(_download, "reachable", lambda host: False)
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="kmnist: not found"):
        partner(digits(folder=None), "kmnist", None)


def test_the_numbers_of_an_array_s_classes_are_no_names(letters) -> None:
    """The classes 0, 1, 2 of a bare array are not the digits 0, 1, 2."""
    host = digits(folder=None)
    assert {"0", "1", "2"} <= set(host.class_names)
    assert tuple(partner(host, letters, None).x.shape[1:]) == (1, 8, 8)
