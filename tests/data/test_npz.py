"""One's own arrays: every layout of keys and axes that is told apart, and every fault named."""

import numpy as np
import pytest
import torch

from trustml.data.npz import npz
from trustml.errors import BadInput, BadOption, UnknownName

TEST, VALIDATION = 1_000_000_000, 2_000_000_000
Y = np.arange(40) % 4


def pictures(count=40, shape=(3, 6, 6), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def by_id(*splits):
    ids = torch.cat([split.ids for split in splits])
    order = ids.argsort()
    x, y = (torch.cat([getattr(s, part) for s in splits])[order] for part in ("x", "y"))
    return ids[order].tolist(), x, y


def test_one_file_is_cut_in_three(tmp_path):
    images = pictures()
    dataset = npz(folder=None, path=save(tmp_path / "all.npz", x=images, y=Y))
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [28, 4, 8]
    ids, x, y = by_id(dataset.train, dataset.validation, dataset.test)
    assert ids == list(range(40))
    assert torch.equal(x, torch.from_numpy(images).float() / 255)
    assert y.tolist() == Y.tolist()
    assert dataset.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),  # as Keras saves its sets
        ("train_images", "train_labels", "test_images", "test_labels"),  # as MedMNIST does
        ("x", "y", "x_test", "y_test"),
        ("X", "Y", "X_test", "Y_test"),
    ],
)
def test_a_file_with_a_test_part(tmp_path, keys):
    arrays = dict(zip(keys, (pictures(), Y, pictures(6, seed=1), Y[:6]), strict=True))
    dataset = npz(folder=None, path=save(tmp_path / "all.npz", **arrays))
    assert dataset.test.ids.tolist() == [TEST + n for n in range(6)]
    assert torch.equal(dataset.test.x, torch.from_numpy(arrays[keys[2]]).float() / 255)
    assert [len(dataset.train), len(dataset.validation)] == [36, 4]


@pytest.mark.parametrize("word", ["validation", "val", "valid"])
def test_a_file_with_all_parts_is_used_whole(tmp_path, word):
    path = save(
        tmp_path / "all.npz", x_train=pictures(), y_train=Y, x_test=pictures(5), y_test=Y[:5],
        **{f"x_{word}": pictures(3), f"y_{word}": Y[:3]},
    )  # fmt: skip
    dataset = npz(folder=None, path=path)
    assert len(dataset.train) == 40
    assert dataset.validation.ids.tolist() == [VALIDATION + n for n in range(3)]


def test_a_folder_with_a_tail_for_the_test(tmp_path):
    # CIFAR-10 with part of its test file: the file's images first, then the training file's last.
    train, test = pictures(), pictures(3, seed=1)
    save(tmp_path / "train.npz", x=train, y=Y)
    save(tmp_path / "test_first3.npz", x=test, y=Y[:3])
    dataset = npz(folder=None, path=str(tmp_path), test_tail=10)
    assert dataset.test.ids.tolist() == [TEST, TEST + 1, TEST + 2, *range(30, 40)]
    wanted = torch.from_numpy(np.concatenate([test, train[30:]])).float() / 255
    assert torch.equal(dataset.test.x, wanted)
    ids, x, _ = by_id(dataset.train, dataset.validation)
    assert ids == list(range(30))
    assert torch.equal(x, torch.from_numpy(train[:30]).float() / 255)


def test_test_npz_is_taken_before_others_of_like_name(tmp_path):
    save(tmp_path / "train.npz", x=pictures(), y=Y)
    save(tmp_path / "test_a.npz", x=pictures(3), y=Y[:3])
    save(tmp_path / "test_b.npz", x=pictures(4), y=Y[:4])
    with pytest.raises(BadInput, match=r"which is the test file, test_a.npz or test_b.npz\?"):
        npz(folder=None, path=str(tmp_path))
    save(tmp_path / "test.npz", x=pictures(5), y=Y[:5])
    assert len(npz(folder=None, path=str(tmp_path)).test) == 5


