"""Runs on deployed models: what a record says, what is refused, what a changed model breaks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tests.targets.conftest import DIGITS
from tests.targets.servers import StandIn
from trustml.benchmarks.harness import resume, start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Dataset, Record
from trustml.deployment import access_of
from trustml.errors import BadInput, BadOption, BrokenClaim
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.targets import _http
from trustml.targets._face import file_hash

PLAN = Plan(models=(), attacks=("square:queries=20",), limit=12, device="cpu", epsilons=(0.3,))


@pytest.fixture
def model(data: Dataset, tmp_path: Path) -> Path:
    """A logistic regression of scikit-learn in a file."""
    fitted = LogisticRegression(C=0.1, max_iter=200)
    fitted.fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())
    skops.io.dump(fitted, tmp_path / "model.skops")
    return tmp_path / "model.skops"


@pytest.fixture
def served(data: Dataset) -> Iterator[StandIn]:
    """The same regression behind a server that answers labels."""
    fitted = LogisticRegression(C=0.1, max_iter=200)
    fitted.fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())
    stand_in = StandIn(lambda x: [int(n) for n in fitted.predict(x.flatten(1).numpy())], shape=[64])
    yield stand_in
    stand_in.stop()


def _by_case(records: list[Record]) -> dict[str, Record]:
    return {record.plugin: record for record in records}


def test_a_record_names_the_models_text_and_hash_and_verifies(model: Path, tmp_path: Path) -> None:
    """Attacks without gradients run; what they claim holds when the file is opened again."""
    plan = replace(PLAN, models=(str(model),))
    found = _by_case(list(start(plan, tmp_path / "run")))
    record = found["square"]
    assert record.status == "done"
    assert record.model.startswith(f"scikit_learn:path={model}")
    assert record.weights == file_hash(model)
    assert any(
        file_hash(model) in note and "answers probabilities" in note for note in record.notes
    )
    assert (
        found["all"].scores["robust accuracy"].value < found["all"].scores["clean accuracy"].value
    )
    assert len(list(verify(tmp_path / "run"))) == len(found)


def test_methods_that_need_more_are_refused_with_names_that_would_do(
    model: Path, tmp_path: Path
) -> None:
    """Not failed: skipped, with the reason; the rest of the run goes on."""
    plan = replace(
        PLAN, models=(str(model),), attacks=("pgd", "square:queries=20"), detectors=("knn", "mcp"),
        attributions=("gradient",), stealers=("linear_exact",), terms="answers=logits",
    )  # fmt: skip
    found = _by_case(list(start(plan, tmp_path / "run")))
    for name in ("pgd", "knn", "gradient", "linear_exact"):
        assert found[name].status == "skipped", found[name].reason
    assert found["pgd"].reason.startswith(
        "pgd needs gradients, and this model shows probabilities; these would do: "
    )
    assert "square" in found["pgd"].reason
    assert "mcp" in found["knn"].reason
    assert "--terms answers=probabilities" in found["linear_exact"].reason
    assert found["square"].status == found["mcp"].status == "done"


def test_a_model_that_was_changed_breaks_the_claims(
    model: Path, data: Dataset, tmp_path: Path
) -> None:
    """Another model under the same name is not the one that the records speak of."""
    plan = replace(PLAN, models=(str(model),))
    list(start(plan, tmp_path / "run"))
    other = LogisticRegression(C=0.01).fit(data.train.x.flatten(1).numpy(), data.train.y.numpy())
    skops.io.dump(other, model)
    with pytest.raises(BrokenClaim, match="is not the one that the run began with"):
        list(verify(tmp_path / "run"))
    with pytest.raises(BadInput, match="has the SHA-256"):
        list(start(replace(plan, models=(f"{model}:sha256={'0' * 64}",)), tmp_path / "other"))


def test_a_guard_stands_before_a_deployed_model(model: Path, tmp_path: Path) -> None:
    """Serving safeguards wrap it; those that act earlier come too late."""
    plan = replace(PLAN, models=(f"{model}+output_rounding",))
    found = _by_case(list(start(plan, tmp_path / "run")))
    assert found["square"].status == "done"
    assert len(list(verify(tmp_path / "run"))) == len(found)
    with pytest.raises(BadOption, match="a deployed model is trained already"):
        read_recipe(f"{model}+trades")
    module = build(read_recipe(f"{model}+output_rounding"), DIGITS, 0)
    assert access_of(module) == Access.PROBABILITIES


def test_a_thief_gets_the_model_by_its_probabilities(model: Path, tmp_path: Path) -> None:
    """65 numbers a class are solved for; where a copy must be learnt, an mlp learns it."""
    plan = replace(PLAN, models=(str(model),), attacks=(), stealers=("linear_exact",), limit=0)
    found = _by_case(list(start(plan, tmp_path / "run")))
    assert found["linear_exact"].scores["agreement (test)"].value > 0.99
    assert found["linear_exact"].threat["copy"].startswith("mlp:")


def test_labels_behind_a_server(served: StandIn, tmp_path: Path) -> None:
    """A decision attack runs, calibration has nothing to look at, verify asks the server again."""
    url = f"{served.url}/v2/models/digits"
    plan = replace(
        PLAN,
        models=(url,),
        attacks=("hop_skip_jump:queries=60", "square"),
        detectors=("mcp",),
        limit=6,
    )
    found = _by_case(list(start(plan, tmp_path / "run")))
    assert found["hop_skip_jump"].status == "done", found["hop_skip_jump"].reason
    assert found["hop_skip_jump"].cost.queries > 0
    assert "square needs probabilities, and this model shows labels" in found["square"].reason
    assert found["calibration"].status == "skipped"
    assert len(list(verify(tmp_path / "run"))) == len(found)


def test_a_server_that_goes_away_in_the_middle(
    served: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is kept, the rest failed and says why; --resume ends it."""
    monkeypatch.setattr(_http, "_FIRST_WAIT", 0.0025)
    url = f"{served.url}/v2/models/digits"
    plan = replace(PLAN, models=(url,), attacks=("noise", "hop_skip_jump:queries=60"), limit=6)
    records = start(plan, tmp_path / "run")
    early = [record for record in (next(records), next(records)) if record.plugin == "noise"]
    served.stop()
    late = _by_case(list(records))
    assert early[0].status == "done"
    assert late["hop_skip_jump"].status == "failed"
    assert "does not answer after 6 tries: Connection refused" in late["hop_skip_jump"].reason
    with pytest.raises(BadInput, match="does not answer: Connection refused"):
        list(resume(tmp_path / "run"))
    served.again()
    found = _by_case(list(resume(tmp_path / "run")))
    assert found["hop_skip_jump"].status == "done", found["hop_skip_jump"].reason


def test_data_and_model_that_do_not_fit_are_one_line(model: Path, tmp_path: Path) -> None:
    """64 features are no moon; nothing is begun."""
    with pytest.raises(BadInput, match=r"takes inputs of shape \(64\), and the data have \(2\)"):
        list(start(replace(PLAN, models=(str(model),), data="moons"), tmp_path / "run"))
