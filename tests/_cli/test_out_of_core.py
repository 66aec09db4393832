"""``python -m kronax FILE --out-of-core``: what comes out is what comes out of the same matrix in memory."""

import errno
import re
import signal
import sys
import threading

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from kronax._cli import files, graphs
from kronax._data import chunks
from kronax.solvers.rows.chunked import Preparation

pytest.importorskip("dask")

ARGUMENTS = ("--layer", "counts", "--n-top-genes", 40, "--n-neighbors", 10, "--label", "type")


@pytest.fixture(scope="module")
def simulated() -> ad.AnnData:
    """300 cells of three types × 60 genes: counts in a layer, logarithms in X, more genes in raw, and a gene in two cells."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=300)
    mean = rng.gamma(0.5, 3.0, (3, 60))
    counts = rng.poisson(mean[kind] * rng.gamma(2.0, 0.5, (300, 1)) + 0.05).astype(np.float32)
    counts[:, 8] = 0
    counts[:2, 8] = 9
    obs = pd.DataFrame({"type": pd.Categorical([f"t{k}" for k in kind])}, index=[f"cell{i}" for i in range(300)])
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts)), obs=obs)
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obsm["X_umap"] = rng.random((300, 2))
    adata.raw = ad.AnnData(sparse.csr_matrix(np.hstack([counts, counts[:, :3]])), obs=obs)
    return adata


@pytest.fixture(scope="module")
def stored(simulated, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("stored")
    simulated.write_h5ad(folder / "cells.h5ad")
    simulated.write_zarr(folder / "cells.zarr")
    return {"h5ad": folder / "cells.h5ad", "zarr": folder / "cells.zarr"}


@pytest.fixture(scope="module", autouse=True)
def no_umap():
    """What UMAP needs is in the graph; to compile it takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sc.tl,
            "umap",
            lambda adata, *, key_added, **_: adata.obsm.update({key_added: adata.obsm["X_med_magma"][:, :2]}),
        )
        yield


def small_chunks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "_CHUNK", 4000)  # 66 cells of all genes, 100 of those chosen


@pytest.fixture(scope="module")
def in_memory(run, stored, tmp_path_factory):
    """A store that is read whole."""
    out = tmp_path_factory.mktemp("in_memory") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
        code, text, _ = run(stored["zarr"], *ARGUMENTS, "--out", out)
    assert code == 0
    return ad.read_h5ad(out / "cells.h5ad"), text


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def out_of_core(request, run, stored, tmp_path_factory):
    out = tmp_path_factory.mktemp("out_of_core") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
        small_chunks(patch)
        code, text, err = run(stored[request.param], *ARGUMENTS, "--out-of-core", "--out", out)
    assert code == 0, err
    return out, text


def test_writes_what_it_writes_in_memory(out_of_core, in_memory):
    folder, _ = out_of_core
    assert {path.name for path in folder.iterdir()} == {
        "cells.h5ad",
        "umap.png",
        "gene_modules.png",
        "edges.csv",
        "genes.csv",
    }
    assert {path.name for path in folder.parent.iterdir()} == {"results"}
    found, expected = ad.read_h5ad(folder / "cells.h5ad"), in_memory[0]
    assert list(found.var_names) == list(expected.var_names)
    assert set(expected.obsp) - set(found.obsp) == {"med_magma_precision"}
    for part in ("obsm", "varm", "obsp", "varp"):
        for key in getattr(found, part):
            one, other = (getattr(adata, part)[key] for adata in (found, expected))
            one, other = (values.toarray() if sparse.issparse(values) else values for values in (one, other))
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=key)  # weights are found by bisection
    assert (found.obs["med_magma_leiden"] == expected.obs["med_magma_leiden"]).all()
    assert (found.var["gene_module"] == expected.var["gene_module"]).all()


def test_writes_the_matrices_of_the_chosen_genes(out_of_core, in_memory):
    folder, _ = out_of_core
    found, expected = ad.read_h5ad(folder / "cells.h5ad"), in_memory[0]
    for one, other in [
        (found.X, expected.X),
        (found.layers["counts"], expected.layers["counts"]),
        (found.raw.X, expected.raw.X),
    ]:
        assert (one != other).nnz == 0 and one.dtype == other.dtype


def test_reports_what_it_reports_in_memory(out_of_core, in_memory):
    _, text = out_of_core
    lines = [re.sub(r"/\S+|\d+\.\d   for", "", text).splitlines()[2:] for text in (text, in_memory[1])]
    assert lines[0][:20] == lines[1][:20]
    assert re.search("genes +40   the most variable of 59; 1 with values in fewer than 3 cells left out\n", text)


def test_batches(run, simulated, tmp_path, monkeypatch):
    """The genes that vary within batches, and a scale of each in every batch."""
    adata, rng = simulated.copy(), np.random.default_rng(1)
    adata.obs["run"] = pd.Categorical(np.where(np.arange(300) % 2, "one", "two"))
    factors = sparse.csr_matrix(np.where(adata.obs[["run"]] == "one", 1, rng.integers(1, 9, 60)))
    adata.layers["counts"] = adata.layers["counts"].multiply(factors).tocsr()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(graphs.multiplied, "MOST_CELLS", 0)
    small_chunks(monkeypatch)
    arguments = (tmp_path / "cells.h5ad", *ARGUMENTS[:-2], "--batch", "run")
    found = []
    for name, more in (("memory", ()), ("chunks", ["--out-of-core"])):
        code, _, err = run(*arguments, *more, "--out", tmp_path / name)
        assert code == 0, err
        found.append(ad.read_h5ad(tmp_path / name / "cells.h5ad"))
    whole, chunked = found
    assert list(whole.var_names) == list(chunked.var_names)
    scales, others = (adata.varm["med_magma_log_scale"].to_numpy() for adata in found)
    assert np.ptp(scales, axis=1).max() > 0.5
    np.testing.assert_allclose(
        others, scales, rtol=0, atol=1e-6
    )  # columns are scaled to 1e-7 in chunks, to 1e-9 in memory
    np.testing.assert_allclose(chunked.obsm["X_med_magma"], whole.obsm["X_med_magma"], rtol=0, atol=1e-6)
    edges, of_chunks = (adata.obsp["med_magma_connectivities"] > 0 for adata in found)
    assert (edges != of_chunks).nnz == 0


