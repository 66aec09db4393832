import gzip

import h5py
import numpy as np
import pandas as pd
import pytest

import kronax as kx

GCT = (
    "#1.3\n3\t2\t1\t2\n"
    "id\tsymbol\ts1\ts2\n"
    "pert\tna\tDMSO\tdrug\n"
    "dose\tna\t-666\t10.5\n"
    "g1\tTP53\t0.5\t1\n"
    "g2\t-666\t2\t3\n"
    "g3\tMYC\t\t-1e-3\n"
)
VALUES = np.array([[0.5, 2.0, np.nan], [1.0, 3.0, -1e-3]])


@pytest.fixture
def gct(tmp_path):
    path = tmp_path / "small.gct"
    path.write_text(GCT, encoding="utf-8")
    return path


@pytest.fixture
def gctx(tmp_path):
    """As the Connectivity Map writes it: genes are rows by their description, samples are rows of the array."""
    path = tmp_path / "small.gctx"
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = VALUES.astype(np.float32)
        file["0/META/ROW/id"] = np.array([b"g1", b"g2", b"g3"])
        file["0/META/ROW/symbol"] = np.array([b"TP53", b"-666", b"MYC"])
        file["0/META/COL/id"] = np.array([b"s1", b"s2"])
        file["0/META/COL/pert"] = np.array([b"DMSO", b"drug"])
        file["0/META/COL/dose"] = np.array([-666.0, 10.5])
    return path


@pytest.mark.parametrize("kind", ["gct", "gctx", "gz"])
def test_whole_file(kind, gct, gctx, tmp_path):
    path = {"gct": gct, "gctx": gctx, "gz": tmp_path / "small.gct.gz"}[kind]
    if kind == "gz":
        with gzip.open(path, "wt") as file:
            file.write(GCT)
    adata = kx.pp.from_gct(path)
    np.testing.assert_allclose(adata.X, VALUES, rtol=1e-6)
    assert list(adata.obs_names) == ["s1", "s2"]
    assert list(adata.var_names) == ["g1", "g2", "g3"]
    assert list(adata.obs["pert"]) == ["DMSO", "drug"]
    symbols = adata.var["symbol"]
    assert pd.isna(symbols["g2"]) and symbols["g3"] == "MYC"
    adata.write_h5ad(tmp_path / "read.h5ad")


@pytest.mark.parametrize("missing", ["-666", "-666.0"])
def test_numbers_and_missing_ones(gct, gctx, missing):
    gct.write_text(GCT.replace("-666\t10.5", f"{missing}\t10.5"), encoding="utf-8")
    for path in (gct, gctx):
        dose = kx.pp.from_gct(path).obs["dose"]
        assert np.isnan(dose["s1"]) and dose["s2"] == 10.5


@pytest.mark.parametrize("kind", ["gct", "gctx"])
def test_parts_in_any_order(kind, gct, gctx):
    adata = kx.pp.from_gct({"gct": gct, "gctx": gctx}[kind], samples=["s2", "s1"], genes=["g3", "g1"])
    np.testing.assert_allclose(adata.X, VALUES[::-1][:, [2, 0]], rtol=1e-6)
    one = kx.pp.from_gct({"gct": gct, "gctx": gctx}[kind], samples=["s2"])
    np.testing.assert_allclose(one.X, VALUES[1:], rtol=1e-6)
    assert list(one.obs["pert"]) == ["drug"]


def test_version_1_2(tmp_path):
    path = tmp_path / "old.gct"
    path.write_text("#1.2\n2\t2\nName\tDescription\ts1\ts2\ng1\tfirst\t1\t2\ng2\tsecond\t3\t4\n", encoding="utf-8")
    adata = kx.pp.from_gct(path)
    np.testing.assert_array_equal(adata.X, [[1, 3], [2, 4]])
    assert list(adata.var["Description"]) == ["first", "second"]


@pytest.mark.parametrize("ends", ["", "\r\n", "\n\n", "  \n", "\n \r\n"])
def test_whatever_blank_lines_there_are_at_the_end(gct, ends):
    for text in (GCT, GCT.replace("\t-1e-3", "\t")):
        gct.write_bytes((text + ends).encode())
        np.testing.assert_array_equal(kx.pp.from_gct(gct).X[0], VALUES[0])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["\t-1e-3", "\t"])
def test_a_tab_at_the_end_of_every_line(gct, end, last):
    text = GCT.replace("\t-1e-3", last)
    gct.write_text(text, encoding="utf-8")
    expected = kx.pp.from_gct(gct)
    for blank in ([""], []):
        head, *rest = text.split("\n")[:2], *(line + "\t" for line in text.split("\n")[2:-1]), *blank
        for first in (head, [line + "\t" for line in head]):
            gct.write_bytes(end.join([*first, *rest]).encode())
            found = kx.pp.from_gct(gct)
            np.testing.assert_array_equal(found.X, expected.X)
            pd.testing.assert_frame_equal(found.obs, expected.obs)
            pd.testing.assert_frame_equal(found.var, expected.var)


