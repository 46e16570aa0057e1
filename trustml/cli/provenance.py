"""`trustml provenance`: seal, sign and check which bytes are the ones."""

from pathlib import Path

import click

MANIFEST = click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    default=Path("provenance.jsonl"),
    show_default=True,
    help="The list that is written or checked; names in it are relative to its folder.",
)
KEYS = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Secret key of one person (repeat for the second).",
)


@click.group(
    short_help="Seal, sign and check data and weights.",
    epilog="\b\nExample:\n"
    "  trustml provenance key anna.key\n"
    "  trustml provenance seal train.npz model.safetensors --key anna.key\n"
    "  trustml provenance sign --key ben.key\n"
    "  trustml provenance check --key anna.key --key ben.key",
)
def provenance() -> None:
    """Seal data and weights in a hash chain that two people sign, and check it."""


@provenance.command(epilog="Example: trustml provenance key anna.key")
@click.argument("file", type=click.Path(path_type=Path))
def key(file: Path) -> None:
    """Write a new secret key."""
    from trustml.provenance import new_key

    new_key(file)
    click.echo(f"key: {file} (keep it from others: who has it can sign)")


@provenance.command(
    epilog="Example: trustml provenance seal train.npz model.safetensors --key anna.key"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@MANIFEST
@KEYS
def seal(files: tuple[Path, ...], manifest: Path, keys: tuple[Path, ...]) -> None:
    """Write the manifest of files and folders."""
    from trustml import provenance

    held = provenance.seal(files, manifest, keys)
    click.echo(f"sealed: {held.entries} entries in {manifest}, signed by {len(held.signers)}")
    click.echo(f"last link: {held.link} (note it elsewhere)")


@provenance.command(epilog="Example: trustml provenance sign --key ben.key")
@MANIFEST
@click.option(
    "--key",
    "key_",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Secret key of who signs.",
)
def sign(manifest: Path, key_: Path) -> None:
    """Check everything in the manifest, then add a signature."""
    from trustml import provenance

    held = provenance.sign(manifest, key_)
    click.echo(f"signed: {manifest}, {held.entries} entries, {held.unread + 1} signatures")


@provenance.command(
    short_help="Check chain, files and signatures.",
    epilog="Example: trustml provenance check --key anna.key --key ben.key",
)
@MANIFEST
@KEYS
@click.option(
    "--link", default="", metavar="HEX", help="The last link of the chain, as seal printed it."
)
def check(manifest: Path, keys: tuple[Path, ...], link: str) -> None:
    """Check chain, files and signatures; exit 1 and name the first entry that does not hold."""
    from trustml import provenance

    held = provenance.check(manifest, keys, link)
    click.echo(f"holds: {held.entries} entries of {manifest}, last link {held.link}")
    if held.signers:
        click.echo(f"signed by: {', '.join(held.signers)}")
    if held.unread:
        click.echo(f"{held.unread} more signatures were not checked: their keys were not given")
    if not held.signers and not link:
        click.echo("No key and no link was given: a chain that was made anew would pass.")
