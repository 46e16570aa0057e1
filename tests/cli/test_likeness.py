"""`trustml list attacks --like`: the table of peers at the command line."""

import json


def test_a_peer_s_attack_is_answered_with_a_command(trustml) -> None:
    ended = trustml("list", "attacks", "--like", "foolbox.LinfPGD")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "foolbox.LinfPGD → pgd", "  trustml bench --attack pgd --norm linf",
    ]  # fmt: skip


def test_why_there_is_none_and_what_is_near(trustml) -> None:
    ended = trustml("list", "--like", "torchattacks.PIFGSM")
    assert ended.code == 0
    assert ended.out.startswith("torchattacks.PIFGSM → none\n")
    assert "nearest: momentum:translation=15" in ended.out


def test_other_kinds_are_told(trustml) -> None:
    ended = trustml("list", "attack", "--like", "art.KnockoffNets")
    assert ended.out.splitlines()[0] == "art.KnockoffNets → knockoff (a stealer)"
    assert "trustml bench --stealer knockoff" in ended.out


def test_json_has_every_field_and_the_command(trustml) -> None:
    ended = trustml("list", "attacks", "--like", "torchattacks", "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert len(lines) == 39
    found = next(line for line in lines if line["name"] == "VMIFGSM")
    assert found["use"] == "momentum:variance=5"
    assert found["command"] == "trustml bench --attack momentum:variance=5 --norm linf"


def test_a_miss_is_one_line(trustml) -> None:
    for words, said in (
        (("attacks", "--like", "foolbox.LinfPDG"), "did you mean 'LinfPGD'"),
        (("models", "--like", "foolbox.LinfPGD"), "--like is about attacks, not models"),
    ):
        ended = trustml("list", *words)
        assert ended.code == 2
        assert said in ended.err
        assert len(ended.err.splitlines()) == 1
