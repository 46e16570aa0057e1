"""Out-of-distribution partners: read when asked for, of the host's shape, with their own ids."""

import numpy as np
import pytest
import torch

from trustml.contracts import Split
from trustml.data import _sources
from trustml.data._made import gaussian, photographs, uniform
from trustml.data._outside import partners_of
from trustml.data.mnist import mnist
from trustml.errors import BadInput, BadOption, UnknownName
from trustml.partners import fitted, has_host_labels, is_shift

MADE = ("noise", "gaussian", "photographs", "inverted", "rotated", "shuffled")


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
    assert list(outside) == list(MADE)
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
    assert len(outside) == 8
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
    assert list(partners_of(images((5,)), (), None)) == ["noise", "gaussian"]


def test_rotated_is_a_quarter_turn_and_back_by_three_more():
    test = images((3, 8, 8), low=-1.0, high=3.0)
    split = partners_of(test, (), None)["rotated"]
    assert torch.equal(split.x.rot90(3, (-2, -1)), test.x)
    assert not torch.equal(split.x, test.x)
    assert torch.equal(split.y, test.y)
    wide = images((1, 4, 9))  # a quarter turn would change the shape
    assert torch.equal(partners_of(wide, (), None)["rotated"].x, wide.x.flip(-1, -2))


def test_gaussian_noise_has_its_law_and_is_not_the_uniform_one_again():
    # N(1, 1) cut to [-1, 3]: 2.3 % on each wall, mean 1; five standard errors.
    x = gaussian(20_000, (3,), -1.0, 3.0)
    assert x.mean().item() == pytest.approx(1, abs=0.02)
    for wall in (-1.0, 3.0):
        assert (x == wall).float().mean().item() == pytest.approx(0.02275, abs=0.003)
    inner = (x.sub(1).abs() < 1).float().mean().item()
    assert inner == pytest.approx(0.6827, abs=0.01)
    both = torch.stack([x.flatten(), uniform(20_000, (3,), -1.0, 3.0).flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.02
    assert torch.equal(x, gaussian(20_000, (3,), -1.0, 3.0))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 300, 260)])
def test_photographs_are_varied_pieces_of_the_two_pictures(shape):
    from sklearn.datasets import load_sample_images

    x = photographs(40, shape, 0.0, 1.0)
    assert tuple(x.shape) == (40, *shape)
    assert torch.equal(x, photographs(40, shape, 0.0, 1.0))
    assert len(x.flatten(1).unique(dim=0)) == 40
    flat = (x.flatten(1).std(1) < 0.02).float().mean()
    assert flat < 0.5  # the china picture has much sky
    if shape == (3, 32, 32):  # the first patch is at full size, so it stands in the first picture
        photo = torch.from_numpy(load_sample_images().images[0].copy()).movedim(-1, 0).float() / 255
        windows = photo.unfold(1, 32, 1).unfold(2, 32, 1)
        errors = (windows - x[0][:, None, None]).abs().amax((0, 3, 4))
        assert errors.min() < 1e-6


def test_held_out_classes_are_the_other_test_rows_and_nobody_learns_from_them(
    tmp_path, write_collection
):
    write_collection(tmp_path, train=80, test=60)
    whole = mnist(folder=str(tmp_path))
    part = mnist(folder=str(tmp_path), classes=(7, 1, 3))
    assert part.class_names == ("1", "3", "7")
    assert part.test.classes == part.train.classes == 3
    names = {0: 1, 1: 3, 2: 7}
    for split, of in ((part.train, whole.train), (part.test, whole.test)):
        mine = torch.isin(of.y, torch.tensor([1, 3, 7]))
        assert torch.equal(split.x, of.x[mine])
        assert [names[k] for k in split.y.tolist()] == of.y[mine].tolist()
    held = part.outside["held_out"]
    others = ~torch.isin(whole.test.y, torch.tensor([1, 3, 7]))
    assert torch.equal(held.x, whole.test.x[others])
    assert "held_out" not in whole.outside
    assert "shift_usps" in whole.outside.partners
    assert "shift_usps" not in part.outside.partners
    for classes in ((0,), (0, 0), tuple(range(10)), (1, 12), (-1, 2)):
        with pytest.raises(BadOption, match="from 2 to 9 different classes of 0 to 9"):
            mnist(folder=str(tmp_path), classes=classes)


def test_which_partners_are_shifts_and_which_have_right_answers():
    assert is_shift("shift_usps")
    assert not is_shift("rotated")
    test = images()
    outside = partners_of(test, (), None)
    for name in MADE:
        assert has_host_labels(name) == bool((outside[name].y != 0).any())


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