@pytest.mark.parametrize(("old", "new"), [("\t-1e-3\t\n", "\t"), ("s2\t\n", "s2\ts3\n"), ("\t3\t\n", "\t3\t5\n")])
def test_a_field_too_many_that_is_not_at_the_end_of_every_line(gct, old, new):
    text = GCT.replace("\n", "\t\n").replace(old, new)
    gct.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is cut off or damaged: .* 5 lines of 4 fields"):
        kx.pp.from_gct(gct)


def test_repeated_names_stay(gct):
    gct.write_text(GCT.replace("s2", "s1"), encoding="utf-8")
    with pytest.warns(UserWarning, match="names are not unique"):
        assert list(kx.pp.from_gct(gct).obs_names) == ["s1", "s1"]


@pytest.mark.parametrize("missing", ["", "NA", "nan", "NaN", "null", "#N/A", "-NaN"])
def test_missing_values_of_the_matrix(gct, missing):
    gct.write_text(GCT.replace("MYC\t\t", f"MYC\t{missing}\t"), encoding="utf-8")
    np.testing.assert_array_equal(kx.pp.from_gct(gct).X, VALUES)


@pytest.mark.parametrize("write", [lambda text: gzip.compress(text.encode()), lambda text: text.encode("utf-8-sig")])
def test_compressed_or_with_a_mark_of_its_encoding(gct, write):
    gct.write_bytes(write(GCT))
    np.testing.assert_array_equal(kx.pp.from_gct(gct).X, VALUES)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\t0.5", "\t0,5", "1 value in its matrix that are no numbers: 0,5"),
        ("3\t2\t1\t2", "3\t2", "its second line should have 4 numbers, found"),
        ("TP53", "\xb5", "is no text in UTF-8"),
        ("\t1\n", "\t1\t\n", "is cut off or damaged: .*Expected 4 fields"),
    ],
)
def test_damage_is_named(gct, old, new, words):
    gct.write_bytes(GCT.replace(old, new, 1).encode("latin-1"))
    with pytest.raises(ValueError, match=words):
        kx.pp.from_gct(gct)


def test_what_cannot_be_read(tmp_path, gct, gctx):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        kx.pp.from_gct(tmp_path / "nowhere.gct")
    (tmp_path / "other.txt").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="first line is 'a,b'"):
        kx.pp.from_gct(tmp_path / "other.txt")
    (tmp_path / "cut.gct").write_text(GCT[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match="cut off"):
        kx.pp.from_gct(tmp_path / "cut.gct")
    (tmp_path / "cut.gct").write_text(GCT.removesuffix("\t\t-1e-3\n"), encoding="utf-8")  # within the last line
    with pytest.raises(ValueError, match="found 5 of 4, the last of 2"):
        kx.pp.from_gct(tmp_path / "cut.gct")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = np.zeros(3)
    with pytest.raises(ValueError, match="no GCTX file"):
        kx.pp.from_gct(tmp_path / "other.h5")
    with h5py.File(gctx, "r") as file, h5py.File(tmp_path / "short.gctx", "w") as short:
        file.copy("0", short)
        del short["0/META/ROW/id"]
        short["0/META/ROW/id"] = np.array([b"g1", b"g2"])
        del short["0/META/ROW/symbol"]
    with pytest.raises(ValueError, match="matrix, samples × genes, is 2 × 3, and it names 2 samples and 2 genes"):
        kx.pp.from_gct(tmp_path / "short.gctx")
    with pytest.raises(KeyError, match="no sample 's9'"):
        kx.pp.from_gct(gctx, samples=["s9"])
    with pytest.raises(KeyError, match="no gene 'g9'"):
        kx.pp.from_gct(gct, genes=["g9"])


def test_signatures_to_a_tensor(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "level5.gctx"
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = rng.normal(size=(6, 5)).astype(np.float32)
        file["0/META/ROW/id"] = np.array([f"g{i}".encode() for i in range(5)])
        file["0/META/COL/id"] = np.array([f"s{i}".encode() for i in range(6)])
        file["0/META/COL/pert_iname"] = np.array([b"a", b"b", b"c"] * 2)
        file["0/META/COL/cell_id"] = np.array([b"A375"] * 3 + [b"MCF7"] * 3)
    mdata = kx.pp.tensor(kx.pp.from_gct(path), obs_key="pert_iname", context_key="cell_id")
    assert list(mdata.mod) == ["A375", "MCF7"]
