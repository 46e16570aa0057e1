"""The known collections: small files in their layouts come back; real ones have their figures."""

import bz2
import hashlib
import io
import pickle
import tarfile
import time

import numpy as np
import pytest
import torch

from trustml.data.cifar10 import cifar10
from trustml.data.fashion_mnist import fashion_mnist
from trustml.data.kmnist import kmnist
from trustml.data.mnist import mnist
from trustml.data.notmnist import notmnist
from trustml.data.svhn import svhn
from trustml.data.usps import usps
from trustml.errors import BadInput, BadOption

TEST = 1_000_000_000  # what test ids start at


def check_against(dataset, train, test):
    """Every sample is the file's at the place that its id says; the parts make up the files."""
    for split in (dataset.train, dataset.validation, dataset.test):
        images, labels = test if split is dataset.test else train
        rows = split.ids.numpy() % TEST
        wanted = torch.from_numpy(images[rows]).float() / 255
        assert torch.equal(split.x, wanted.reshape(split.x.shape))
        assert split.y.tolist() == labels[rows].tolist()
    learnt = torch.cat([dataset.train.ids, dataset.validation.ids])
    assert sorted(learnt.tolist()) == list(range(len(train[1])))
    assert dataset.test.ids.tolist() == list(range(TEST, TEST + len(test[1])))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("load", "base"), [(mnist, "MNIST"), (fashion_mnist, "FashionMNIST"), (kmnist, "KMNIST")]
)
def test_mnist_like_files_come_back(tmp_path, write_collection, load, base, suffix):
    arrays = write_collection(tmp_path, base, suffix=suffix)
    check_against(load(folder=str(tmp_path)), arrays["train"], arrays["t10k"])


def test_the_given_folder_comes_before_the_variable_and_that_before_the_cache(
    tmp_path, write_collection, monkeypatch
):
    means = {}
    for seed, name in enumerate(("given", "variable", "cache/data")):
        arrays = write_collection(tmp_path / name, seed=seed)
        means[name] = arrays["t10k"][1].tolist()
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path / "cache"))
    assert mnist(folder=None).test.y.tolist() == means["cache/data"]
    monkeypatch.setenv("TRUSTML_DATA", str(tmp_path / "variable"))
    assert mnist(folder=None).test.y.tolist() == means["variable"]
    assert mnist(folder=str(tmp_path / "given")).test.y.tolist() == means["given"]


def test_files_that_are_nowhere_are_named_with_every_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTML_DATA", str(tmp_path / "absent"))
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()
    with pytest.raises(BadInput) as caught:
        mnist(folder=str(tmp_path / "given"))
    for words in (
        "MNIST/raw/train-images-idx3-ubyte",
        "MNIST/raw/train-labels-idx1-ubyte",
        f"--data-dir {tmp_path}/given,",
        f"TRUSTML_DATA {tmp_path}/absent (no such folder)",
        f"cache {tmp_path}/cache/data",
        "does not answer",
        "with --data-dir or TRUSTML_DATA",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_files_that_lack_are_named(tmp_path, write_collection):
    write_collection(tmp_path)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match="t10k-labels") as caught:
        mnist(folder=str(tmp_path))
    assert "images" not in str(caught.value)


def test_a_data_dir_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"--data-dir .*absent: no such folder"):
        mnist(folder=str(tmp_path / "absent"))


def test_sizes(tmp_path, write_collection):
    arrays = write_collection(tmp_path)
    dataset = mnist(folder=str(tmp_path), validation=0.25, train_size=7, test_size=3)
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [7, 10, 3]
    assert dataset.test.y.tolist() == arrays["t10k"][1][:3].tolist()  # the first of the file
    whole = mnist(folder=str(tmp_path), validation=0.25)
    assert dataset.train.ids.tolist() == whole.train.ids[:7].tolist()
    for options in ({"test_size": 21}, {"train_size": 37}, {"validation": 1.0}):
        with pytest.raises(BadOption, match="mnist"):
            mnist(folder=str(tmp_path), **options)


def test_files_that_do_not_fit_are_refused(tmp_path, write_collection, write_idx):
    write_collection(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw / "train-labels-idx1-ubyte.gz", [1, 2, 3])
    with pytest.raises(BadInput, match="40 images but 3 labels"):
        mnist(folder=str(tmp_path))
    write_idx(raw / "train-labels-idx1-ubyte.gz", [10] * 40)
    with pytest.raises(BadInput, match="labels from 10 to 10; mnist has 0 to 9"):
        mnist(folder=str(tmp_path))
    write_idx(raw / "train-images-idx3-ubyte.gz", np.zeros((40, 5, 5)))
    with pytest.raises(BadInput, match=r"images of shape \(1, 5, 5\), mnist has \(1, 28, 28\)"):
        mnist(folder=str(tmp_path))
    write_idx(raw / "train-images-idx3-ubyte.gz", np.zeros((0, 28, 28)))
    write_idx(raw / "train-labels-idx1-ubyte.gz", [])
    with pytest.raises(BadInput, match="no image in it"):
        mnist(folder=str(tmp_path))


