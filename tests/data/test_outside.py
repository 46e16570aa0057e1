"""Out-of-distribution partners: read when asked for, of the host's shape, with their own ids."""

import numpy as np
import pytest
import torch

from trustml.contracts import Split
from trustml.data import _sources
from trustml.data._outside import fitted, partners_of, uniform
from trustml.data.mnist import mnist
from trustml.errors import BadInput, UnknownName


def images(shape=(1, 28, 28), count=30, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(0)
    x = low + (high - low) * torch.rand((count, *shape), generator=generator)
    return Split(x, torch.arange(count) % 3, torch.arange(count), 3, low, high)


def test_loading_reads_no_partner(tmp_path, write_collection, monkeypatch):
    write_collection(tmp_path)
    write_collection(tmp_path, "FashionMNIST", seed=1)
    read = []
    real = _sources.read_idx
    monkeypatch.setattr(_sources, "read_idx", lambda path, n: read.append(path) or real(path, n))
    dataset = mnist(folder=str(tmp_path))
    names = list(dataset.outside)
    assert "fashion_mnist" in names
    assert len(dataset.outside) == len(names)
    assert all("FashionMNIST" not in str(path) for path in read)
    dataset.outside["fashion_mnist"]
    assert [path.name for path in read if "FashionMNIST" in str(path)] == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]


def test_a_damaged_partner_hurts_only_who_asks_for_it(tmp_path, write_collection):
    write_collection(tmp_path)
    write_collection(tmp_path, "KMNIST")
    (tmp_path / "KMNIST/raw/t10k-images-idx3-ubyte.gz").write_bytes(b"broken")
    outside = mnist(folder=str(tmp_path)).outside
    with pytest.raises(BadInput, match="KMNIST/raw/t10k-images"):
        outside["kmnist"]


def test_an_absent_partner_is_not_listed_and_says_where_it_was_sought(tmp_path, write_collection):
    write_collection(tmp_path)
    outside = mnist(folder=str(tmp_path)).outside
    assert list(outside) == ["noise", "inverted", "shuffled"]
    assert "kmnist" not in outside
    with pytest.raises(BadInput, match="kmnist: not found: KMNIST/raw/t10k-images"):
        outside["kmnist"]
    with pytest.raises(UnknownName, match="did you mean 'kmnist'"):
        outside["kmist"]
    with pytest.raises(UnknownName, match="collection of images"):
        partners_of(images(), ("mist",), None)


def test_a_partner_holds_all_test_images_of_its_files(tmp_path, write_collection):
    arrays = write_collection(tmp_path, "FashionMNIST", test=50)["t10k"]
    split = partners_of(images(), ("fashion_mnist",), str(tmp_path))["fashion_mnist"]
    rows = (split.ids % 1_000_000_000).numpy()
    assert sorted(rows) == list(range(50))
    assert torch.equal(split.x[:, 0], torch.from_numpy(arrays[0][rows]).float() / 255)
    assert split.y.tolist() == arrays[1][rows].tolist()


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (1, 16, 16), (2, 9, 5)])
@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 3.0)])
def test_every_partner_fits_its_host_and_ids_are_all_different(
    tmp_path, write_collection, shape, box
):
    write_collection(tmp_path)
    write_collection(tmp_path, "notMNIST")
    test = images(shape, low=box[0], high=box[1])
    outside = partners_of(test, ("shift_mnist", "notmnist"), str(tmp_path))
    ids = [test.ids]
    for split in outside.values():
        assert tuple(split.x.shape[1:]) == shape
        assert (split.low, split.high) == box
        ids.append(split.ids)
    assert len(outside) == 5
    assert len(torch.cat(ids).unique()) == sum(map(len, ids))


def test_inverted_exchanges_dark_and_bright():
    test = images(low=-1.0, high=3.0)
    split = partners_of(test, (), None)["inverted"]
    assert torch.allclose(split.x, 2 - test.x)  # -1 ↔ 3
    assert torch.equal(split.y, test.y)


def test_shuffled_keeps_each_images_values_and_moves_them():
    test = images((3, 8, 8))
    split = partners_of(test, (), None)["shuffled"]
    assert torch.equal(split.x.flatten(2).sort().values, test.x.flatten(2).sort().values)
    moved = (split.x != test.x).float().mean()
    assert moved > 0.9  # a pixel stays with chance 1/64
    orders = [tuple((image[0] == probe[0, 0, 0]).nonzero()[0].tolist())
              for image, probe in zip(split.x, test.x, strict=True)]  # fmt: skip
    assert len(set(orders)) > 10  # each image has an order of its own
    # All channels of an image move alike.
    place = (split.x[0, 0] == test.x[0, 0, 2, 3]).nonzero()[0]
    assert torch.equal(split.x[0, :, place[0], place[1]], test.x[0, :, 2, 3])


def test_rows_that_are_no_images_have_noise_alone():
    assert list(partners_of(images((5,)), (), None)) == ["noise"]


def test_uniform_is_uniform_and_always_the_same():
    # Mean 1 and variance 16/12 of a uniform law on [-1, 3], within five standard errors.
    x = uniform(20_000, (3,), -1.0, 3.0)
    assert x.mean().item() == pytest.approx(1, abs=0.03)
    assert x.var().item() == pytest.approx(16 / 12, abs=0.03)
    assert torch.equal(x, uniform(20_000, (3,), -1.0, 3.0))
    assert x.min() >= -1
    assert x.max() <= 3


def test_fitted_keeps_a_flat_image_flat_and_frames_it_with_black():
    flat = torch.full((2, 1, 16, 16), 0.5)
    assert torch.allclose(fitted(flat, (3, 32, 32)), torch.full((2, 3, 32, 32), 0.5))
    framed = fitted(flat, (1, 28, 28), box=20)
    assert torch.allclose(framed[..., 4:24, 4:24], torch.tensor(0.5))
    assert framed.sum().item() == pytest.approx(2 * 400 * 0.5, rel=1e-5)


def test_fitted_halves_by_averaging_and_greys_by_the_mean():
    x = torch.rand(2, 3, 8, 8)
    grey = fitted(x, (1, 8, 8))
    assert torch.allclose(grey, x.mean(1, keepdim=True))
    assert torch.equal(fitted(x, (3, 8, 8)), x)
    # The mean brightness of an antialiased half-size image is the image's, border effects aside.
    assert fitted(x, (3, 4, 4)).mean().item() == pytest.approx(x.mean().item(), abs=0.02)


def test_usps_goes_into_the_box_where_mnists_digits_are(real_files):
    # MNIST's digits are scaled to 20×20 within 28×28; ours must leave the same border empty.
    folder = real_files("USPS/usps.t.bz2")
    split = partners_of(images(), ("shift_usps",), folder)["shift_usps"]
    assert len(split) == 2007
    border = np.ones((28, 28), bool)
    border[4:24, 4:24] = False
    assert split.x[:, 0, border].max() == 0
    assert split.x[:, 0, 4].max() > 0.5
