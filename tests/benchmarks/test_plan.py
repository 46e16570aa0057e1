"""The plan: every name and number is checked before anything runs, and it comes back from JSON."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trustml.benchmarks.exams import cases, checked, size
from trustml.benchmarks.plan import PLAN, Plan, from_json, read_plan
from trustml.errors import BadInput, BadOption, UnknownName, UsageError

positive = some.floats(min_value=0, exclude_min=True, allow_infinity=False)
words = some.text(some.characters(codec="utf-8"), max_size=9)
plans = some.builds(
    Plan,
    models=some.lists(words, max_size=2).map(tuple),
    attacks=some.lists(words, max_size=2).map(tuple),
    detectors=some.lists(words, max_size=2).map(tuple),
    attributions=some.lists(words, max_size=2).map(tuple),
    stealers=some.lists(words, max_size=2).map(tuple),
    terms=words,
    copy=words,
    outside=some.lists(words, max_size=2).map(tuple),
    false_alarms=positive,
    data=words,
    norms=some.lists(some.sampled_from(["linf", "l2", "l1", "l0"]), max_size=3).map(tuple),
    epsilons=some.lists(positive, max_size=3).map(tuple),
    target=words,
    seed=some.integers(0),
    seeds=some.integers(1),
    limit=some.integers(0),
    batch_size=some.integers(1),
    shard=some.tuples(some.integers(0, 9), some.integers(1, 9)),
    order=words,
    budget=some.integers(0),
    curve=some.booleans(),
    certify=some.sampled_from(["auto", "tight", "off"]),
    indicators=some.booleans(),
    precision=some.sampled_from(["auto", "float32", "bfloat16"]),
    device=words,
    data_dir=some.none() | words,
    plugins=some.lists(words, max_size=2).map(tuple),
)


@given(plans)
def test_a_plan_comes_back_from_json(plan: Plan) -> None:
    assert from_json(plan.to_json()) == plan


def test_texts_become_canonical_and_noise_comes_first(plan: Plan) -> None:
    """Every option stands in them, so that a later version's defaults change nothing."""
    found = checked(replace(plan, attacks=("aim:only=odd",), models=("mlp",)))
    assert found.attacks == ("noise:draws=10", "aim:only=odd,shape=[1,2]")
    assert "epochs=" in found.models[0]
    assert checked(found) == found


def test_what_stands_twice_runs_once(plan: Plan) -> None:
    """Two spellings of one attack or budget are one case."""
    found = checked(
        replace(
            plan,
            attacks=("aim", "aim:only=all", "noise"),
            models=("largest", "largest:broken="),
            norms=("linf", "linf"),
            epsilons=(0.1, 0.1, 1 / 10),
        )
    )
    assert [text.split(":")[0] for text in found.attacks] == ["aim", "noise"]
    assert (len(found.models), found.norms, found.epsilons) == (1, ("linf",), (0.1,))


def test_the_cases_are_the_grid_with_all_together_last(plan: Plan, toys: Any) -> None:
    found = checked(replace(plan, models=("largest", "mlp"), epsilons=(0.1, 0.2)))
    names = [case.name for case in cases(found, toys.toy(folder=None))]
    assert names == [
        f"{model}-linf-{epsilon}-{attack}"
        for model in ("largest", "mlp")
        for epsilon in ("0.1", "0.2")
        for attack in ("noise", "aim", "all")
    ]
    assert len(names) == size(found)


def test_no_two_cases_share_a_name(plan: Plan, toys: Any) -> None:
    """One attack with two sets of options, budgets that agree in six digits: each has a folder."""
    found = checked(
        replace(plan, attacks=("aim", "aim:only=odd"), epsilons=(0.1, 0.1000000001, 1e-5))
    )
    names = [case.name for case in cases(found, toys.toy(folder=None))]
    assert len(set(names)) == len(names) == size(found)


def test_no_two_exams_share_a_case(toys: Any) -> None:
    """Attribution and stealer are both called linear_exact: each is a row of its own."""
    plan = checked(Plan(("logistic",), attributions=("linear_exact",), stealers=("linear_exact",)))
    names = [case.name for case in cases(plan, toys)]
    assert len(set(names)) == len(names) == size(plan)


