"""`trustml explain`: a picture file or a row of the test set, its answer, and heat maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trustml.contracts import Domain
from trustml.data.digits import digits
from trustml.errors import BadInput, NotApplicable
from trustml.images import picture_and_change, read_image

PNG = b"\x89PNG"
QUICK = "mlp:epochs=5,hidden=[16]"


def test_a_row_of_the_test_set_is_explained(trustml) -> None:
    ended = trustml("explain", QUICK, "--input", "3", "--attribution", "gradient")
    assert ended.code == 0, ended.err
    assert "gives '" in ended.out
    assert "gradient" in ended.out
    assert Path("explained-3.png").read_bytes().startswith(PNG)


def test_a_picture_of_another_size_is_made_to_fit(trustml, tmp_path: Path) -> None:
    """A digit, enlarged 16 times and coloured, is read as the digit itself is."""
    x = digits(folder=None).test.x[5, 0].numpy()
    large = np.kron((255 * x).astype(np.uint8), np.ones((16, 16), dtype=np.uint8))
    Image.fromarray(large).convert("RGB").save("digit.png")
    seen = [
        trustml("explain", QUICK, "--input", asked, "--attribution", "gradient", "--out", "o.png")
        for asked in ("digit.png", "5")
    ]
    answers = [ended.out.splitlines()[0].split("'")[1] for ended in seen]
    assert answers[0] == answers[1]
    assert Path("o.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--input absent.png", "absent.png: no such file"),
        ("--input 99999", "the test set has rows 0 to 538"),
        ("--input 3 --target 10", "has classes 0 to 9"),
        ("--input 3 --attribution gradiant", "did you mean 'gradient'"),
        ("", "--input"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(trustml, words: str, said: str) -> None:
    ended = trustml("explain", QUICK, *words.split())
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert said in ended.err


def test_a_text_file_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(BadInput, match="cannot be read as a picture"):
        read_image(tmp_path / "a.png", Domain((1, 8, 8), 10))
    with pytest.raises(NotApplicable, match="are no pictures"):
        read_image(tmp_path / "a.png", Domain((2,), 2))


def test_a_picture_fills_the_box(tmp_path: Path) -> None:
    """White is the highest value, black the lowest, whatever the bounds; colours come first."""
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(tmp_path / "two.png")
    found = read_image(tmp_path / "two.png", Domain((1, 1, 2), 2, -1.0, 3.0))
    assert torch.equal(found, torch.tensor([[[[-1.0, 3.0]]]]))
    Image.fromarray(np.array([[[255, 0, 0]]], dtype=np.uint8)).save(tmp_path / "red.png")
    found = read_image(tmp_path / "red.png", Domain((3, 1, 1), 2))
    assert found.flatten().tolist() == [1.0, 0.0, 0.0]


def test_why_a_method_is_skipped_is_printed_whole(trustml) -> None:
    """In a cell of the table the end of it, which says what to do, was cut off.

    It was the only one: nothing was explained, which is no success; beside another one it is.
    """
    words = ("explain", "mlp:epochs=2", "--input", "3", "--attribution")
    ended = trustml(*words, "linear_exact", "--attribution", "gradient")
    assert (ended.code, ended.err) == (0, "")
    ended = trustml(*words, "linear_exact")
    assert ended.code == 1
    assert ended.err.startswith("Error: nothing was explained: every method")
    said = " ".join(ended.out.partition("\nskipped: ")[2].split())
    assert said.startswith("linear_exact: the model's logits")
    assert said.endswith("it suits models such as 'logistic'")
    assert max(map(len, ended.out.splitlines())) <= 100


def test_what_was_done_to_a_picture_is_said(trustml, tmp_path: Path) -> None:
    """30 × 20 in colour for 8 × 8 in grey: both changes; a picture that fits has none."""
    Image.new("RGB", (30, 20), (200, 10, 10)).save("big.png")
    ended = trustml("explain", QUICK, "--input", "big.png", "--attribution", "gradient")
    assert ended.code == 0
    assert ended.out.splitlines()[1:3] == [
        "big.png was made grey from RGB (0.299 R + 0.587 G + 0.114 B) and resized from 30×20 to "
        "8×8 pixels",
        "  (Lanczos, its shape not kept).",
    ]
    Image.new("L", (8, 8)).save("small.png")
    assert picture_and_change("small.png", Domain((1, 8, 8), 10))[1] == ""
