"""Folders of images, written by the test."""

import numpy as np
import pytest
import torch
from PIL import Image

from trustml.data.folder import folder as load
from trustml.errors import BadInput, BadOption


def write_classes(root, counts, shape=(6, 5, 3), suffix=".png", seed=0):
    """Write random images; return {class: [arrays in the order of their names]}."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        arrays[name] = [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]
        for number, array in enumerate(arrays[name]):
            Image.fromarray(array).save(root / name / f"{number:03d}{suffix}")
    return arrays


def test_each_id_is_the_files_place_by_class_and_name(tmp_path):
    arrays = write_classes(tmp_path, {"cat": 12, "ant": 8})
    dataset = load(folder=None, path=str(tmp_path), size=None)
    flat = [array for name in ("ant", "cat") for array in arrays[name]]
    for split in (dataset.train, dataset.validation, dataset.test):
        for x, y, place in zip(split.x, split.y, split.ids, strict=True):
            wanted = torch.from_numpy(flat[int(place)]).permute(2, 0, 1).float() / 255
            assert torch.equal(x, wanted)
            assert y == (place >= 8)
    sizes = [len(dataset.train), len(dataset.validation), len(dataset.test)]
    assert sizes == [14, 2, 4]
    assert dataset.class_names == ("ant", "cat")


def test_train_and_test_folders_are_used_as_they_are(tmp_path):
    write_classes(tmp_path / "train", {"a": 10, "b": 10})
    write_classes(tmp_path / "test", {"a": 20, "b": 20})
    write_classes(tmp_path / "val", {"a": 3, "b": 4})
    dataset = load(folder=None, path=str(tmp_path))
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [20, 7, 40]
    assert dataset.test.ids.min() == 1_000_000_000
    # Files lie sorted by class; the first half of the split must not be one class alone.
    assert len(dataset.test.y[:20].unique()) == 2


def test_images_are_resized_and_turned_grey(tmp_path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for number, name in enumerate(["a", "b"]):
        Image.new("RGB", (9, 40), (200 * number, 200 * number, 200 * number)).save(
            tmp_path / name / "flat.jpg"
        )
    dataset = load(folder=None, path=str(tmp_path), size=8, channels=1)
    assert tuple(dataset.train.x.shape[1:]) == (1, 8, 8)
    x = torch.cat([dataset.train.x, dataset.validation.x, dataset.test.x])
    ids = torch.cat([dataset.train.ids, dataset.validation.ids, dataset.test.ids])
    # "flat" comes after "000" … "004" by name; a flat image stays flat when resized.
    assert torch.allclose(x[ids == 5], torch.tensor(0.0), atol=0.01)
    assert torch.allclose(x[ids == 11], torch.tensor(200 / 255), atol=0.01)


def test_resizing_averages_rather_than_picks(tmp_path):
    # A fine checkerboard has mean one half; picking every other pixel would give black or white.
    write_classes(tmp_path, {"a": 5, "b": 5})
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for name in ("a", "b"):
        for file in (tmp_path / name).iterdir():
            Image.fromarray(board).save(file)
    x = load(folder=None, path=str(tmp_path), size=8, channels=1).train.x
    assert (x - 0.5).abs().max() < 0.05


def test_see_through_parts_are_white_and_turned_pictures_are_turned_back(tmp_path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for file in (tmp_path / "a").iterdir():
        Image.new("RGBA", (5, 6), (0, 0, 0, 0)).save(file)
    dataset = load(folder=None, path=str(tmp_path), size=None)
    assert (dataset.train.x[dataset.train.y == 0] == 1).all()
    # Orientation 6: the camera lay on its side; stored 6 high, 5 wide, it is shown 5 high, 6 wide.
    turned = Image.new("RGB", (5, 6))
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "b" / "000.png", exif=exif)
    with pytest.raises(BadInput, match=r"000.png: an image of \(5, 6\), the first is of \(6, 5\)"):
        load(folder=None, path=str(tmp_path), size=None)


def test_fewer_than_two_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="two subfolders or more, one a class; it has none"):
        load(folder=None, path=str(tmp_path / "empty"))
    write_classes(tmp_path / "one", {"a": 3})
    (tmp_path / "one" / ".hidden").mkdir()
    with pytest.raises(BadInput, match="it has only 'a'"):
        load(folder=None, path=str(tmp_path / "one"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="not a folder"):
        load(folder=None, path=str(tmp_path / "file"))


def test_a_class_without_images(tmp_path):
    write_classes(tmp_path, {"a": 3, "b": 3, "c": 0})
    (tmp_path / "c" / "notes.txt").write_text("nothing to see")
    with pytest.raises(BadInput, match="/c: no image in it"):
        load(folder=None, path=str(tmp_path))


def test_a_class_that_was_not_trained_on(tmp_path):
    write_classes(tmp_path / "train", {"a": 9, "b": 9})
    write_classes(tmp_path / "test", {"a": 3, "b": 3, "z": 3})
    with pytest.raises(BadInput, match="'z' is no class of the training folder"):
        load(folder=None, path=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut"])
def test_a_damaged_image_is_named(tmp_path, content):
    write_classes(tmp_path, {"a": 5, "b": 5}, shape=(40, 40, 3))
    bad = tmp_path / "b" / "002.png"
    bad.write_bytes(bad.read_bytes()[:1000] if content is None else content)
    with pytest.raises(BadInput, match=r"b/002.png: cannot be read as an image"):
        load(folder=None, path=str(tmp_path))


def test_deep_images_are_refused_rather_than_cut_to_white(tmp_path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    deep = Image.fromarray(np.full((6, 5), 3000, np.uint16))
    deep.save(tmp_path / "a" / "001.png")
    with pytest.raises(BadInput, match=r"a/001.png: more than 8 bits a pixel"):
        load(folder=None, path=str(tmp_path))


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -3}, {"path": ""}])
def test_options_that_cannot_be(tmp_path, options):
    write_classes(tmp_path, {"a": 3, "b": 3})
    with pytest.raises(BadOption):
        load(**{"folder": None, "path": str(tmp_path)} | options)
