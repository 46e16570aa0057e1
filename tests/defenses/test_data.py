"""Safeguards of the data: by hand, against scikit-learn and cleanlab, and with planted poisons."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trustml.contracts import Dataset, Split
from trustml.data.digits import digits
from trustml.defenses._learners import cross_validated, learnt_features
from trustml.defenses.activation_clustering import activation_clustering, heaps
from trustml.defenses.confident_learning import confident_learning, wrong_labels
from trustml.defenses.nearest_neighbour_sanitation import nearest_neighbour_sanitation
from trustml.defenses.spectral_signatures import spectral_scores, spectral_signatures
from trustml.errors import BadOption
from trustml.poisoning.badnets import badnets
from trustml.poisoning.label_flip import label_flip
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.separation import auroc
from trustml.store import trained


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits(folder=None)


def flipped(split: Split, seed: int) -> Split:
    return label_flip(split, random=keyed(seed, split.ids), rate=0.1)[0]


def test_confident_learning_by_hand() -> None:
    """Mean probability of class 0 among its labels 0.65, of class 1 among its 0.5.

    Sample 1 (labelled 0) reaches 0.7 for class 1 and is confidently of it; sample 3 (labelled 1)
    gives 0.6 to class 0, which is below 0.65: not confident; sample 2 agrees with its label.
    """
    p = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.4, 0.6], [0.6, 0.4]])
    assert wrong_labels(p, torch.tensor([0, 0, 1, 1])).tolist() == [False, True, False, False]
    # With nobody labelled 1 nobody can be of class 1.
    assert wrong_labels(p, torch.zeros(4, dtype=torch.int64)).tolist() == [False] * 4


def test_cleanlab_finds_the_same(dataset: Dataset) -> None:
    """The package of the paper's authors, on equal probabilities."""
    filtering: Any = pytest.importorskip("cleanlab.filter")
    split = flipped(dataset.train, 0)
    every = torch.ones_like(split.y, dtype=torch.bool)
    probabilities = cross_validated(split, "logistic:epochs=5", 3, every)
    theirs = filtering.find_label_issues(
        split.y.numpy(), probabilities.numpy(), filter_by="confident_learning", n_jobs=1
    )
    mine = wrong_labels(probabilities, split.y).numpy()
    assert float(np.mean(mine == theirs)) > 0.99


def test_confident_learning_finds_flips_and_little_else(dataset: Dataset) -> None:
    """Of flips at 10 % it takes more than half, and more flips than right labels (lots: 10 %)."""
    split = flipped(dataset.train, 0)
    left = confident_learning(split, model="logistic:epochs=10", folds=3, rounds=1)
    taken = ~torch.isin(split.ids, left.ids)
    wrong = split.y != dataset.train.y
    assert float(taken[wrong].double().mean()) > 0.5
    assert float(wrong[taken].double().mean()) > 0.7


def test_neighbours_are_scikit_learns(dataset: Dataset) -> None:
    """Its majority of ten neighbours, the sample itself left out."""
    from sklearn.neighbors import NearestNeighbors

    split = flipped(dataset.train, 1)
    flat = split.x.flatten(1).numpy()
    near = NearestNeighbors(n_neighbors=10).fit(flat).kneighbors(return_distance=False)
    votes = np.stack([np.bincount(split.y.numpy()[row], minlength=10) for row in near])
    wrong = (votes.max(1) > 5) & (votes.argmax(1) != split.y.numpy())
    left = nearest_neighbour_sanitation(split)
    assert torch.equal(left.ids, split.ids[torch.from_numpy(~wrong)])
    again = nearest_neighbour_sanitation(split, action="relabel")
    assert np.array_equal(again.y.numpy(), np.where(wrong, votes.argmax(1), split.y.numpy()))


