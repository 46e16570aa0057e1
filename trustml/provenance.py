"""Which bytes are the ones: a chained list of files (data, weights) that two people sign.

A manifest is a text file, one JSON object a line. Each entry holds a file's SHA-256 and a link: the
SHA-256 of the link before and of the entry itself. So a line that is changed, removed or moved
breaks the chain there, and a file that is changed no longer has its entry's hash. Whoever may write
the manifest can make a whole new chain: against that each person signs the last link with a secret
key (HMAC-SHA256). Who holds a key can sign, and so can who checks with it.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trustml.errors import BadInput, BrokenClaim
from trustml.files import explained, file_hash, write_whole

SCHEMA = 1
START = "0" * 64
SHORTEST_KEY = 16  # bytes
FOLDER = "/"  # an entry's name ends in it: its hash is that of the names in the folder


@dataclass(frozen=True, slots=True)
class Held:
    """What a check found to hold: entries, the chain's last link, and who signed it.

    Args:
        entries: how many files and folders.
        link: last of the chain; a copy kept elsewhere shows a chain that was made anew.
        signers: the given keys, by name, whose signatures hold.
        unread: signatures in the manifest that no given key could check.
    """

    entries: int
    link: str
    signers: tuple[str, ...]
    unread: int


def seal(files: Sequence[Path], manifest: Path, keys: Sequence[Path] = ()) -> Held:
    """Write the manifest of files and folders, signed by the keys; names are relative to it.

    Raises:
        BadInput: nothing to seal, no such file, one that is named twice, a key that is no key, or
            the same key twice.
        DiskFull: there is no room.
    """
    secrets_of = _keys(keys)
    home = manifest.absolute().parent
    entries = list(_entries(files, home, manifest.absolute()))
    names = [name for name, _ in entries]
    twice = {name for name in names if names.count(name) > 1}
    if twice or not entries:
        what = f"{sorted(twice)[0]} is named twice" if twice else "nothing to seal"
        raise BadInput(f"provenance: {what}")
    lines, link = [], START
    for number, (name, content) in enumerate(entries, start=1):
        body = {"number": number, "name": name, "sha256": content}
        link = _link(link, body)
        lines.append(json.dumps(body | {"link": link}))
    head: dict[str, object] = {"provenance": SCHEMA, "entries": len(entries)}
    signed = [_signature(key, head, link) for key in secrets_of.values()]
    write_whole(manifest, "\n".join([json.dumps(head), *lines, *signed, ""]).encode())
    return Held(len(entries), link, tuple(secrets_of), 0)


def sign(manifest: Path, key: Path) -> Held:
    """Add a signature, once everything in the manifest has been checked.

    Raises:
        BadInput: no manifest, a key that is no key, or one that has signed already.
        BrokenClaim: something was changed.
    """
    (secret,) = _keys([key]).values()
    held = check(manifest)
    head, _, signatures = _read(manifest)
    mine = _signature(secret, head, held.link)
    if any(hmac.compare_digest(json.loads(mine)["hmac"], one) for one in signatures):
        raise BadInput(f"{key} has signed {manifest} already: another person's key is needed")
    write_whole(manifest, manifest.read_bytes() + mine.encode() + b"\n")
    return Held(held.entries, held.link, (key.name,), held.unread)


def check(manifest: Path, keys: Sequence[Path] = (), link: str = "") -> Held:
    """Return what holds: the chain, each file, and a signature by every given key.

    Args:
        manifest: as `seal` wrote it.
        keys: each must have signed; without any, a chain made anew is not noticed.
        link: the last link as it was noted elsewhere; "" compares nothing.

    Raises:
        BadInput: no manifest, a key that is no key, or the same key twice.
        BrokenClaim: the first entry, in order, that was changed, removed or moved.
    """
    secrets_of = _keys(keys)
    head, entries, signatures = _read(manifest)
    last = START
    for number, entry in enumerate(entries, start=1):
        last = _checked(entry, number, last, manifest)
    if head.get("entries") != len(entries):
        raise BrokenClaim(
            f"entry {len(entries) + 1} of {head.get('entries')} is missing from the end of "
            f"{manifest}"
        )
    if link and not hmac.compare_digest(link.encode(), last.encode()):
        raise BrokenClaim(f"{manifest} ends in {last}, not in {link}: it is another chain")
    for name, secret in secrets_of.items():
        wanted = json.loads(_signature(secret, head, last))["hmac"]
        if not any(hmac.compare_digest(wanted, one) for one in signatures):
            raise BrokenClaim(f"{manifest} is not signed by the key {name}")
    return Held(len(entries), last, tuple(secrets_of), len(signatures) - len(secrets_of))


def new_key(path: Path) -> None:
    """Write a new secret key, readable by its owner alone.

    Raises:
        BadInput: there is such a file already, or it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    except FileExistsError as error:
        raise BadInput(f"{path} is there already: a key is never written over") from error
    except OSError as error:
        raise explained(error, path) from error


