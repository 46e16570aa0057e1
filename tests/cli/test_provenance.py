"""`trustml provenance` and `trustml promote`: what they say, and how they end."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Trustml = Callable[..., Any]


def test_seal_sign_check_and_a_changed_file(trustml: Trustml) -> None:
    """The example of the help text, then one byte more: exit 1, with the entry's name."""
    Path("train.npz").write_text("data")
    Path("model.safetensors").write_text("weights")
    for person in ("anna.key", "ben.key"):
        assert trustml("provenance", "key", person).code == 0
    files = ("train.npz", "model.safetensors")
    sealed = trustml("provenance", "seal", *files, "--key", "anna.key")
    assert "2 entries in provenance.jsonl, signed by 1" in sealed.out
    assert trustml("provenance", "sign", "--key", "ben.key").code == 0
    both = ("--key", "anna.key", "--key", "ben.key")
    held = trustml("provenance", "check", *both)
    assert held.code == 0
    assert "signed by: anna.key, ben.key" in held.out
    assert "made anew would pass" in trustml("provenance", "check").out
    assert "1 more signatures were not checked" in trustml("provenance", "check", *both[:2]).out
    Path("model.safetensors").write_text("weights!")
    broken = trustml("provenance", "check", *both)
    assert broken.code == 1
    assert "entry 2 (model.safetensors) is not the file that was sealed" in broken.err
    assert trustml("provenance", "seal", "none.npz").code == 2


def test_a_worse_model_is_refused_and_the_same_one_promoted(trustml: Trustml) -> None:
    """Two units and one epoch lose classes, exit 3; one byte of the seal is another set, exit 1."""
    good, poor = "mlp:hidden=[32],epochs=8", "mlp:hidden=[2],epochs=1"
    same = trustml("promote", "--old", good, "--new", good)
    assert same.code == 0, same.err
    assert same.out.rstrip().endswith("promoted")
    assert "a backdoor that sleeps until its trigger passes" in same.out
    found = re.search(r"held-out set: (\w{64})", same.out)
    assert found is not None
    refused = trustml("promote", "--old", good, "--new", poor, "--sealed", found[1])
    assert refused.code == 3
    assert "REFUSED" in refused.out
    other = trustml("promote", "--old", good, "--new", good, "--sealed", "0" * 64)
    assert other.code == 1
    assert "not the sealed one" in other.err
