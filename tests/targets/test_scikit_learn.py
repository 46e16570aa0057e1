"""scikit-learn files: the estimator itself is the truth; no pickle is opened unasked."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trustml.contracts import Access, Dataset, Domain
from trustml.deployment import check_names
from trustml.errors import BadInput
from trustml.targets.scikit_learn import _Estimator

skops = pytest.importorskip("skops.io", reason="skops is not installed: trustml[skops]")


def _saved(model: Any, data: Dataset, folder: Path, names: Any = None) -> Path:
    x, y = data.train.x.flatten(1).numpy(), data.train.y.numpy()
    model.fit(x, y if names is None else np.array(names)[y])
    skops.dump(model, folder / "model.skops")
    return folder / "model.skops"


@pytest.mark.parametrize(
    ("model", "says", "ask"),
    [
        (
            make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
            "PROBABILITIES",
            "predict_proba",
        ),
        (RidgeClassifier(), "LOGITS", "decision_function"),
    ],
)
def test_answers_are_the_estimators(
    model: Any, says: str, ask: str, data: Dataset, tmp_path: Path, open_target: Any
) -> None:
    """The most that it tells: probabilities before margins."""
    target = open_target(str(_saved(model, data, tmp_path)))
    x = data.test.x[:60]
    truth = torch.from_numpy(getattr(model, ask)(x.flatten(1).numpy())).float()
    torch.testing.assert_close(target(x), truth, rtol=0, atol=1e-6)
    assert target.says == target.access == Access[says]
    assert target.class_names == tuple("0123456789")
    assert torch.equal(target.module(x).argmax(1), truth.argmax(1))


def test_labels_alone_are_one_hot(data: Dataset, tmp_path: Path, open_target: Any) -> None:
    """An estimator without scores is a label-only target, its labels being texts."""
    model = Perceptron(random_state=0)
    path = _saved(model, data, tmp_path, names=[f"digit {n}" for n in range(10)])
    target = open_target(f"{path}:answers=auto")
    x = data.test.x[:30]
    said = model.predict(x.flatten(1).numpy())
    assert [target.class_names[n] for n in target(x).argmax(1)] == list(said)
    assert target.says == Access.LOGITS  # it has margins

    mute = SimpleNamespace(predict=model.predict)  # one that has none
    assert _Estimator(mute).says == Access.LABELS
    assert _Estimator(mute)(x) == list(said)


def test_two_classes_with_one_margin(tmp_path: Path, open_target: Any) -> None:
    """decision_function gives one column for two classes; the second class is the positive one."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(80, 3)), np.array(["no", "yes"])[rng.integers(0, 2, 80)]
    model = RidgeClassifier().fit(x, y)
    skops.dump(model, tmp_path / "two.skops")
    target = open_target(str(tmp_path / "two.skops"), Domain((3,), 2))
    answers = target(torch.from_numpy(x).float())
    assert answers.shape == (80, 2)
    assert [target.class_names[n] for n in answers.argmax(1)] == list(model.predict(x))


def test_other_names_are_put_into_the_datas_order(
    data: Dataset, tmp_path: Path, open_target: Any
) -> None:
    """scikit-learn sorts names by the alphabet; unless somebody says which is which: refused."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    model = LogisticRegression(C=0.1)
    path = _saved(model, data, tmp_path, names)
    unsaid = open_target(str(path))
    with pytest.raises(BadInput, match=r"give the model classes=\[…\]"):
        check_names(unsaid.module, data.class_names)
    target = open_target(f"{path}:classes=[{','.join(names)}]")
    check_names(target.module, data.class_names)
    x, y = data.test.x[:200], data.test.y[:200]
    assert float((target(x).argmax(1) == y).double().mean()) > 0.9
    with pytest.raises(BadInput, match="name these, in the order"):
        open_target(f"{path}:classes=[a,b,c,d,e,f,g,h,i,j]")


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "it ran"))


def test_a_pickle_is_not_opened_unasked(tmp_path: Path, open_target: Any) -> None:
    """A canary: opening it would write a file. Asked to trust it, it is opened, and it is none."""
    canary, path = tmp_path / "canary", tmp_path / "model.joblib"
    path.write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(BadInput, match=r"can run any code.*was not opened.*--trust-pickle"):
        open_target(str(path))
    assert not canary.exists()
    with pytest.raises(BadInput, match="no fitted classifier"):
        open_target(f"{path}:trust_pickle=true")
    assert canary.exists(), "the canary could not sing, so the test shows nothing"


def test_a_trusted_joblib_answers(data: Dataset, tmp_path: Path, open_target: Any) -> None:
    """The same estimator by the other format."""
    import joblib

    model = LogisticRegression(C=0.1).fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())
    joblib.dump(model, tmp_path / "model.joblib")
    target = open_target(f"{tmp_path / 'model.joblib'}:trust_pickle=true")
    x = data.test.x[:20]
    truth = torch.from_numpy(model.predict_proba(x.flatten(1).numpy())).float()
    torch.testing.assert_close(target(x), truth, rtol=0, atol=1e-6)


def test_types_that_skops_does_not_know_are_named(
    data: Dataset, tmp_path: Path, open_target: Any
) -> None:
    """Trees are such; naming them opens the file."""
    from sklearn.tree import DecisionTreeClassifier

    path = _saved(DecisionTreeClassifier(max_depth=3), data, tmp_path)
    with pytest.raises(BadInput, match="if you trust whoever made it") as refused:
        open_target(str(path))
    # The text between the quotes is a model as it stands.
    said = str(refused.value).split("'")[1]
    assert said == f"{path}:trusted=[sklearn.tree._tree.Tree]"
    assert open_target(said).says == Access.PROBABILITIES


def test_data_of_another_size_and_damaged_files_are_one_line(
    data: Dataset, tmp_path: Path, open_target: Any
) -> None:
    """64 features cannot be 100; nonsense is no archive."""
    path = _saved(LogisticRegression(C=0.1), data, tmp_path)
    with pytest.raises(
        BadInput, match=r"takes inputs of shape \(64\), and the data have \(1, 10, 10\)"
    ):
        open_target(str(path), Domain((1, 10, 10), 10))
    with pytest.raises(BadInput, match="answers 10 classes; the data have 3"):
        open_target(str(path), Domain((64,), 3))
    (tmp_path / "bad.skops").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="no file of skops"):
        open_target(str(tmp_path / "bad.skops"))
