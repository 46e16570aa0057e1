"""Attacks on a published adversarially trained network, whose robust accuracies are known.

Fast adversarial training of Wong, Rice and Kolter 2020 on MNIST, Linf 0.3. Measured with the
reference code on the first 1 000 test images: PGD-40 90.0 to 91.2 %, APGD on cross-entropy 85.0 %.
"""

from pathlib import Path

import pytest

from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.contracts import Norm, Record


@pytest.fixture(scope="module")
def records(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Return the records of one run by attack, or skip where the weights are not at hand."""
    weights = real_data.parent / "checkpoints" / "fast_adversarial_mnist" / "fgsm.pth"
    if not weights.is_file():
        pytest.skip(f"the network's weights are not at hand: {weights}")
    plan = Plan(
        models=(f"cnn:weights={weights}",),
        attacks=("pgd:steps=40,step=0.01", "apgd"),
        data="mnist",
        epsilons=(0.3,),
        limit=1000,
        data_dir=str(real_data),
    )
    folder = tmp_path_factory.mktemp("ladder") / "run"
    return {record.plugin: record for record in start(plan, folder)}


@pytest.mark.slow
def test_clean_accuracy_is_the_published_one(records: dict[str, Record]) -> None:
    """98.50 % on all 10 000, 98.3 % on the first 1 000."""
    assert records["pgd"].scores["clean accuracy"].value == pytest.approx(0.983, abs=1e-9)


@pytest.mark.slow
def test_pgd_is_as_strong_as_the_reference(records: dict[str, Record]) -> None:
    """A weaker one would be higher, a stronger one than its paper's suspect."""
    assert 0.89 <= records["pgd"].scores["robust accuracy"].value <= 0.915


@pytest.mark.slow
def test_apgd_is_as_strong_as_the_reference(records: dict[str, Record]) -> None:
    """85.0 % by the authors' code; the rest is the luck of the random start."""
    assert 0.84 <= records["apgd"].scores["robust accuracy"].value <= 0.86


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 2.0), ("l1", 10.0)])
def test_each_rung_is_stronger_in_other_norms_too(
    norm: Norm, epsilon: float, real_data: Path, tmp_path: Path
) -> None:
    """Noise ≤ one step ≤ many ≤ steps that adapt ≤ the ensemble; the harness sees to the ball."""
    weights = real_data.parent / "checkpoints" / "fast_adversarial_mnist" / "fgsm.pth"
    if not weights.is_file():
        pytest.skip(f"the network's weights are not at hand: {weights}")
    ladder = ("fgsm", "pgd:steps=20", "apgd:steps=20,loss=margin", "strongest:bursts=1,more=0")
    plan = Plan(
        models=(f"cnn:weights={weights}",), attacks=ladder, data="mnist", norms=(norm,),
        epsilons=(epsilon,), limit=50, data_dir=str(real_data), certify="off", indicators=False,
    )  # fmt: skip
    found = {record.plugin: record for record in start(plan, tmp_path / "run")}
    names = ("noise", "fgsm", "pgd", "apgd", "strongest")
    robust = [found[name].scores["robust accuracy"].value for name in names]
    assert robust == sorted(robust, reverse=True)
    assert robust[0] - robust[-1] > 0.1