def batch(count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": images, "labels": generator.integers(0, 10, count).tolist()}


@pytest.fixture
def cifar_files():
    """File name → bytes, of batches of 4 training and 5 test images, and the arrays."""
    batches = {f"data_batch_{n}": batch(4, n) for n in range(1, 6)} | {"test_batch": batch(5, 6)}
    files = {name: pickle.dumps(content, protocol=2) for name, content in batches.items()}
    train = [batches[f"data_batch_{n}"] for n in range(1, 6)]
    images = np.concatenate([content["data"] for content in train])
    labels = np.concatenate([content["labels"] for content in train])
    test = batches["test_batch"]
    return files, (images, labels), (test["data"], np.array(test["labels"]))


def write_cifar(root, files):
    (root / "cifar-10-batches-py").mkdir()
    for name, content in files.items():
        (root / "cifar-10-batches-py" / name).write_bytes(content)


def test_cifar_batches_come_back_from_the_folder_and_from_the_archive(tmp_path, cifar_files):
    files, train, test = cifar_files
    for place in ("folder", "archive"):
        (tmp_path / place).mkdir()
    write_cifar(tmp_path / "folder", files)
    with tarfile.open(tmp_path / "archive" / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for place in ("folder", "archive"):
        check_against(cifar10(folder=str(tmp_path / place)), train, test)


class Opened:
    def __reduce__(self):
        return open, ("trap", "w")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "data_batch_3 is missing"),
        (b"", "data_batch_3 cannot be read"),
        (pickle.dumps(batch(4, 0))[:500], "data_batch_3 cannot be read"),
        (pickle.dumps([1, 2]), "holds a list, not a CIFAR batch"),
        (pickle.dumps({"data": 1, "names": 2}), "no data and labels; it has data, names"),
        (pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [1, 2]}), r"shape \(2, 9\)"),
        (pickle.dumps({"data": Opened()}), "asks for (_?io|builtins).open"),
    ],
)
def test_a_bad_cifar_batch_is_named_and_runs_no_code(
    tmp_path, monkeypatch, cifar_files, content, words
):
    monkeypatch.chdir(tmp_path)
    files, _, _ = cifar_files
    files["data_batch_3"] = content
    write_cifar(tmp_path, {name: data for name, data in files.items() if data is not None})
    with pytest.raises(BadInput, match=words):
        cifar10(folder=str(tmp_path))
    assert not (tmp_path / "trap").exists()


def test_a_cut_or_empty_cifar_archive_is_refused(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cifar-10-batches-py/other"))
    with pytest.raises(BadInput, match="data_batch_1"):
        cifar10(folder=str(tmp_path))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match="cannot be read"):
        cifar10(folder=str(tmp_path))


def test_svhn_comes_back_with_ten_read_as_nought(tmp_path):
    from scipy.io import savemat

    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 20), ("test", 6)):
        images = generator.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = generator.integers(1, 11, (count, 1), dtype=np.uint8)  # 10 is the digit 0
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
        stacked = np.stack([images[..., n].transpose(2, 0, 1) for n in range(count)])
        arrays[part] = stacked, labels[:, 0] % 10
    check_against(svhn(folder=str(tmp_path)), arrays["train"], arrays["test"])

    whole = (tmp_path / "test_32x32.mat").read_bytes()
    for length in (0, 60, 200, len(whole) // 2, len(whole) - 20):
        (tmp_path / "test_32x32.mat").write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"test_32x32.mat: (cannot be read|it must hold)"):
            svhn(folder=str(tmp_path))
    savemat(tmp_path / "test_32x32.mat", {"Z": images})
    with pytest.raises(BadInput, match="must hold X of 4 axes and y"):
        svhn(folder=str(tmp_path))


def usps_text(values, labels):
    """Libsvm lines: the label from 1, then 1:value … 256:value with values in [-1, 1]."""
    lines = []
    for row, label in zip(values, labels, strict=True):
        pairs = " ".join(f"{place}:{value:.6f}" for place, value in enumerate(row, 1))
        lines.append(f"{label + 1} {pairs} ")
    return "\n".join(lines) + "\n"