@pytest.mark.parametrize(
    ("given", "layout", "shape"),
    [
        ((3, 6, 6), "auto", (3, 6, 6)),
        ((6, 6, 3), "auto", (3, 6, 6)),
        ((6, 5, 1), "auto", (1, 6, 5)),
        ((1, 6, 5), "auto", (1, 6, 5)),
        ((6, 5), "auto", (1, 6, 5)),
        ((7,), "auto", (7,)),
        ((3, 6, 3), "nchw", (3, 6, 3)),
        ((3, 6, 3), "nhwc", (3, 3, 6)),
    ],
)
def test_axes_are_put_channels_first(tmp_path, given, layout, shape):
    images = pictures(shape=given)
    dataset = npz(folder=None, path=save(tmp_path / "a.npz", x=images, y=Y), layout=layout)
    assert tuple(dataset.train.x.shape[1:]) == shape
    one = torch.from_numpy(images[int(dataset.train.ids[0])]).float() / 255
    if len(given) == 3 and shape != given:
        one = torch.stack([one[..., channel] for channel in range(given[-1])])
    assert torch.equal(dataset.train.x[0], one.reshape(shape))


@pytest.mark.parametrize(
    ("shape", "layout", "error", "words"),
    [
        ((3, 6, 3), "auto", BadInput, "say which axis is which with layout=nchw or nhwc"),
        ((6, 6, 6), "auto", BadInput, "say which axis"),
        ((2, 2, 2, 2), "auto", BadInput, "say which axis"),
        ((), "auto", BadInput, "say which axis"),
        ((6, 6), "nhwc", BadOption, "layout=nhwc needs 4 axes"),
    ],
)
def test_axes_that_are_not_clear_are_asked_about(tmp_path, shape, layout, error, words):
    with pytest.raises(error, match=words):
        npz(folder=None, path=save(tmp_path / "a.npz", x=pictures(shape=shape), y=Y), layout=layout)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", ">f8", "int64", "bool"])
def test_numbers_of_any_type_are_kept_within_their_box(tmp_path, dtype):
    values = (np.random.default_rng(0).integers(0, 2, (40, 5))).astype(dtype)
    dataset = npz(folder=None, path=save(tmp_path / "a.npz", x=values, y=Y.astype(np.uint8)))
    _, x, _ = by_id(dataset.train, dataset.validation, dataset.test)
    np.testing.assert_array_equal(x.numpy(), values.astype(np.float32))


def test_a_box_of_ones_own(tmp_path):
    # 0.1 is no float32: an input equal to the bound must still be inside.
    values = np.full((40, 5), 0.1, np.float32)
    values[::2] = -2
    path = save(tmp_path / "a.npz", x=values, y=Y)
    dataset = npz(folder=None, path=path, low=-2.0, high=0.1)
    assert dataset.train.low == -2
    assert dataset.train.high == np.float32(0.1)
    assert dataset.budgets["linf"] == pytest.approx(8 / 255 * 2.1)  # as wide as the box
    with pytest.raises(BadInput, match=r"x goes from -2 to 0.1, outside \[0, 1\]; .*low=-2,high=1"):
        npz(folder=None, path=path)


def test_cifars_budgets_at_cifars_size(tmp_path):
    # The field's Linf 8/255 and L2 0.5 for 3×32×32.
    path = save(tmp_path / "a.npz", x=pictures(shape=(3, 32, 32)), y=Y)
    budgets = npz(folder=None, path=path).budgets
    assert budgets == {"linf": 8 / 255, "l2": 0.5, "l1": 12, "l0": 24}


def test_nan_is_named_by_sample(tmp_path):
    values = np.zeros((40, 5))
    values[17, 2] = np.nan
    with pytest.raises(BadInput, match="sample id 17 holds nan"):
        npz(folder=None, path=save(tmp_path / "a.npz", x=values, y=Y))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": pictures()}, "it has images without its labels"),
        ({"y": Y}, "it has y without its inputs"),
        ({"a": Y, "b": Y}, r"wanted x and y, or x_train.*; it has a, b"),
        ({}, "it has nothing"),
        ({"x_test": pictures(), "y_test": Y}, "holds test arrays but no train ones"),
        ({"x": pictures(), "y": Y[:30]}, "40 train inputs but 30 labels"),
        ({"x": pictures(), "y": np.eye(4)[Y]}, "argmax"),
        ({"x": pictures(), "y": Y.astype(float)}, "y holds float64; labels are whole numbers"),
        ({"x": pictures(), "y": Y + 1}, "labels go from 1 to 4; they must start at 0"),
        ({"x": pictures(), "y": Y - 1}, "labels go from -1 to 2"),
        ({"x": pictures(), "y": Y * 1000}, "labels go up to 3000 for 40 samples"),
        ({"x": pictures(), "y": Y * 0}, "1 classes"),
        ({"x": np.array(["a"] * 40), "y": Y}, "x holds <U1; inputs must be"),
        ({"x": pictures()[:0], "y": Y[:0]}, "no sample"),
        ({"x": pictures()[:2], "y": Y[:2]}, "leave a part without any"),
        ({"x": np.zeros((40, 0)), "y": Y}, "must not be empty"),
        ({"x": pictures(), "y": Y, "x_test": pictures(shape=(3, 5, 5)), "y_test": Y}, "has shape"),
        (
            {"x": pictures(), "y": Y, "x_test": np.ones((40, 3, 6, 6)), "y_test": Y},
            "save all alike",
        ),
    ],
)
def test_each_fault_is_named(tmp_path, arrays, words):
    with pytest.raises((BadInput, BadOption), match=words):
        npz(folder=None, path=save(tmp_path / "a.npz", **arrays))