@pytest.mark.slow
def test_sanitation_gives_lost_accuracy_back(dataset: Dataset, tmp_path: Any) -> None:
    """Three seeds, a model that learns by heart: of what 10 % flips cost, most comes back.

    Measured: 0.92 of 4.6 points. The bound leaves room for one test sample in 500 a seed.
    """
    plain = "mlp:epochs=60,patience=0"
    guarded = f"{plain}+nearest_neighbour_sanitation:action=relabel"
    accuracies = []
    for seed in range(3):
        poisoned = replace(dataset, train=flipped(dataset.train, seed))
        rows = [(plain, dataset), (plain, poisoned), (guarded, poisoned)]
        for recipe, data in rows:
            module = trained(read_recipe(recipe), data, seed, "cpu", tmp_path).module
            with torch.no_grad():
                right = module(dataset.test.x).argmax(1) == dataset.test.y
            accuracies.append(float(right.double().mean()))
    clean, lost, back = (sum(accuracies[place::3]) / 3 for place in range(3))
    assert clean - lost > 0.02
    assert (back - lost) / (clean - lost) > 0.8


def test_a_spectral_score_is_the_square_along_the_first_axis() -> None:
    """Numpy's SVD of the centred class; planted samples lie far out on one axis."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(100, 5, generator=draw)
    y = torch.arange(100) % 2
    features[:10:2, 3] += 12
    scores = spectral_scores(features, y)
    part = features[y == 0].double().numpy()
    part = part - part.mean(0)
    truth = (part @ np.linalg.svd(part)[2][0]) ** 2
    assert np.allclose(scores[y == 0].numpy(), truth)
    assert set(scores.argsort(descending=True)[:5].tolist()) == {0, 2, 4, 6, 8}


def test_two_heaps_are_told_apart() -> None:
    """Ten of a hundred, eight standard deviations off: the smaller heap, and a high silhouette."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(100, 6, generator=draw)
    features[:10] += 8
    side, apart = heaps(features, 3)
    assert (side > 0).nonzero()[:, 0].tolist() == list(range(10))
    assert apart > 0.6
    assert heaps(features[10:], 3)[1] < 0.4


@pytest.mark.parametrize("rate", [0.02, 0.05])
def test_a_planted_backdoor_is_found(dataset: Dataset, rate: float) -> None:
    """BadNets on digits: within the target class, measured AUROC 0.999 (heaps), 0.76 to 0.90."""
    split, _ = badnets(dataset.train, random=keyed(0, dataset.train.ids), rate=rate, size=2)
    features = learnt_features(split, "mlp")
    of_target = split.y == 0
    poisoned = (split.y != dataset.train.y)[of_target]
    by_heaps, _ = heaps(features[of_target], 10)
    by_spectrum = spectral_scores(features, split.y)[of_target]
    assert _auroc(by_heaps, poisoned) > 0.95
    assert _auroc(by_spectrum, poisoned) > 0.7


def _auroc(score: torch.Tensor, positive: torch.Tensor) -> float:
    return auroc(score[~positive], score[positive]).value


def test_what_the_two_take_out(dataset: Dataset) -> None:
    """Spectral signatures take 1.5 times the rate from a class; clustering small heaps (0.82)."""
    split, _ = badnets(dataset.train, random=keyed(0, dataset.train.ids), rate=0.02, size=2)
    poisoned = split.y != dataset.train.y
    left = spectral_signatures(split, rate=0.02, model="mlp:epochs=8,patience=0")
    wanted = round(1.5 * 0.02 * len(split))
    for number in range(10):
        gone = int((split.y == number).sum()) - int((left.y == number).sum())
        assert gone == wanted
    left = activation_clustering(split)
    taken = ~torch.isin(split.ids, left.ids)
    assert float(taken[poisoned].double().mean()) > 0.7
    assert float(taken[~poisoned].double().mean()) < 0.1


def test_options_out_of_range_are_named(dataset: Dataset) -> None:
    """One line each."""
    split = dataset.train.at(slice(50))
    with pytest.raises(BadOption, match="folds"):
        confident_learning(split, folds=1)
    with pytest.raises(BadOption, match="rounds"):
        confident_learning(split, rounds=0)
    with pytest.raises(BadOption, match="no safeguards"):
        confident_learning(split, model="mlp+trades")
    with pytest.raises(BadOption, match="1 to 49"):
        nearest_neighbour_sanitation(split, neighbours=50)
    with pytest.raises(BadOption, match=r"0\.5"):
        nearest_neighbour_sanitation(split, agreement=0.2)
    with pytest.raises(BadOption, match="rate"):
        spectral_signatures(split, rate=1.0)
    with pytest.raises(BadOption, match="smaller"):
        activation_clustering(split, smaller=0.0)