def test_raw_in_place_of_scaled_values(run, simulated, tmp_path, monkeypatch):
    adata = simulated.copy()
    del adata.layers["counts"]
    adata.X = adata.X.toarray() - 1
    adata.write_zarr(tmp_path / "scaled.zarr")
    small_chunks(monkeypatch)
    out = tmp_path / "results"
    code, _, err = run(tmp_path / "scaled.zarr", "--n-neighbors", 10, "--out-of-core", "--out", out)
    assert code == 0
    assert "X has negative values, as scaled ones are: the values and the 63 genes of raw are used" in err
    found = ad.read_h5ad(out / "scaled.h5ad")
    assert found.n_vars == 62 and found.raw is None  # the others stay where they are


@pytest.mark.parametrize("fault", ["negative", "nan", "csc", "few", "dense"])
def test_what_cannot_be_used(run, simulated, tmp_path, monkeypatch, fault):
    """And a dense array, which can."""
    values = simulated.layers["counts"].toarray()
    if fault == "negative":
        values[290, 5] = -1
    if fault == "nan":
        values[290, 5] = np.nan
    if fault == "few":
        values = values[:50]
    matrix = {"csc": sparse.csc_matrix, "dense": np.asarray}.get(fault, sparse.csr_matrix)(values)
    ad.AnnData(matrix).write_h5ad(tmp_path / "cells.h5ad")
    small_chunks(monkeypatch)
    if fault == "csc":
        import anndata.experimental

        read = anndata.experimental.read_elem_lazy
        monkeypatch.setattr(anndata.experimental, "read_elem_lazy", lambda x, chunks=(-1, 30): read(x, chunks=chunks))
    code, out, err = run(tmp_path / "cells.h5ad", "--out-of-core", "--out", tmp_path / "results")
    reasons = {
        "negative": "has negative values. Name a layer",
        "nan": "has 1 masked, NaN or infinite values, the first of them in rows 264 to 299",
        "csc": "stored by genes (CSC), and can only be read whole: leave --out-of-core out",
        "few": "--out-of-core needs more cells than genes; 50 cells and 59 genes were chosen",
    }
    if fault == "dense":
        assert code == 0
    else:
        assert (code, out) == (2, "") and reasons[fault] in err
        assert {path.name for path in tmp_path.iterdir()} == {"cells.h5ad"}


def test_a_file_that_cannot_be_read_to_its_end(run, stored, tmp_path, monkeypatch):
    """The place of the values is overwritten, which HDF5 sees when it unpacks them."""
    import h5py

    broken = tmp_path / "cells.h5ad"
    adata = ad.read_h5ad(stored["h5ad"])
    adata.write_h5ad(broken, compression="gzip")
    with h5py.File(broken) as file:
        chunk = file["layers/counts/data"].id.get_chunk_info(0)
    with open(broken, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * chunk.size)
    code, out, err = run(broken, *ARGUMENTS, "--out-of-core", "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert f"{broken} cannot be read to its end: " in err
    assert {path.name for path in tmp_path.iterdir()} == {"cells.h5ad"}


def test_a_disk_that_is_full(run, stored, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(ad.io, "write_elem", full)
    code, _, err = run(stored["h5ad"], *ARGUMENTS, "--out-of-core", "--out", tmp_path / "results")
    assert code == 2
    assert f"The chosen genes cannot be copied to {tmp_path}: No space left on device.\n" in err
    assert not list(tmp_path.iterdir())


def test_what_fails_midway_leaves_nothing(run, stored, tmp_path, monkeypatch):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(graphs.tl, "med_magma", interrupt)
    code, _, err = run(stored["zarr"], *ARGUMENTS, "--out-of-core", "--out", tmp_path / "results")
    assert code == 130 and err.endswith("interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("where", ["the first look", "a pass"])
def test_signals_end_it(run, stored, tmp_path, monkeypatch, number, code, where):
    """While threads read chunks; nothing stays, not even the copy of the chosen genes."""
    sent = []

    def reading_when(function):
        def read(*args, **options):
            if not sent:
                sent.append(number)
                signal.pthread_kill(threading.main_thread().ident, number)
            return function(*args, **options)

        return read

    owner, name = (chunks, "survey") if where == "the first look" else (Preparation, "__call__")
    monkeypatch.setattr(owner, name, reading_when(getattr(owner, name)))
    small_chunks(monkeypatch)
    found, _, err = run(stored["zarr"], *ARGUMENTS, "--out-of-core", "--out", tmp_path / "results")
    assert sent and found == code
    assert err.endswith("interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_without_dask(run, stored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    code, out, err = run(stored["zarr"], "--out-of-core", "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert err == 'python -m kronax: error: --out-of-core needs dask: pip install "kronax[dask]"\n'
    assert not list(tmp_path.iterdir())


def test_without_a_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("--out-of-core")
    assert code == 2 and "belong to a file" in err
