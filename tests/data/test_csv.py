"""Tables: scaled by the training rows alone; a bad cell is named by row and column."""

import numpy as np
import pytest
import torch

from trustml.data.csv import csv
from trustml.errors import BadInput, BadOption, UnknownName


def write(path, rows, header="a,b,kind"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def table(count=50, start=0):
    return [f"{start + n},{(start + n) ** 2},{'cat' if n % 2 else 'ant'}" for n in range(count)]


def test_columns_are_scaled_by_the_training_rows_alone(tmp_path):
    dataset = csv(folder=None, path=write(tmp_path / "a.csv", table()), label="kind")
    raw = np.array([[n, n**2] for n in range(50)], dtype=np.float64)
    fit = raw[dataset.train.ids.numpy()]
    for split in (dataset.train, dataset.validation, dataset.test):
        scaled = (raw[split.ids.numpy()] - fit.min(0)) / (fit.max(0) - fit.min(0))
        np.testing.assert_allclose(split.x.numpy(), scaled.clip(0, 1), atol=1e-7)
        assert split.y.tolist() == [n % 2 for n in split.ids.tolist()]
    assert dataset.train.x.min(0).values.tolist() == [0, 0]
    assert dataset.train.x.max(0).values.tolist() == [1, 1]
    assert dataset.class_names == ("ant", "cat")


def test_a_test_file_is_scaled_by_the_training_file_and_kept_in_the_box(tmp_path):
    train = write(tmp_path / "train.csv", table())
    # Columns in another order, values beyond the training range on both sides, labels with spaces.
    rows = ["ant ,0,1000", " cat,100,-1000", "cat,100,24.5"]
    test = write(tmp_path / "test.csv", rows, header="kind, b,a")
    dataset = csv(folder=None, path=train, label="kind", test_path=test)
    assert len(dataset.train) + len(dataset.validation) == 50
    order = (dataset.test.ids - 1_000_000_000).tolist()
    assert sorted(order) == [0, 1, 2]
    ids = dataset.train.ids.double()
    middle = float((24.5 - ids.min()) / (ids.max() - ids.min()))
    wanted = torch.tensor([1.0, 0.0, middle])[order]
    assert torch.allclose(dataset.test.x[:, 0], wanted)
    assert dataset.test.y.tolist() == [[0, 1, 1][n] for n in order]


def test_a_column_of_one_value_becomes_nought(tmp_path):
    rows = [f"7,{n},{n % 2}" for n in range(30)]
    dataset = csv(folder=None, path=write(tmp_path / "a.csv", rows), label="kind")
    assert dataset.train.x[:, 0].unique().tolist() == [0]


def test_classes_that_are_numbers_are_ordered_as_numbers(tmp_path):
    rows = [f"{n},{n},{(9, 10)[n % 2]}" for n in range(30)]
    dataset = csv(folder=None, path=write(tmp_path / "a.csv", rows), label="kind")
    assert dataset.class_names == ("9", "10")


def test_quotes_delimiters_byte_marks_and_empty_lines(tmp_path):
    rows = [f'"{n}.5";1e-3;"a;b"' if n % 2 else f"{n};+2;c\r" for n in range(30)]
    path = tmp_path / "a.csv"
    path.write_text("\ufeff" + "\n".join(['"a";b;kind', *rows, "", ""]), newline="")
    dataset = csv(folder=None, path=str(path), label="kind", delimiter="semicolon")
    assert dataset.class_names == ("a;b", "c")
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 30
    tabbed = write(tmp_path / "t.csv", [r.replace(",", "\t") for r in table()], "a\tb\tkind")
    assert csv(folder=None, path=tabbed, label="kind", delimiter="tab").train.x.shape[1] == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("12,many,cat", "row 32, column 'b': 'many' is not a finite number"),
        (",5,cat", "row 32, column 'a': '' is not a finite number"),
        ("nan,5,cat", "row 32, column 'a': 'nan'"),
        ("1,-inf,cat", "row 32, column 'b': '-inf'"),
        ("1,1e999,cat", "row 32, column 'b': '1e999'"),
        ("1,2", "row 32 has 2 cells, the header 3"),
        ("1,2,cat,4", "row 32 has 4 cells, the header 3"),
        ("1,2,", "row 32 has no label in column 'kind'"),
        ('1,"2,cat', "cannot be read as csv"),
    ],
)
def test_a_bad_row_is_named_by_its_line_in_the_file(tmp_path, row, words):
    # 30 rows below the header: the next is line 32.
    path = write(tmp_path / "a.csv", [*table(30), row])
    with pytest.raises(BadInput, match=words) as caught:
        csv(folder=None, path=path, label="kind")
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("", BadInput, "it has no rows"),
        ("a,kind\n", BadInput, "it has no rows"),
        ("a,b\n1,2\n", UnknownName, "no column of .* named 'kind'.* Known: a, b"),
        ("kind\nx\ny\n", BadInput, "no column beside the label"),
        ("a,a,kind\n1,2,x\n", BadInput, "two columns are named 'a'"),
        ("a,kind\n1,x\n2,x\n3,x\n", BadInput, "every row has the label 'x'"),
        ("a,kind\n1,x\n2,y\n", BadOption, "leave a part without any"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content, error, words):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(error, match=words):
        csv(folder=None, path=str(tmp_path / "a.csv"), label="kind")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,kind\n\xff\xfe,x\n")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        csv(folder=None, path=str(tmp_path / "a.csv"), label="kind")
    with pytest.raises(BadInput, match="cannot be read"):
        csv(folder=None, path=str(tmp_path), label="kind")


def test_a_test_file_that_does_not_fit_is_refused(tmp_path):
    train = write(tmp_path / "train.csv", table())
    other = write(tmp_path / "other.csv", ["1,2,ant"], "a,c,kind")
    with pytest.raises(BadInput, match="its columns differ from the training file's: b, c"):
        csv(folder=None, path=train, label="kind", test_path=other)
    strange = write(tmp_path / "strange.csv", ["1,2,dog"])
    with pytest.raises(BadInput, match="no training row has the label 'dog'"):
        csv(folder=None, path=train, label="kind", test_path=strange)


def test_a_delimiter_is_one_letter(tmp_path):
    with pytest.raises(BadOption, match="delimiter='::'"):
        csv(folder=None, path=write(tmp_path / "a.csv", table()), delimiter="::")
