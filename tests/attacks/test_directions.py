"""Directions from the table are isotropic, of norm 1, and belong to samples."""

import torch

from trustml.attacks._directions import Directions
from trustml.randomness import keyed

CPU = torch.device("cpu")


def test_directions_are_isotropic() -> None:
    """E v = 0 and E v vᵀ = I / D; the bounds are five standard errors of 20 000 draws."""
    directions = Directions(6, CPU)
    places = directions.draw(keyed(0, torch.arange(200)), 100, "test")
    vectors = directions.at(places.flatten()).double()
    assert torch.allclose(vectors.norm(dim=1), torch.ones(20_000, dtype=torch.float64), atol=1e-6)
    assert vectors.mean(0).abs().max() < 5 * (1 / 6 / 20_000) ** 0.5
    second = vectors.T @ vectors / 20_000
    # The variance of v_i² is 2 (D − 1) / (D² (D + 2)), that of v_i v_j is 1 / (D (D + 2)).
    error = (1 / 48 / 20_000) ** 0.5
    assert (second - torch.eye(6) / 6).abs().max() < 5 * error * 1.2


def test_two_places_are_hardly_alike() -> None:
    """Cosines of independent directions have the standard deviation 1/√D, here 0.05."""
    directions = Directions(400, CPU)
    places = directions.draw(keyed(1, torch.arange(1)), 300, "test")[0]
    vectors = directions.at(places)
    cosine = (vectors @ vectors.T)[torch.ones(300, 300).triu(1) == 1]
    assert 0.045 < cosine.std() < 0.055
    assert cosine.abs().max() < 0.3


def test_directions_belong_to_samples_seeds_and_steps() -> None:
    """A sample's directions are its own in any batch; another seed or step has others."""
    directions = Directions(50, CPU)
    ids = torch.arange(9)
    places = directions.draw(keyed(3, ids), 20, "test", 1)
    assert torch.equal(directions.draw(keyed(3, ids[4:6]), 20, "test", 1), places[4:6])
    assert torch.equal(directions.draw(keyed(3, ids), 8, "test", 1), places[:, :8])
    assert not torch.equal(directions.draw(keyed(4, ids), 20, "test", 1), places)
    assert not torch.equal(directions.draw(keyed(3, ids), 20, "test", 2), places)


def test_large_inputs_get_a_larger_table() -> None:
    """The table is four times an input at least, so that slices differ."""
    directions = Directions(600_000, CPU)
    assert directions.places > 1_200_000
    assert torch.isclose(
        directions.at(torch.tensor([directions.places - 1])).norm(), torch.ones(())
    )
