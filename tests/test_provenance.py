"""Every silent change is found and named; hashes and signatures against hashlib and hmac."""

import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trustml.errors import BadInput, BrokenClaim
from trustml.provenance import check, new_key, seal, sign

Change = Callable[[Path], object]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder with three files, a folder of two pictures, two keys, and a signed manifest."""
    for name in ("a.npz", "b.npz", "c.safetensors"):
        (tmp_path / name).write_text(f"bytes of {name}")
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (tmp_path / "pictures" / "one.png").write_text("one")
    (tmp_path / "pictures" / "deep" / "two.png").write_text("two")
    for person in ("anna", "ben"):
        new_key(tmp_path / f"{person}.key")
    files = [tmp_path / name for name in ("a.npz", "b.npz", "c.safetensors", "pictures")]
    seal(files, manifest(tmp_path), [tmp_path / "anna.key"])
    sign(manifest(tmp_path), tmp_path / "ben.key")
    return tmp_path


def manifest(home: Path) -> Path:
    """Return where the manifest lies."""
    return home / "provenance.jsonl"


def keys(home: Path) -> list[Path]:
    """Return both people's keys."""
    return [home / "anna.key", home / "ben.key"]


def lines(home: Path) -> list[str]:
    """Return the manifest's lines: head, six entries, two signatures."""
    return manifest(home).read_text().splitlines()


def rewritten(home: Path, rows: list[str]) -> None:
    """Write other lines into the manifest."""
    manifest(home).write_text("\n".join(rows) + "\n")


def test_links_and_signatures_are_what_the_standard_library_makes(sealed: Path) -> None:
    """The chain is computed again by hand, from the first line to the signatures."""
    head, *rest = [json.loads(line) for line in lines(sealed)]
    link = "0" * 64
    for entry in rest[:6]:
        body = {key: entry[key] for key in ("name", "number", "sha256")}
        link = hashlib.sha256(f"{link}\n{json.dumps(body, sort_keys=True)}".encode()).hexdigest()
        assert entry["link"] == link
    assert rest[0]["sha256"] == hashlib.sha256(b"bytes of a.npz").hexdigest()
    text = f"{json.dumps(head, sort_keys=True)}\n{link}".encode()
    for key, row in zip(keys(sealed), rest[6:], strict=True):
        wanted = hmac.digest(key.read_bytes().strip(), text, "sha256").hex()
        assert row == {"hmac": wanted}
    held = check(manifest(sealed), keys(sealed), link)
    assert (held.entries, held.link, len(held.signers), held.unread) == (6, link, 2, 0)
    assert check(manifest(sealed)).unread == 2