def _entries(files: Sequence[Path], home: Path, manifest: Path) -> Iterator[tuple[str, str]]:
    for file in files:
        if file.is_dir():
            inside = sorted(p for p in file.absolute().rglob("*") if p.is_file() and p != manifest)
            yield os.path.relpath(file.absolute(), home) + FOLDER, _names(file.absolute(), manifest)
            yield from ((os.path.relpath(one, home), _hash(one)) for one in inside)
        else:
            yield os.path.relpath(file.absolute(), home), _hash(file)


def _names(folder: Path, manifest: Path) -> str:
    """Return the hash of the names of all files in a folder."""
    inside = sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p != manifest
    )
    return hashlib.sha256("\n".join(inside).encode()).hexdigest()


def _hash(file: Path) -> str:
    try:
        return file_hash(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error


def _checked(entry: dict[str, object], number: int, before: str, manifest: Path) -> str:
    """Return the entry's link.

    Raises:
        BrokenClaim: the entry or its file is not what it was.
    """
    name, place = str(entry.get("name")), f"entry {number}"
    if entry.get("number") != number:
        raise BrokenClaim(
            f"{place} of {manifest} was removed or moved: entry {entry.get('number')} ({name}) "
            f"stands there"
        )
    body = {key: value for key, value in entry.items() if key != "link"}
    if _link(before, body) != entry.get("link"):
        raise BrokenClaim(f"{place} ({name}) of {manifest} is not the one that was sealed")
    file = manifest.absolute().parent / name
    if name.endswith(FOLDER):
        if not file.is_dir() or _names(file, manifest.absolute()) != entry.get("sha256"):
            raise BrokenClaim(f"{place} ({name}): files were added to the folder, or removed")
    elif not file.is_file():
        raise BrokenClaim(f"{place} ({name}) is gone")
    elif _hash(file) != entry.get("sha256"):
        raise BrokenClaim(f"{place} ({name}) is not the file that was sealed")
    return str(entry["link"])


def _link(before: str, body: dict[str, object]) -> str:
    text = json.dumps(body, sort_keys=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def _signature(secret: bytes, head: dict[str, object], link: str) -> str:
    """Return the line of a signature: over the head, too, so that no entry falls off the end."""
    text = f"{json.dumps(head, sort_keys=True)}\n{link}".encode()
    return json.dumps({"hmac": hmac.new(secret, text, "sha256").hexdigest()})


def _read(
    manifest: Path,
) -> tuple[dict[str, object], list[dict[str, object]], list[str]]:
    """Return the head, the entries, and the signatures.

    Raises:
        BadInput: no such file, or no manifest that this version reads.
    """
    try:
        rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
        head, *rest = [dict(row) for row in rows]
        if head["provenance"] > SCHEMA:
            raise BadInput(f"{manifest} is of a newer trustml: upgrade this one")
        signatures = [str(row["hmac"]) for row in rest if "hmac" in row]
        return head, [row for row in rest if "hmac" not in row], signatures
    except OSError as error:
        raise BadInput(f"{manifest} cannot be read: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{manifest} is no manifest of `trustml provenance seal`") from error


def _keys(files: Sequence[Path]) -> dict[str, bytes]:
    """Return the secrets by the names of their files.

    Raises:
        BadInput: a file that is missing or too short to be a key, or two that hold the same.
    """
    found: dict[str, bytes] = {}
    for file in files:
        try:
            secret = file.read_bytes().strip()
        except OSError as error:
            raise BadInput(f"key {file} cannot be read: {error.strerror or error}") from error
        if len(secret) < SHORTEST_KEY:
            raise BadInput(
                f"key {file} has {len(secret)} bytes, and {SHORTEST_KEY} or more are needed: "
                f"`trustml provenance key {file}` writes a good one where there is no file"
            )
        if secret in found.values() or str(file) in found:
            raise BadInput(f"key {file} is given twice: two people sign with two keys")
        found[str(file)] = secret
    return found