def test_labels_in_a_column_are_fine(tmp_path):
    # Keras saves CIFAR's labels as (B, 1).
    dataset = npz(folder=None, path=save(tmp_path / "a.npz", x=pictures(), y=Y[:, None]))
    assert dataset.train.y.ndim == 1


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path):
    path = save(tmp_path / "a.npz", x=pictures(), y=Y)
    whole = (tmp_path / "a.npz").read_bytes()
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.npz").write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"a.npz: cannot be read as npz"):
            npz(folder=None, path=path)


def test_a_changed_byte_is_noticed(tmp_path):
    path = save(tmp_path / "a.npz", x=pictures(), y=Y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[2000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot be read as npz.*CRC"):
        npz(folder=None, path=path)


def test_objects_and_bare_arrays_are_refused(tmp_path):
    np.save(tmp_path / "bare.npy", pictures())
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(BadInput, match="one bare array"):
        npz(folder=None, path=str(tmp_path / "bare.npz"))
    # An array of objects is a pickle, which could run code: it is not read.
    path = save(tmp_path / "a.npz", x=np.array([None] * 40), y=Y)
    with pytest.raises(BadInput, match="allow_pickle=False"):
        npz(folder=None, path=path)
    (tmp_path / "text.npz").write_text("x,y\n")
    with pytest.raises(BadInput, match=r"text.npz: cannot be read as npz"):
        npz(folder=None, path=str(tmp_path / "text.npz"))


def test_where_a_path_is_looked_for(tmp_path, monkeypatch):
    with pytest.raises(BadOption, match="npz needs a path: npz:path="):
        npz(folder=None)
    with pytest.raises(BadInput, match="no such file or folder"):
        npz(folder=None, path=str(tmp_path / "none.npz"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(tmp_path / "a.npz", x=pictures(), y=Y)
    with pytest.raises(BadInput, match=f"no such file or folder; looked in {tmp_path}/here, cache"):
        npz(folder=None, path="a.npz")
    assert len(npz(folder=str(tmp_path), path="a.npz").train) == 28
    monkeypatch.setenv("TRUSTML_DATA", str(tmp_path))
    assert len(npz(folder=None, path="a.npz").train) == 28
    save(tmp_path / "here" / "a.npz", x=pictures(20), y=Y[:20])
    assert len(npz(folder=None, path="a.npz").train) == 14


def test_a_folder_without_train_npz_says_what_it_has(tmp_path):
    save(tmp_path / "other.npz", x=pictures(), y=Y)
    with pytest.raises(BadInput, match=r"no train.npz in it; it holds other.npz"):
        npz(folder=None, path=str(tmp_path))
    save(
        tmp_path / "train.npz", x_validation=pictures(), y_validation=Y, x_test=pictures(), y_test=Y
    )
    with pytest.raises(BadInput, match="it holds validation and test arrays but no train ones"):
        npz(folder=None, path=str(tmp_path))


def test_partners_are_chosen_by_name(tmp_path, write_collection):
    write_collection(tmp_path)
    path = save(tmp_path / "a.npz", x=pictures(), y=Y)
    dataset = npz(folder=str(tmp_path), path=path, outside=("mnist",))
    assert tuple(dataset.outside["mnist"].x.shape) == (20, 3, 6, 6)
    with pytest.raises(UnknownName, match="did you mean 'mnist'"):
        npz(folder=None, path=path, outside=("mnits",))


@pytest.mark.parametrize("options", [{"low": -1.0}, {"high": 255.0}])
def test_bytes_have_a_box_already(tmp_path, options):
    with pytest.raises(BadOption, match="low and high are for floats"):
        npz(folder=None, path=save(tmp_path / "a.npz", x=pictures(), y=Y), **options)