def test_the_usual_budget_is_the_data_s(plan: Plan, toys: Any) -> None:
    """The toy data have one for Linf and L0."""
    dataset = toys.toy(folder=None)
    assert {case.threat["epsilon"] for case in cases(checked(plan), dataset)} == {0.1}
    with pytest.raises(BadInput, match="no usual budget for l2; give one with --epsilon"):
        cases(replace(plan, attacks=("pgd",), norms=("l2",)), dataset)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilons": (0.0,)}, "above 0, not 0.0"),
        ({"epsilons": (-1.0,)}, "above 0, not -1.0"),
        ({"epsilons": (float("nan"),)}, "above 0, not nan"),
        ({"epsilons": (float("inf"),)}, "above 0, not inf"),
        ({"limit": -1}, "--limit must be 0 or more, not -1"),
        ({"batch_size": -1}, "--batch-size must be 0 or more, not -1"),
        ({"budget": -1}, "--budget must be 0 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"seed": 1 << 63}, "--seed must be below"),
        ({"shard": (2, 2)}, "--shard 2/2: .*write 0/2 to 1/2"),
        ({"shard": (0, 0)}, "--shard 0/0"),
        ({"order": "random"}, "no order named 'random'. Known: given, reversed"),
        ({"target": "any"}, "--target must be none, next or a class number, not 'any'"),
        ({"target": ""}, "--target must be none"),
        ({"target": "1", "attacks": ("still",)}, "'still' cannot aim at a class"),
        ({"norms": ("l3",)}, "no norm named 'l3'; did you mean"),
        ({"norms": ("l2",)}, "'aim' does not know l2, just linf; these know it: .*pgd"),
        ({"attacks": ("aims",)}, "no attack named 'aims'; did you mean 'aim'"),
        ({"attacks": ("aim:onyl=odd",)}, "no option of aim named 'onyl'; did you mean 'only'"),
        ({"models": ("larges",)}, "no model named 'larges'; did you mean 'largest'"),
        ({"models": ()}, "no model to examine"),
        ({"data": "toys"}, "no data named 'toys'; did you mean 'toy'"),
        ({"plugins": ("/absent.py",)}, "--plugin /absent.py: no such file"),
        ({"curve": True}, "minimum-norm attacks; 'aim' is none"),
        ({"curve": True, "epsilons": (0.1,)}, "leave --epsilon out"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    plan: Plan, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((BadOption, UnknownName, BadInput), match=said):
        checked(replace(plan, **changes))


def test_a_class_that_the_data_do_not_have_is_no_target(plan: Plan, toys: Any) -> None:
    """An attack could never reach it, and the model would look robust."""
    with pytest.raises(BadOption, match="--target 3: toy has classes 0 to 2"):
        cases(checked(replace(plan, target="3")), toys.toy(folder=None))


def test_files_are_named_so_that_they_are_found_from_elsewhere(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path that is there becomes absolute; others are for the data's own search."""
    monkeypatch.chdir(tmp_path)
    odd = "a, b+c[1].npz"
    Path(odd).write_bytes(b"")
    Path("w.pt").write_bytes(b"")
    found = checked(replace(plan, data=f'npz:path="{odd}"', models=("mlp:weights=w.pt",)))
    assert f'path="{tmp_path / odd}"' in found.data
    assert f"weights={tmp_path / 'w.pt'}" in found.models[0]
    assert checked(found) == found
    assert "path=elsewhere.npz" in checked(replace(plan, data="npz:path=elsewhere.npz")).data


@pytest.mark.parametrize(
    "facts",
    [
        [],
        3,
        {},
        {"models": "mlp", "attacks": ["pgd"]},
        {"models": [3], "attacks": ["pgd"]},
        {"models": ["mlp"], "attacks": ["pgd"], "unknown": 1},
        {"models": ["mlp"], "attacks": ["pgd"], "seed": "0"},
        {"models": ["mlp"], "attacks": ["pgd"], "seed": 0.5},
        {"models": ["mlp"], "attacks": ["pgd"], "epsilons": ["a"]},
        {"models": ["mlp"], "attacks": ["pgd"], "norms": ["l3"]},
        {"models": ["mlp"], "attacks": ["pgd"], "shard": [1]},
        {"models": ["mlp"], "attacks": ["pgd"], "shard": [0, 1, 2]},
        {"models": ["mlp"], "attacks": ["pgd"], "curve": None},
        {"models": ["mlp"], "attacks": ["pgd"], "data": {}},
    ],
)
def test_what_is_no_plan_is_refused(facts: Any) -> None:
    with pytest.raises(BadInput, match="not a plan"):
        from_json(json.dumps(facts))


def test_a_folder_without_a_whole_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run"):
        read_plan(tmp_path)
    for content in (b"", b"{", b"\xff\xfe"):
        (tmp_path / PLAN).write_bytes(content)
        with pytest.raises(UsageError, match=PLAN):
            read_plan(tmp_path)
