"""Matrices that are not in memory: the same graphs, whoever computes the passes, and clear words where they cannot be used."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

import anndata as ad
import mudata
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import kronax as kx
from kronax._data.chunks import read_any

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

N, P, CHUNK = 330, 40, 100
SCALED = 1e-6  # column sums are scaled to 1e-7 where every pass reads the matrix anew, to 1e-9 in memory


@pytest.fixture(scope="module")
def counts() -> sparse.csr_matrix:
    """Counts of five types of cells, with a cell and two genes without any."""
    rng = np.random.default_rng(1)
    means = rng.gamma(0.5, 2.0, (5, P))[rng.integers(5, size=N)] * rng.lognormal(0.0, 0.5, (N, 1))
    drawn = rng.poisson(means).astype(np.float32)
    drawn[:, [3, 17]] = 0.0
    drawn[[0, 205]] = 0.0
    drawn[1:][drawn[1:].sum(1) == 0, 5] = 1.0
    drawn[205] = 0.0
    return sparse.csr_matrix(drawn)


@pytest.fixture(scope="module")
def in_memory(counts) -> ad.AnnData:
    return learnt(ad.AnnData(counts.copy()))


def learnt(adata: ad.AnnData, **arguments) -> ad.AnnData:
    with pytest.warns(UserWarning, match="isolated"):
        kx.tl.med_magma(adata, **arguments)
    return adata


def lazy(matrix, chunk: int = CHUNK) -> ad.AnnData:
    """An object whose X is a dask array in chunks of rows; its blocks are sparse."""
    array = da.from_array(matrix.toarray(), chunks=(chunk, -1)).map_blocks(
        sparse.csr_matrix, dtype=matrix.dtype, meta=sparse.csr_matrix((0, 0), dtype=matrix.dtype)
    )
    adata = ad.AnnData(matrix.copy())
    adata.X = array
    return adata


def assert_same(found: ad.AnnData, expected: ad.AnnData, tolerance: float):
    for where, key in (
        ("obsm", "X_med_magma"),
        ("varm", "med_magma"),
        ("obsp", "med_magma_connectivities"),
        ("obsp", "med_magma_distances"),
        ("varp", "med_magma_connectivities"),
        ("varp", "med_magma_precision"),
    ):
        one, other = (getattr(adata, where)[key] for adata in (found, expected))
        one, other = (part.toarray() if sparse.issparse(part) else part for part in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())
    for where in ("obs", "var"):
        one, other = (getattr(adata, where)["med_magma_log_scale"] for adata in (found, expected))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("chunk", [CHUNK, N, 7])
def test_dask_gives_the_graphs_of_the_matrix_in_memory(counts, in_memory, chunk):
    adata = lazy(counts, chunk)
    array = adata.X
    learnt(adata)
    assert adata.X is array
    assert_same(adata, in_memory, SCALED)
    assert "med_magma_precision" not in adata.obsp
    assert adata.uns["med_magma"]["converged"]


@pytest.mark.parametrize("graphs", ["both", "cells", "genes"])
def test_a_chunk_without_counts(counts, graphs):
    values = counts.toarray()
    values[CHUNK : 2 * CHUNK] = 0.0
    expected = learnt(ad.AnnData(sparse.csr_matrix(values)), graphs=graphs)
    found = learnt(lazy(sparse.csr_matrix(values)), graphs=graphs)
    one, other = (adata.obsm["X_med_magma"] for adata in (found, expected))
    np.testing.assert_allclose(one, other, rtol=0, atol=SCALED * np.abs(other).max())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
@pytest.mark.parametrize("form", ["zeros stored", "unsorted"])
def test_chunks_in_memory_stay_as_they_are(counts, dtype, form):
    """Whatever a copy of them needs: zeros left out, entries sorted."""
    parts = [sparse.csr_matrix(counts[start : start + CHUNK], dtype=dtype) for start in range(0, N, CHUNK)]
    for part in parts:
        if form == "zeros stored":
            part.data[::5] = 0
        else:
            part.indices, part.data = part.indices.copy(), part.data.copy()
            for start, stop in zip(part.indptr[:-1], part.indptr[1:], strict=True):
                part.indices[start:stop], part.data[start:stop] = (
                    part.indices[start:stop][::-1],
                    part.data[start:stop][::-1],
                )
            part.has_sorted_indices = False
    before = [(part.data.copy(), part.indices.copy(), part.indptr.copy()) for part in parts]
    expected = learnt(ad.AnnData(sparse.vstack(parts, format="csr")))
    meta = sparse.csr_matrix((0, 0), dtype=dtype)
    chunks = [dask.delayed(part, traverse=False, pure=False) for part in parts]
    adata = ad.AnnData(shape=(N, P))
    adata.X = da.concatenate(
        [da.from_delayed(chunk, part.shape, dtype, meta) for chunk, part in zip(chunks, parts, strict=True)]
    )
    assert_same(learnt(adata), expected, SCALED)
    for part, arrays in zip(parts, before, strict=True):
        for found, array in zip((part.data, part.indices, part.indptr), arrays, strict=True):
            np.testing.assert_array_equal(found, array)


def test_sample_is_of_cells_with_counts(counts):
    """Even where every other cell is empty, and only those would be seen."""
    full = sparse.csr_matrix(counts[1:101].toarray() + 1.0)
    values = np.zeros((200, P))
    values[1::2] = full.toarray()
    found = read_any(lazy(sparse.csr_matrix(values)), None, n_sampled=100).sample
    assert found.shape[0] == 50
    assert (np.diff(found.indptr) > 0).all()
    every = read_any(lazy(full, 30), None, n_sampled=10).sample
    np.testing.assert_array_equal(every.toarray(), full[::10].toarray())


def test_chunks_of_a_dense_array(counts, in_memory):
    adata = ad.AnnData(counts.copy())
    adata.X = da.from_array(counts.toarray(), chunks=(CHUNK, -1))
    assert_same(learnt(adata), in_memory, SCALED)


def test_a_view(counts, in_memory):
    view = lazy(counts)[np.arange(N)]
    assert view.is_view
    assert_same(learnt(view), in_memory, SCALED)


def test_a_layer(counts, in_memory):
    adata = ad.AnnData(sparse.csr_matrix(counts.shape, dtype=np.float32), layers={"counts": lazy(counts).X})
    assert_same(learnt(adata, layer="counts"), in_memory, SCALED)


def test_schedulers_agree_to_the_last_bit(counts):
    with dask.config.set(scheduler="synchronous"):
        one = learnt(lazy(counts))
    with dask.config.set(scheduler="threads", num_workers=3):
        other = learnt(lazy(counts))
    assert_same(other, one, 0.0)


def fatal(marks: Path, n_deaths: int):
    """Return a function that ends the process that reads a chunk, so many times, once the first pass is over."""
    first_pass = N // CHUNK + 1

    def read(block):  # defined here, so that it is sent by value: workers cannot import tests
        reads = len(list(marks.iterdir()))
        marks.joinpath(str(uuid4())).touch()
        if first_pass + 2 <= reads < first_pass + 2 + n_deaths:
            os._exit(1)
        return block

    return read


def test_several_workers_agree_to_the_last_bit(counts, tmp_path):
    """Also where one dies, and another computes its chunks again; if that always ends a worker, nothing is written."""
    distributed = pytest.importorskip("distributed")
    expected = learnt(lazy(counts))
    kinds = {"dtype": counts.dtype, "meta": sparse.csr_matrix((0, 0), dtype=counts.dtype)}
    patience = {"distributed.comm.timeouts.connect": "5s"}  # else one asks half a minute for the dead one's chunks
    with (
        dask.config.set(patience),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        for n_deaths in (0, 1, 100):
            adata, marks = lazy(counts), tmp_path / str(n_deaths)
            marks.mkdir()
            adata.X = adata.X.map_blocks(fatal(marks, n_deaths), **kinds)
            if n_deaths < 100:
                assert_same(learnt(adata), expected, 0.0)
            else:
                unchanged(adata, distributed.KilledWorker, "workers died while running it")


@pytest.mark.parametrize("dense", [False, True])
def test_backed_objects(counts, in_memory, dense, tmp_path):
    ad.AnnData(counts.toarray() if dense else counts).write_h5ad(tmp_path / "counts.h5ad")
    adata = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    assert_same(learnt(adata), in_memory, SCALED)
    assert adata.isbacked


def test_what_needs_no_matrix_takes_backed_objects(counts, in_memory, tmp_path):
    """Modules, robustness, metrics and figures of the graphs, as in memory."""
    ad.AnnData(counts).write_h5ad(tmp_path / "counts.h5ad")
    adata = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    kx.tl.med_magma(adata)
    whole = adata.to_memory()
    kinds = np.array(["a", "b"])[np.arange(adata.n_obs) % 2]
    for data in (adata, whole):
        data.obs["kind"] = kinds
        kx.tl.gene_modules(data, n_runs=2)
        kx.tl.graph_robustness(data, n_repeats=1, shares=[0, 0.5])
        kx.pl.gene_modules(data, groupby="kind")
        kx.pl.gene_network(data, module="0")
        kx.pl.precision(data, groupby="gene_module", axis="var")
        kx.pl.graph_robustness(data)
    assert adata.isbacked and adata.var["gene_module"].equals(whole.var["gene_module"])
    assert kx.metrics.assortativity(adata, labels="kind") == kx.metrics.assortativity(whole, labels="kind")
    for function in (kx.tl.gene_modules, kx.tl.graph_robustness):
        with pytest.raises(ValueError, match="is backed by .* copy=True copies it"):
            function(adata, copy=True)


@pytest.mark.parametrize("arguments", [{"copy": True}, {}])
def test_copies_of_backed_objects_are_refused_at_once(counts, arguments, tmp_path):
    ad.AnnData(counts).write_h5ad(tmp_path / "counts.h5ad")
    adata = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"is backed by .* Run `adata = adata.to_memory\(\)` first"):
        kx.tl.med_magma(adata if arguments else adata[:200], **arguments)


def test_lazily_read_files(counts, in_memory, tmp_path):
    pytest.importorskip("xarray")
    from anndata.experimental import read_lazy

    ad.AnnData(counts).write_zarr(tmp_path / "counts.zarr")
    adata = read_lazy(tmp_path / "counts.zarr")
    with pytest.warns(UserWarning, match="isolated"):
        kx.tl.med_magma(adata)
    np.testing.assert_allclose(adata.obsm["X_med_magma"], in_memory.obsm["X_med_magma"], atol=SCALED)
    kx.tl.gene_modules(adata, n_runs=2)
    assert kx.get.edges(adata)["source_module"].notna().any()
    assert set(kx.get.modules(adata)["gene"]) == set(
        adata.var_names[np.diff(adata.varp["med_magma_connectivities"].indptr) > 0]
    )


def test_scanpy_goes_on(counts):
    adata = learnt(lazy(counts))
    sc.tl.leiden(adata, neighbors_key="med_magma", flavor="igraph", n_iterations=2, directed=False)
    sc.tl.umap(adata, neighbors_key="med_magma", maxiter=5)
    assert adata.obs["leiden"].nunique() > 1


def test_one_graph_alone(counts, in_memory):
    cells = learnt(lazy(counts), graphs="cells")
    assert not cells.varp and set(cells.obsp) == {"med_magma_connectivities", "med_magma_distances"}
    np.testing.assert_allclose(cells.obsm["X_med_magma"], in_memory.obsm["X_med_magma"], atol=SCALED)
    genes = learnt(lazy(counts), graphs="genes")
    assert not genes.obsp
    found, expected = (adata.varp["med_magma_precision"].toarray() for adata in (genes, in_memory))
    np.testing.assert_allclose(found, expected, atol=SCALED)


def test_a_modality(counts):
    mdata = mudata.MuData({"rna": lazy(counts), "adt": ad.AnnData(counts[:, ::2].copy())})
    with pytest.raises(ValueError, match=r"`mdata\['rna'\]` is not in memory\. .* learn graphs='cells' alone"):
        kx.tl.med_magma(mdata)
    with pytest.warns(UserWarning, match="isolated"):
        kx.tl.med_magma(mdata, graphs="cells")
    assert mdata.obsp["med_magma_connectivities"].nnz


def test_quotient_is_as_lazy_as_its_matrix(counts, rng):
    signed = counts.copy()
    signed.data *= rng.choice(np.array([-1.0, 1.0], np.float32), signed.nnz)
    one, other = ad.AnnData(signed.copy()), lazy(signed)
    for adata in (one, other):
        with pytest.warns(UserWarning, match="isolated"):
            kx.pp.quotient(adata)
    array = other.layers["quotient"]
    assert isinstance(array, da.Array) and array.chunks == other.X.chunks
    found, expected = array.compute().toarray(), one.layers["quotient"].toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for where in ("obs", "var"):
        found, expected = (getattr(adata, where)["quotient_log_scale"] for adata in (other, one))
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_module_activity(in_memory, counts):
    one = in_memory.copy()
    kx.tl.gene_modules(one)
    other = lazy(counts)
    other.var["gene_module"] = one.var["gene_module"]
    for adata in (one, other):
        with pytest.warns(UserWarning, match="no non-zero value"):
            kx.tl.module_activity(adata)
    np.testing.assert_allclose(other.obsm["module_activity"], one.obsm["module_activity"], atol=1e-12)


def unchanged(adata: ad.AnnData, kind: type[Exception], match: str, **arguments):
    """The call fails with this message, and writes nothing."""
    with pytest.raises(kind, match=match):
        kx.tl.med_magma(adata, **arguments)
    assert not (adata.obsp or adata.varp or adata.obsm or adata.varm or adata.uns)
    assert not len(adata.obs.columns) and not len(adata.var.columns)


def test_refuses_chunks_along_the_genes(counts):
    adata = ad.AnnData(counts.copy())
    adata.X = da.from_array(counts.toarray(), chunks=(CHUNK, 15))
    unchanged(adata, ValueError, r"3 chunks along the genes.*rechunk\(\(rows, -1\)\)")


def test_refuses_unknown_chunk_sizes(counts):
    adata = ad.AnnData(counts.copy())
    adata.X = da.from_array(counts.toarray(), chunks=(CHUNK, -1))
    adata.X._chunks = ((np.nan,) * 4, (P,))  # AnnData takes no array whose shape it does not know
    unchanged(adata, ValueError, "compute_chunk_sizes")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_a_bad_value_in_a_late_chunk(counts, bad):
    values = counts.toarray()
    values[310, 7] = bad
    unchanged(
        lazy(sparse.csr_matrix(values)), ValueError, "1 masked, NaN or infinite values, the first .* rows 300 to 329"
    )


def test_refuses_masked_values(counts):
    values = np.ma.masked_array(counts.toarray(), mask=np.arange(N)[:, None] + np.zeros(P) == 120)
    adata = ad.AnnData(counts.copy())
    adata.X = da.from_array(values, chunks=(CHUNK, -1), asarray=False)
    unchanged(adata, ValueError, f"{P} masked")


def test_tells_when_the_file_disappears(counts, tmp_path):
    """A zarr store reads chunks that are gone as zeros."""
    import zarr
    from anndata.experimental import read_elem_lazy

    path = tmp_path / "counts.zarr"
    ad.AnnData(counts.toarray()).write_zarr(path)
    array = read_elem_lazy(zarr.open(path, mode="r")["X"], chunks=(CHUNK, P))
    reads = []

    def read(block):
        reads.append(1)
        if len(reads) == 6:  # after every chunk has been looked at once
            for part in (path / "X").iterdir():  # all but what describes them
                if part.is_dir():
                    shutil.rmtree(part)
                elif not part.name.startswith((".z", "zarr")):
                    part.unlink()
        return block

    adata = ad.AnnData(counts.copy())
    with dask.config.set(scheduler="synchronous"):
        adata.X = array.map_blocks(read, dtype=array.dtype, meta=np.empty((0, 0), array.dtype))
        unchanged(adata, RuntimeError, "changed while it was read")


def test_refuses_numbers_that_are_not_real(counts):
    adata = ad.AnnData(counts.copy())
    adata.X = da.from_array(counts.toarray().astype(complex), chunks=(CHUNK, -1))
    unchanged(adata, TypeError, "complex128; real numbers are needed")


def test_refuses_more_genes_than_cells(counts):
    unchanged(lazy(sparse.csr_matrix(counts[:30])), ValueError, r"30 cells? .*to_memory|more cells than genes")


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_iter": 3},
        {"joint": True},
        {"laplace": True},
        {"penalty": "ridge"},
        {"weights": "partial_correlation"},
        {"n_neighbors": None},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_names_the_argument_that_needs_the_matrix_in_memory(counts, arguments):
    (name,) = arguments
    unchanged(lazy(counts), ValueError, f"not in memory, which `{name}` needs", **arguments)


def test_gmgm_needs_the_matrix_in_memory(counts):
    adata = lazy(counts)
    with pytest.raises(ValueError, match=r"kx\.tl\.gmgm needs.*to_memory"):
        kx.tl.gmgm(adata)
    assert not adata.uns


def test_values_that_stand_for_zeros_are_told(counts):
    rng = np.random.default_rng(0)
    values = counts.toarray().astype(float)
    values[values == 0] = np.where(rng.random(int((values == 0).sum())) < 0.3, 1e-6, 0.0)
    with pytest.raises(ValueError, match="stand for zeros.*Set them to 0"):
        kx.tl.med_magma(lazy(sparse.csr_matrix(values)))


def in_batches(adata: ad.AnnData) -> ad.AnnData:
    """Three batches, in which every gene has a scale of its own."""
    adata.obs["batch"] = np.array(["one", "two", "three"])[np.arange(N) * 7 % 3]
    return adata


def noisy(counts) -> sparse.csr_matrix:
    factors = np.random.default_rng(2).lognormal(0.0, 0.7, (3, P))
    return sparse.csr_matrix(counts.toarray() * factors[np.arange(N) * 7 % 3])


@pytest.mark.parametrize("scales", ["pooled", "separate"])
@pytest.mark.parametrize("chunk", [CHUNK, 32])
def test_batches(counts, scales, chunk):
    matrix = noisy(counts)
    with_ = {"batch_key": "batch", "batch_scales": scales}
    expected = learnt(in_batches(ad.AnnData(matrix)), **with_)
    found = learnt(in_batches(lazy(matrix, chunk)), **with_)
    assert_same(found, expected, SCALED)
    one, other = (adata.varm["med_magma_log_scale"].to_numpy() for adata in (found, expected))
    np.testing.assert_allclose(one, other, rtol=0, atol=SCALED)
    with dask.config.set(scheduler="synchronous"):
        assert_same(learnt(in_batches(lazy(matrix, chunk)), **with_), found, 0.0)


@pytest.mark.parametrize("chunk", [CHUNK, 32])
def test_groups(counts, chunk):
    """Sums of groups are over all chunks."""
    expected = learnt(in_batches(ad.AnnData(counts)), groupby="batch")
    found = learnt(in_batches(lazy(counts, chunk)), groupby="batch")
    assert_same(found, expected, SCALED)
    assert (
        learnt(ad.AnnData(counts)).varp["med_magma_connectivities"] != expected.varp["med_magma_connectivities"]
    ).nnz


def test_batches_of_files(counts, tmp_path):
    pytest.importorskip("xarray")
    from anndata.experimental import read_lazy

    matrix = noisy(counts)
    expected = learnt(in_batches(ad.AnnData(matrix)), batch_key="batch")
    in_batches(ad.AnnData(matrix)).write_h5ad(tmp_path / "counts.h5ad")
    backed = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r")
    assert_same(learnt(backed, batch_key="batch"), expected, SCALED)
    in_batches(ad.AnnData(matrix)).write_zarr(tmp_path / "counts.zarr")
    read = learnt(read_lazy(tmp_path / "counts.zarr"), batch_key="batch")
    np.testing.assert_allclose(read.obsm["X_med_magma"], expected.obsm["X_med_magma"], atol=SCALED)


def test_quotient_of_batches_is_as_lazy_as_its_matrix(counts):
    one, other = in_batches(ad.AnnData(counts.copy())), in_batches(lazy(counts, 33))
    for adata in (one, other):
        with pytest.warns(UserWarning, match="isolated"):
            kx.pp.quotient(adata, batch_key="batch")
    found, expected = other.layers["quotient"], one.layers["quotient"].toarray()
    assert isinstance(found, da.Array) and found.chunks == other.X.chunks
    np.testing.assert_allclose(found.compute().toarray(), expected, rtol=1e-9)
    for part in ("obs", "var", "varm"):
        found, expected = (getattr(adata, part)["quotient_log_scale"] for adata in (other, one))
        np.testing.assert_allclose(found, expected, atol=1e-9)