def test_usps_values_and_labels_come_back(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("usps.bz2", 30), ("usps.t.bz2", 12)):
        values = generator.uniform(-1, 1, (count, 256))
        labels = generator.integers(0, 10, count)
        (tmp_path / name).write_bytes(bz2.compress(usps_text(values, labels).encode()))
    dataset = usps(folder=str(tmp_path))
    assert len(dataset.train) + len(dataset.validation) == 30
    wanted = ((values + 1) / 2).reshape(12, 1, 16, 16)  # -1 … 1 becomes 0 … 1
    np.testing.assert_allclose(dataset.test.x.numpy(), wanted, atol=1e-6)
    assert dataset.test.y.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 1:0.5 2:0.5\n", "line 1 has 2 pixel:value pairs, wanted 256"),
        (usps_text(np.zeros((2, 256)), [1, 1]).replace("5:0", "5:x"), "not libsvm text"),
        (usps_text(np.zeros((2, 256)), [1, 1]).replace(" 7:", " 8:"), "not numbered 1 to 256"),
        ("", "not numbered 1 to 256|no image"),
    ],
)
def test_bad_usps_text_is_refused(tmp_path, text, words):
    (tmp_path / "usps.t.bz2").write_bytes(bz2.compress(text.encode()))
    with pytest.raises(BadInput, match=words):
        usps(folder=str(tmp_path), parts="test")


def test_usps_without_its_training_file_says_what_would_do(tmp_path):
    packed = bz2.compress(usps_text(np.zeros((30, 256)), [n % 10 for n in range(30)]).encode())
    (tmp_path / "usps.t.bz2").write_bytes(packed)
    with pytest.raises(BadInput, match=r"usps: not found: USPS/usps.bz2 .* usps:parts=test"):
        usps(folder=str(tmp_path))
    dataset = usps(folder=str(tmp_path), parts="test")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [18, 3, 9]
    (tmp_path / "usps.t.bz2").write_bytes(packed[:-30])
    with pytest.raises(BadInput, match="truncated"):
        usps(folder=str(tmp_path), parts="test")


# The real files.


def test_real_mnist(real_files):
    folder = real_files("MNIST/raw/train-images-idx3-ubyte.gz")
    began = time.perf_counter()
    dataset = mnist(folder=folder)
    assert time.perf_counter() - began < 20
    learnt = torch.cat([dataset.train.x, dataset.validation.x])
    assert len(learnt) == 60_000
    assert len(dataset.test) == 10_000
    # The mean and standard deviation that every MNIST tutorial normalises with.
    assert learnt.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert learnt.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert dataset.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert dataset.test.y.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    first = dataset.train.ids.tolist().index(0)
    assert dataset.train.y[first] == 5  # the first training image is a five


def test_real_test_images_go_back_to_the_files_bytes(real_files):
    # Rounding x·255 must give the file's bytes again: its md5 is known of the unpacked file.
    folder = real_files("MNIST/raw/t10k-images-idx3-ubyte.gz")
    x = mnist(folder=folder).test.x
    header = bytes([0, 0, 8, 3]) + np.array([10_000, 28, 28], ">u4").tobytes()
    content = header + (x * 255).round().to(torch.uint8).numpy().tobytes()
    import gzip

    with gzip.open(f"{folder}/MNIST/raw/t10k-images-idx3-ubyte.gz") as file:
        assert hashlib.md5(content).hexdigest() == hashlib.md5(file.read()).hexdigest()


def test_real_fashion_mnist(real_files):
    dataset = fashion_mnist(folder=real_files("FashionMNIST/raw/train-images-idx3-ubyte.gz"))
    learnt = torch.cat([dataset.train.x, dataset.validation.x])
    assert learnt.mean().item() == pytest.approx(0.2860, abs=5e-5)  # the usual normalisation
    assert dataset.test.y.bincount().tolist() == [1000] * 10
    assert dataset.class_names[dataset.test.y[0]] == "Ankle boot"  # known first test image


def test_real_notmnist(real_files):
    dataset = notmnist(folder=real_files("notMNIST/raw/t10k-images-idx3-ubyte.gz"))
    y = torch.cat([dataset.train.y, dataset.validation.y, dataset.test.y])
    assert y.bincount().tolist() == [1000] * 10
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [7000, 1000, 2000]


def test_real_usps_test_file_against_torchvisions_reader(real_files):
    from torchvision.datasets import USPS

    folder = real_files("USPS/usps.t.bz2")
    dataset = usps(folder=folder, parts="test")
    parts = (dataset.train, dataset.validation, dataset.test)
    ids = torch.cat([part.ids for part in parts])
    x = torch.cat([part.x for part in parts])[ids.argsort()]
    y = torch.cat([part.y for part in parts])[ids.argsort()]
    # The class counts that the test set is known for; torchvision cuts values to 8 bits.
    assert y.bincount().tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    reference = USPS(f"{folder}/USPS", train=False)
    assert y.tolist() == reference.targets
    assert (x[:, 0] - torch.from_numpy(reference.data) / 255).abs().max() <= 1 / 255
