"""Files that cannot be read, or not be written again, are refused in a sentence."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx
from kronax._cli import files
from kronax._cli.refusals import InputError
from kronax._data import tensor as tensors


@pytest.fixture
def h5ad(tmp_path):
    adata = ad.AnnData(np.ones((4, 3), np.float32), obs=pd.DataFrame({"type": list("aabb")}, index=list("wxyz")))
    adata.raw = adata
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


@pytest.fixture
def h5mu(tmp_path):
    with tensors.without_pulling():
        kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=4).write(tmp_path / "responses.h5mu")
    return tmp_path / "responses.h5mu"


def reserve_name(table: h5py.Group) -> None:
    """Add a column called ``_index`` to a table, as converters from R do."""
    names = table.attrs["_index"]
    found = np.asarray(ad.io.read_elem(table[names]), object)
    table.move(names, "features")
    table.attrs["_index"] = "features"
    column = table.create_dataset("_index", data=found, dtype=h5py.string_dtype())
    column.attrs["encoding-type"], column.attrs["encoding-version"] = "string-array", "0.2.0"
    table.attrs["column-order"] = np.array(["_index"], dtype=h5py.string_dtype())


def from_the_future(place: h5py.Group) -> None:
    new = place.create_dataset("new", data=1.0)
    new.attrs["encoding-type"], new.attrs["encoding-version"] = "from-the-future", "9.0"


def test_not_to_be_read(tmp_path, h5ad, h5mu):
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "cut.h5ad").write_bytes(h5ad.read_bytes()[:3000])
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.h5ad").symlink_to(tmp_path / "loop.h5ad")
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "zarr.json").write_text("{}")
    with h5py.File(tmp_path / "10x.h5", "w") as file:
        file.create_group("matrix")
    for path, reason in [
        (tmp_path / "none.h5ad", r"is not there; an \.h5ad file or a \.zarr store is needed"),
        (tmp_path, r"is a folder; an \.h5ad file or a \.zarr store is needed\.$"),
        (tmp_path / "zarr", r"is not a \.zarr store of cells: it has no obs and var, but \[\]"),
        (tmp_path / "link.h5ad", "is a link to what is not there"),
        (tmp_path / "loop.h5ad", "is a link to what is not there|cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read as an .h5ad file: .*too long"),
        (tmp_path / "text.h5ad", r"cannot be read as an \.h5ad file"),
        (tmp_path / "cut.h5ad", r"cannot be read as an \.h5ad file"),
        (tmp_path / "10x.h5", r"no obs and var, but \['matrix'\]\. Write one in Python: sc\.read_10x_h5"),
        (h5mu, r"holds several modalities\. In Python, kx\.tl\.med_magma\(mudata\.read_h5mu\(path\)\)"),
    ]:
        with pytest.raises(InputError, match=reason) as refused:
            files.read_cells(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="it has no modalities. kx.pp.tensor makes them"):
        files.read_h5mu(h5ad)


@pytest.mark.parametrize("place", ["uns", "obs", "mod/line1/uns"])
def test_what_the_libraries_do_not_know(h5ad, h5mu, place):
    path, read = (h5mu, files.read_h5mu) if "mod" in place else (h5ad, files.read_cells)
    with h5py.File(path, "r+") as file:
        if place == "obs":
            file["obs"].attrs["encoding-type"] = "from-the-future"
        else:
            from_the_future(file[place])
    with pytest.raises(InputError, match="cannot be read as an .*from-the-future.*") as refused:
        read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["raw/var", "obs", "mod/line1/var"])
def test_not_to_be_written_again(tmp_path, h5ad, h5mu, place):
    path, read = (h5mu, files.read_h5mu) if "mod" in place else (h5ad, files.read_cells)
    with h5py.File(path, "r+") as file:
        reserve_name(file[place])
    found = read(path)
    before = set(tmp_path.iterdir())
    with pytest.raises(
        InputError, match="can be read, but .* cannot be written to a new file: .*_index.*Mend it first"
    ):
        files.require_writable(found, path, tmp_path)
    assert set(tmp_path.iterdir()) == before


def test_what_can_be_written(tmp_path, h5ad, h5mu):
    """Nothing is refused that anndata can write, and the object stays as it is."""
    adata = files.read_cells(h5ad)
    adata.uns["nothing"] = None
    adata.obs["flag"] = pd.array([True, None, False, None], dtype="boolean")
    adata.layers["csc"] = sparse.csc_matrix(adata.X)
    adata.obsm["table"] = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}, index=adata.obs_names)
    before = adata.copy()
    files.require_writable(adata, h5ad, tmp_path)
    assert adata.shape == before.shape and adata.obs.equals(before.obs) and not adata.is_view
    files.require_writable(files.read_h5mu(h5mu), h5mu, tmp_path)


def test_names_as_nullable_text(tmp_path):
    adata = ad.AnnData(np.ones((4, 3), np.float32), obs=pd.DataFrame(index=pd.Index(list("wxyz"), dtype="string")))
    with ad.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(tmp_path / "cells.h5ad")
    found = files.read_cells(tmp_path / "cells.h5ad")
    files.require_writable(found, tmp_path / "cells.h5ad", tmp_path)
    assert list(found.obs_names) == list("wxyz")
