"""Tables in files: what stands between columns, and what names there are."""

import gzip

import pytest

from kronax._cli import tables
from kronax._cli.refusals import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n01,2\nNA,NA\n,4\n", {"a": ["01", "NA", None], "b": [2.0, None, 4.0]}),
        ("a;b\n01;0,5\n", {"a": ["01"], "b": [0.5]}),
        ("b\n01,2\n", {"Unnamed: 0": ["01"], "b": [2.0]}),
        ("a,b\n01,2,\n02,3,\n", {"a": ["01", "02"], "b": [2.0, 3.0]}),
        ("a,b,c\n01,2,3,\n02,,,\n03,4\n", {"a": ["01", "02", "03"], "b": [2.0, None, 4.0], "c": [3.0, None, None]}),
        ("a|b\n01|2\n", {"a": ["01"], "b": [2.0]}),
        ('"a" "b"\n"x y" 1 2\n', {"Unnamed: 0": ["x y"], "a": [1.0], "b": [2.0]}),
        ("a,b,\n01,2,\n", {"a": ["01"], "b": [2.0]}),
        ("\na,b\n\n01,2\n", {"a": ["01"], "b": [2.0]}),
        ("a,NA\n01,2\n", {"a": ["01"], "NA": [2.0]}),
        ('"a\nb",c\n"x,y",2\n', {"a\nb": ["x,y"], "c": [2.0]}),
    ],
)
def test_read(tmp_path, text, expected):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    found = tables.read(tmp_path / "a.csv", {0}).astype(object)
    assert found.where(found.notna(), None).to_dict("list") == expected


def test_columns_of_names_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n01,02,03\n")
    assert list(tables.read(tmp_path / "a.csv", {"a", "c", "d"}).iloc[0]) == ["01", 2, "03"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"\n\n", "cannot be read as a table"),
        (b"a,b\n", "has names in its first row and no row below"),
        (b"a,b\n1,2,3,4\n", "the first row has 2 names, the second 4 entries"),
        (b"a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        (b"NA,NA\n1,2\n", "has several columns of one name: NA"),
        (b"\xff\xfe\x00a", "cannot be read as a table"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-12], "cannot be read as a table"),
        (b"\x1f\x8b\x08\x00aaaaaaaaaaaaaaa", "cannot be read as a table"),
    ],
)
def test_refused(tmp_path, content, message):
    path = tmp_path / ("a.csv.gz" if content.startswith(b"\x1f\x8b") else "a.csv")
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        tables.read(path, {0})
