"""Folders of image files → arrays: one class a subfolder, perhaps under train, validation, test."""

from pathlib import Path

import numpy as np

from trustml.data._parts import class_order
from trustml.errors import BadInput
from trustml.progress import progress

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff"]
)
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
DEEP = frozenset({"I", "F"})  # Pillow's modes of more than 8 bits


def part_folders(place: Path) -> dict[str, Path]:
    """Return part → its folder; the place itself is "train" when it has no folder train.

    Raises:
        BadInput: the place is not a folder.
    """
    if not place.is_dir():
        raise BadInput(f"{place}: not a folder")
    found = {
        part: next((place / word for word in words if (place / word).is_dir()), None)
        for part, words in WORDS.items()
    }
    parts = {part: folder for part, folder in found.items() if folder is not None}
    return parts if "train" in parts else {"train": place}


def class_names(place: Path) -> list[str]:
    """Return the names of the subfolders, in order.

    Raises:
        BadInput: there are fewer than two.
    """
    names = {f.name for f in place.iterdir() if f.is_dir() and not f.name.startswith(".")}
    if len(names) < 2:
        held = f"only {next(iter(names))!r}" if names else "none"
        raise BadInput(f"{place}: wanted two subfolders or more, one a class; it has {held}")
    return class_order(names)


def listed(place: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Return the image files with their class numbers, by class and name: a file's place is its id.

    Raises:
        BadInput: a class without images, or a subfolder that is no class.
    """
    strange = sorted(set(class_names(place)) - set(classes))
    if strange:
        raise BadInput(f"{place}: {strange[0]!r} is no class of the training folder")
    files = []
    for number, name in enumerate(classes):
        inside = sorted((place / name).rglob("*")) if (place / name).is_dir() else []
        images = [f for f in inside if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        if not images:
            raise BadInput(f"{place / name}: no image in it ({', '.join(sorted(SUFFIXES))})")
        files += [(file, number) for file in images]
    return files


def read_pictures(files: list[Path], channels: int, size: int | None) -> np.ndarray:
    """Return the images (B, C, H, W) uint8, all of one shape.

    Args:
        files: what to read.
        channels: 1 for grey, 3 for colour.
        size: side of the square that each is resized to; None leaves them as they are.

    Raises:
        BadInput: an image that cannot be read, or of another shape than the first; it is named.
    """
    pictures: list[np.ndarray] = []
    with progress("reading images", len(files)) as advance:
        for file in files:
            pictures.append(_picture(file, channels, size))
            if pictures[-1].shape != pictures[0].shape:
                one, other = (picture.shape[1:] for picture in (pictures[0], pictures[-1]))
                raise BadInput(
                    f"{file}: an image of {other}, the first is of {one} pixels (height, width); "
                    f"folder:size=… makes them alike"
                )
            advance(1)
    return np.stack(pictures)


def _picture(file: Path, channels: int, size: int | None) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            if opened.mode[:1] in DEEP:
                raise BadInput(
                    f"{file}: more than 8 bits a pixel (mode {opened.mode}); save it with 8"
                )
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:  # on white, as on paper
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if channels == 1 else "RGB")
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except BadInput:
        raise
    except Exception as error:  # damaged images raise almost anything
        raise BadInput(f"{file}: cannot be read as an image: {error}") from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