CHANGES: dict[str, tuple[Change, str]] = {
    "bytes": (lambda home: (home / "b.npz").write_text("bytes of B.npz"), r"entry 2 \(b.npz\)"),
    "two files": (
        lambda home: [(home / name).write_text("x") for name in ("c.safetensors", "b.npz")],
        r"entry 2 \(b.npz\)",
    ),
    "file gone": (lambda home: (home / "c.safetensors").unlink(), r"entry 3 .* is gone"),
    "swapped": (
        lambda home: [
            (home / "a.npz").rename(home / "t"),
            (home / "b.npz").rename(home / "a.npz"),
            (home / "t").rename(home / "b.npz"),
        ],
        r"entry 1 \(a.npz\)",
    ),
    "picture added": (
        lambda home: (home / "pictures" / "new.png").write_text("poison"),
        r"entry 4 \(pictures/\): files were added",
    ),
    "picture changed": (
        lambda home: (home / "pictures" / "one.png").write_text("poison"),
        r"entry 6 \(pictures/one.png\)",
    ),
    "line removed": (
        lambda home: rewritten(home, lines(home)[:2] + lines(home)[3:]),
        r"entry 2 .* removed or moved",
    ),
    "lines swapped": (
        lambda home: rewritten(
            home, [*lines(home)[:2], lines(home)[3], lines(home)[2], *lines(home)[4:]]
        ),
        r"entry 2 .* removed or moved",
    ),
    "last line removed": (
        lambda home: rewritten(home, lines(home)[:6] + lines(home)[7:]), r"entry 6 of 6 is missing"
    ),
    "line and file changed together": (
        lambda home: [
            (home / "b.npz").write_text("poison"),
            rewritten(home, [
                line.replace(
                    hashlib.sha256(b"bytes of b.npz").hexdigest(),
                    hashlib.sha256(b"poison").hexdigest(),
                )
                for line in lines(home)
            ]),
        ],
        r"entry 2 \(b.npz\) .* not the one that was sealed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_the_first_broken_entry_is_named(sealed: Path, name: str) -> None:
    """The truth is what the test did; no key is needed to find it."""
    change, said = CHANGES[name]
    change(sealed)
    with pytest.raises(BrokenClaim, match=said):
        check(manifest(sealed))


def test_a_chain_made_anew_is_found_by_keys_or_by_the_noted_link(sealed: Path) -> None:
    """One who may write everything but has one key of two; without keys nobody can tell."""
    link = check(manifest(sealed)).link
    (sealed / "a.npz").write_text("poison")
    files = [sealed / name for name in ("a.npz", "b.npz", "c.safetensors", "pictures")]
    seal(files, manifest(sealed), [sealed / "ben.key"])
    assert check(manifest(sealed)).entries == 6
    assert check(manifest(sealed), [sealed / "ben.key"]).signers
    with pytest.raises(BrokenClaim, match=r"not signed by the key .*anna.key"):
        check(manifest(sealed), keys(sealed))
    with pytest.raises(BrokenClaim, match="another chain"):
        check(manifest(sealed), link=link)


def test_an_end_cut_off_with_its_head_is_found_by_the_keys(sealed: Path) -> None:
    """The head is signed, too: with one entry less it is another text, whatever the chain says."""
    head, *rest = lines(sealed)
    rewritten(sealed, [head.replace('"entries": 6', '"entries": 5'), *rest[:5], *rest[6:]])
    assert check(manifest(sealed)).entries == 5
    with pytest.raises(BrokenClaim, match="not signed"):
        check(manifest(sealed), keys(sealed))


def test_who_signs_sees_to_it_first(sealed: Path) -> None:
    """A signature under something that no longer holds is not given."""
    new_key(sealed / "carl.key")
    (sealed / "a.npz").write_text("poison")
    with pytest.raises(BrokenClaim, match="entry 1"):
        sign(manifest(sealed), sealed / "carl.key")


def test_the_folder_may_be_moved(sealed: Path) -> None:
    """Names are relative to the manifest, so a copy elsewhere holds as well."""
    other = sealed.parent / f"{sealed.name}-elsewhere"
    sealed.rename(other)
    assert check(manifest(other), keys(other)).entries == 6


def test_keys_are_secret_and_never_written_over(sealed: Path) -> None:
    """Readable by the owner alone, 32 random bytes each."""
    key = sealed / "anna.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
    with pytest.raises(BadInput, match="never written over"):
        new_key(key)


def test_what_cannot_be_sealed_or_read_is_said(sealed: Path, tmp_path: Path) -> None:
    """One line each: what was given, what to do."""
    short, twin, place = sealed / "short.key", sealed / "twin.key", manifest(sealed)
    short.write_text("password")
    twin.write_bytes((sealed / "ben.key").read_bytes())
    with pytest.raises(BadInput, match="nothing to seal"):
        seal([], place)
    with pytest.raises(BadInput, match=r"a.npz is named twice"):
        seal([sealed / "a.npz", sealed / "a.npz"], place)
    with pytest.raises(BadInput, match=r"none.npz cannot be read"):
        seal([sealed / "none.npz"], place)
    with pytest.raises(BadInput, match=r"8 bytes, and 16 or more"):
        check(place, [short])
    with pytest.raises(BadInput, match=r"given twice"):
        check(place, [sealed / "ben.key", twin])
    with pytest.raises(BadInput, match=r"has signed .* already"):
        sign(place, twin)
    with pytest.raises(BadInput, match=r"cannot be read"):
        check(sealed / "none.jsonl")
    for text in ("", "words", "[1]", '{"provenance": 1}\n3', '{"provenance": 99}'):
        place.write_text(text)
        with pytest.raises(BadInput, match=r"no manifest|newer"):
            check(place)
