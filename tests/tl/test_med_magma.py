"""kx.tl.med_magma: its promises to those who call it, and to the scanpy functions that read what it writes."""

import dataclasses
import inspect
import logging
import sys
import warnings
from collections.abc import Mapping

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score
from tqdm.auto import tqdm

import kronax as kx
from kronax._data import graph_in, graph_out, objects
from kronax.solvers.gaussian import precision
from kronax.solvers.gaussian.m_step import Penalty
from kronax.solvers.gaussian.precision import Partial, dense
from kronax.solvers.gaussian.scale_errors import without_scale_errors
from kronax.solvers.graph.weights import affinity_graph
from kronax.solvers.medmagma import em

N, P = 150, 120
GRAPHS = ("connectivities", "distances", "precision")
TESTS = ("p_value", "q_value")  # of edges of genes


def simulate(rng) -> tuple[np.ndarray, np.ndarray]:
    """Negative binomial counts of three cell types, and the types; no cell and no gene is empty."""
    types = np.arange(N) % 3
    mean = rng.gamma(2.0, 1.0, (3, P))[types] * rng.lognormal(0.0, 0.3, (N, 1))
    counts = rng.poisson(rng.gamma(5.0, mean / 5.0)).astype(float)
    assert counts.any(0).all() and counts.any(1).all() and not counts.all()
    return counts, types


@pytest.fixture
def counts(rng) -> np.ndarray:
    return simulate(rng)[0]


@pytest.fixture(scope="module")
def same_counts() -> np.ndarray:
    """The same values as `counts`, for what several tests share."""
    return simulate(np.random.default_rng(0))[0]


def annotated(x) -> ad.AnnData:
    n, p = x.shape
    return ad.AnnData(
        x, pd.DataFrame(index=[f"cell{i}" for i in range(n)]), pd.DataFrame(index=[f"gene{j}" for j in range(p)])
    )


def solved(x, **arguments) -> ad.AnnData:
    adata = annotated(x)
    assert kx.tl.med_magma(adata, **arguments) is None
    return adata


@pytest.fixture(scope="module")
def learnt_once(same_counts) -> ad.AnnData:
    return solved(sparse.csr_matrix(same_counts))


@pytest.fixture
def result(learnt_once) -> ad.AnnData:
    return learnt_once.copy()


def leiden(adata: ad.AnnData, **arguments) -> np.ndarray:
    sc.tl.leiden(
        adata, neighbors_key="med_magma", flavor="igraph", n_iterations=2, directed=False, random_state=0, **arguments
    )
    return adata.obs["leiden"].to_numpy()


def graphs(adata: ad.AnnData, key: str = "med_magma") -> dict[str, sparse.csr_matrix]:
    pairs = {"obsp": adata.obsp, "varp": adata.varp}
    return {f"{part} {name}": pairs[part][f"{key}_{name}"] for part in pairs for name in GRAPHS}


def assert_same_graphs(found: ad.AnnData, expected: ad.AnnData, tolerance: float = 1e-6, *, cells=None, genes=None):
    """Equal patterns and nearly equal weights, with the expected one's cells and genes rearranged."""
    orders = {"obsp": slice(None) if cells is None else cells, "varp": slice(None) if genes is None else genes}
    for (name, one), other in zip(graphs(found).items(), graphs(expected).values(), strict=True):
        order = orders[name.split()[0]]
        other = other[order][:, order].sorted_indices()
        np.testing.assert_array_equal(one.indptr, other.indptr, err_msg=name)
        np.testing.assert_array_equal(one.indices, other.indices, err_msg=name)
        np.testing.assert_allclose(one.data, other.data, atol=tolerance * np.abs(other.data).max(), err_msg=name)


def snapshot(value):
    """Everything about a value that a comparison with == can tell, down to the bytes of its arrays."""
    if isinstance(value, ad.AnnData):
        parts = ("X", "layers", "obs", "var", "obsm", "varm", "obsp", "varp", "uns")
        found = {part: snapshot(getattr(value, part)) for part in parts}
        return found | {"raw": None if value.raw is None else (snapshot(value.raw.X), snapshot(value.raw.var))}
    if isinstance(value, pd.DataFrame):
        return list(value.index), {name: (str(value[name].dtype), list(map(repr, value[name]))) for name in value}
    if isinstance(value, Mapping):
        return {key: snapshot(part) for key, part in value.items()}
    if sparse.issparse(value) and value.format in ("csr", "csc"):
        return type(value), value.shape, *map(snapshot, (value.data, value.indices, value.indptr))
    if isinstance(value, np.ndarray):
        content = value.tolist() if value.dtype.hasobject else value.tobytes()
        return value.dtype.str, value.shape, value.flags.f_contiguous, content
    return type(value), value


def furnished(x) -> ad.AnnData:
    """An object that holds something in each of its parts."""
    adata = annotated(x)
    adata.raw = adata.copy()
    n, p = adata.shape
    adata.layers["double"] = sparse.csc_matrix(np.ones((n, p)))
    adata.obs["type"] = pd.Categorical(["a", "b"] * (n // 2) + ["a"] * (n % 2))
    adata.var["length"] = np.arange(p)
    adata.obsm["X_pca"] = np.ones((n, 2))
    adata.varm["PCs"] = np.ones((p, 2))
    adata.obsp["connectivities"] = sparse.eye(n, format="csr")
    adata.varp["kin"] = sparse.eye(p, format="csr")
    adata.uns["neighbors"] = {"params": {"n_neighbors": 3}, "table": np.arange(4)}
    return adata


# What the method must not see


def test_scales_of_cells_and_genes_leave_the_graphs(counts, rng):
    r, c = rng.lognormal(0.0, 1.5, N), rng.lognormal(0.0, 1.5, P)
    clean, noisy = solved(counts), solved(r[:, None] * counts * c)
    assert_same_graphs(noisy, clean)
    np.testing.assert_allclose(noisy.obsm["X_med_magma"], clean.obsm["X_med_magma"], atol=1e-6)
    np.testing.assert_allclose(noisy.varm["med_magma"], clean.varm["med_magma"], atol=1e-6)
    r, c = np.log(r), np.log(c)
    for found, before, change in (
        (noisy.obs, clean.obs, r + c.mean()),
        (noisy.var, clean.var, c - c.mean()),
    ):
        np.testing.assert_allclose(found["med_magma_log_scale"] - before["med_magma_log_scale"], change, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_unit_of_the_counts_leaves_the_graphs(factor, counts):
    assert_same_graphs(solved(counts * factor), solved(counts))


def test_order_of_cells_and_genes(counts, rng):
    cells, genes = rng.permutation(N), rng.permutation(P)
    straight, permuted = solved(counts), solved(counts[cells][:, genes])
    assert_same_graphs(permuted, straight, cells=cells, genes=genes)
    np.testing.assert_allclose(permuted.obsm["X_med_magma"], straight.obsm["X_med_magma"][cells], atol=1e-8)
    np.testing.assert_allclose(permuted.varm["med_magma"], straight.varm["med_magma"][genes], atol=1e-8)


def test_same_numbers_twice(counts):
    one, two = solved(counts), solved(counts)
    assert snapshot(one) == snapshot(two)


def test_finds_the_cell_types(rng):
    counts, types = simulate(rng)
    adata = solved(rng.lognormal(0.0, 1.5, (N, 1)) * counts * rng.lognormal(0.0, 1.5, P))
    rows, cols = adata.obsp["med_magma_connectivities"].nonzero()
    assert (types[rows] == types[cols]).mean() > 0.99
    assert adjusted_mutual_info_score(types, leiden(adata, resolution=0.2)) == pytest.approx(1.0)


# What comes in


def duplicated_names(x) -> ad.AnnData:
    adata = annotated(x)
    adata.obs_names, adata.var_names = ["cell"] * N, ["gene"] * P
    return adata


FORMATS = {
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "dense": np.array,
    "Fortran order": np.asfortranarray,
    "int64": lambda x: x.astype(np.int64),
    "uint8": lambda x: x.astype(np.uint8),
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "big endian": lambda x: x.astype(">f4"),
    "sparse float32": lambda x: sparse.csr_matrix(x, dtype=np.float32),
    "sparse int32": lambda x: sparse.csc_matrix(x, dtype=np.int32),
    "unsorted": lambda x: sparse.csc_matrix(x)[::-1].tocsr()[::-1],
    "int64 indices": lambda x: with_long_indices(sparse.csr_matrix(x)),
    "stored zeros": lambda x: with_stored_zeros(sparse.csr_matrix(x)),
}


def with_long_indices(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def with_stored_zeros(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    full = sparse.csr_matrix(matrix.toarray() + 1)
    full.data -= 1
    return full


@pytest.mark.parametrize("name", FORMATS)
def test_formats_and_dtypes(name, counts, result):
    adata = annotated(FORMATS[name](counts))
    before = snapshot(adata.X)
    kx.tl.med_magma(adata)
    assert_same_graphs(adata, result, 1e-12)
    assert snapshot(adata.X) == before


@pytest.mark.parametrize("convert", [np.array, sparse.csr_matrix])
def test_booleans(convert, counts):
    assert_same_graphs(solved(convert(counts > 0)), solved((counts > 0).astype(float)), 1e-12)


def test_layer(counts, result):
    adata = annotated(np.ones((N, P)))
    adata.layers["counts"] = counts
    kx.tl.med_magma(adata, layer="counts")
    assert_same_graphs(adata, result, 1e-12)
    assert adata.uns["med_magma"]["params"]["layer"] == "counts"


def test_layer_without_x(counts, result):
    adata = ad.AnnData(None, *(pd.DataFrame(index=[f"{i}" for i in range(size)]) for size in (N, P)))
    adata.layers["counts"] = counts
    kx.tl.med_magma(adata, layer="counts")
    assert_same_graphs(adata, result, 1e-12)


def test_duplicated_names(counts, result):
    adata = duplicated_names(counts)
    kx.tl.med_magma(adata)
    assert_same_graphs(adata, result, 1e-12)


def test_view_becomes_actual(counts, result):
    large = annotated(sparse.csr_matrix(np.vstack([counts, counts[:20]])))
    before = snapshot(large)
    view = large[:N]
    with pytest.warns(ad.ImplicitModificationWarning):
        kx.tl.med_magma(view)
    assert not view.is_view
    assert_same_graphs(view, result, 1e-12)
    assert snapshot(large) == before


def test_negative_values(counts, rng):
    x = counts * rng.choice([-1.0, 1.0], (3, P))[np.arange(N) % 3]
    adata = solved(x)
    assert adata.uns["med_magma"]["power"] == 1.0
    assert_same_graphs(solved(-x), adata, 1e-9)
    assert_sound(adata)


def test_negative_values_are_warned_of_once(counts):
    adata = annotated(counts)
    adata.layers["scaled"] = counts - counts.mean(0)
    with pytest.warns(UserWarning) as caught:
        kx.tl.med_magma(adata, layer="scaled")
    (found,) = caught
    negative, n = (adata.layers["scaled"] < 0).sum(), np.count_nonzero(adata.layers["scaled"])
    words = f"{negative:,} of {n:,} non-zero values of `adata.layers['scaled']` are negative. Values are therefore"
    assert str(found.message).startswith(words)
    assert found.filename == __file__
    scaled = annotated(adata.layers["scaled"])
    scaled.raw = adata
    with pytest.warns(UserWarning, match=r"of `adata.X` are negative.*`adata.raw.to_adata\(\)`, or use kx.tl.gmgm, "):
        kx.tl.med_magma(scaled)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kx.tl.med_magma(adata)
        kx.tl.gmgm(scaled)  # has no noise to take away


def test_spike_ins_are_warned_of(counts):
    adata = annotated(counts)
    adata.var_names = ["ERCC1", "ERCC-00002", "ERCC-00130", *adata.var_names[3:]]
    words = r"2 features are spike-ins \(ERCC-00002, ERCC-00130\)\. .*startswith\(\"ERCC-\"\)"
    with pytest.warns(UserWarning, match=words) as caught:
        kx.tl.med_magma(adata)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kx.tl.med_magma(adata[:, ~adata.var_names.str.startswith("ERCC-")].copy())


def test_a_stray_negative_value_is_counted(counts):
    counts[3, 5] = -1
    adata, n = annotated(counts), np.count_nonzero(counts)
    with pytest.warns(UserWarning, match=f"^1 of {n:,} non-zero values of `adata.X` is negative.*without a power"):
        kx.tl.med_magma(adata)
    with pytest.warns(UserWarning, match=f"^1 of {n:,} non-zero values of `adata.X` is negative. If"):
        kx.tl.med_magma(adata, power=0.5)  # as they were asked for


NAMES = {
    "missing": lambda names: pd.Index([*names[:-2], None, np.nan]),
    "missing, categorical": lambda names: pd.CategoricalIndex([*names[:-1], np.nan]),
    "dates": lambda names: pd.Index([*names[:-1], pd.Timestamp("2021-03-01")], dtype=object),
    "integers": lambda names: pd.RangeIndex(len(names)),
    "numbers": lambda names: pd.Index(np.arange(len(names)) / 2),
    "more than once": lambda names: pd.Index([*names[:-1], names[0]]),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_names_of_any_kind(kind, result, counts, tmp_path):
    """A check that only warns never ends a call; what is empty is reported by whatever name it has."""
    x = emptied(counts)
    adata = annotated(x)
    adata.obs.index, adata.var.index = NAMES[kind](adata.obs_names), NAMES[kind](adata.var_names)
    with pytest.warns(UserWarning, match=r"4 of 150 cells \(.*\); 1 of 120 genes"):
        kx.tl.med_magma(adata)
    assert_same_graphs(adata, solved(x), 1e-12)
    for function in (kx.tl.gmgm, kx.pp.quotient, kx.tl.module_activity):
        if function is kx.tl.module_activity:
            kx.tl.gene_modules(adata, n_runs=1)
        function(adata)


def masked(x) -> np.ma.MaskedArray:
    return np.ma.masked_where(x == x.max(), x)


@pytest.mark.parametrize(
    "function", [kx.tl.med_magma, kx.tl.gmgm, kx.pp.quotient, kx.metrics.tail_dependence], ids=lambda f: f.__name__
)
def test_masked_values_are_refused(function, counts):
    adata = annotated(counts)
    adata.layers["masked"] = masked(counts)
    with pytest.raises(
        ValueError, match=r"`adata.layers\['masked'\]` is a masked array with 1 masked value;.*`.filled\(0\)`"
    ):
        function(adata, layer="masked")
    assert not adata.uns and not adata.obsp
    adata.layers["nothing masked"] = np.ma.masked_array(counts)
    function(adata, layer="nothing masked")


def test_matrices_that_are_passed_may_not_be_masked(counts):
    with pytest.raises(ValueError, match="is a masked array with 1 masked value"):
        kx.metrics.tail_dependence(masked(counts))
    graph = np.ma.masked_equal(np.ones((4, 4)) - np.eye(4), 0)
    with pytest.raises(ValueError, match="The graph is a masked array with 4 masked values"):
        kx.metrics.assortativity(graph, labels=list("aabb"))


@pytest.mark.parametrize("function", [kx.tl.med_magma, kx.tl.gmgm, kx.pp.quotient], ids=lambda f: f.__name__)
def test_values_in_raw_are_pointed_out(function, counts):
    adata = annotated(counts)
    found = ad.AnnData(None, adata.obs, adata.var)
    found.raw = adata
    words = r"`adata.raw` holds values of 150 cells and 120 genes: to use them, pass `adata.raw.to_adata\(\)`"
    with pytest.raises(ValueError, match=f"`adata.X` is None.*{words}"):
        function(found)
    with pytest.raises(KeyError, match=words):
        function(found, layer="counts")
    for spoilt in (np.zeros((N, P)), np.full((N, P), np.nan)):
        found.X = spoilt
        with pytest.raises(ValueError, match=words):
            function(found)
    function(found.raw.to_adata())


def test_values_that_stand_for_zeros(counts, result):
    """Pseudocounts: nearly the graphs without them, and it is said how many values were taken for zeros."""
    adata, n_zeros = annotated(np.where(counts == 0, 1e-7, counts)), (counts == 0).sum()
    words = r"^([\d,]+) of 18,000 non-zero values of `adata.X` are so small.*`adata.X\[adata.X < 0.5\] = 0`"
    with pytest.warns(UserWarning, match=words) as caught:
        kx.tl.med_magma(adata)
    assert f"{adata.uns['med_magma']['n_near_zero']:,} of" in str(caught[0].message)
    assert n_zeros <= adata.uns["med_magma"]["n_near_zero"] < 1.02 * n_zeros
    assert adata.uns["med_magma"]["power"] == pytest.approx(result.uns["med_magma"]["power"], rel=0.03)
    assert common(adata, result) > 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kx.tl.med_magma(adata, power=0.9)  # as they are
    assert adata.uns["med_magma"]["n_near_zero"] == 0
    assert common(adata, result) < 0.7


def test_values_taken_for_zeros_are_not_detected(counts):
    """A gene in few cells is tested with as few others as if its pseudocounts were zeros."""
    counts[:, 0] = np.repeat([1.0, 0.0], [14, N - 14])
    genes = counts.any(axis=0) & (np.arange(P) % 2 == 0)
    with_zeros, adata = solved(counts[:, genes]), annotated(np.where(counts == 0, 1e-7, counts)[:, genes])
    with pytest.warns(UserWarning, match="were taken for zeros"):
        kx.tl.med_magma(adata)
    tested = [found.var["med_magma_n_tested"].to_numpy() for found in (with_zeros, adata)]
    assert 0 < tested[0][0] < tested[0].max() and abs(tested[1] - tested[0]).max() <= 2


def common(one: ad.AnnData, other: ad.AnnData) -> float:
    """The share that two cell graphs have in common of all their weights."""
    a, b = (data.obsp["med_magma_connectivities"] for data in (one, other))
    return a.minimum(b).sum() / a.maximum(b).sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(300, 40), (500, 200), (60, 200)])
@pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm], ids=lambda f: f.__name__)
def test_whitened_data_have_no_edge(method, shape, rng):
    """All their eigenvalues are equal, but for rounding."""
    x = rng.normal(size=shape)
    left, _, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    adata = ad.AnnData(left @ right)
    method(adata, graphs="genes")
    assert not adata.varp[f"{method.__name__}_connectivities"].nnz


@pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm], ids=lambda f: f.__name__)
@pytest.mark.parametrize("arguments", [{}, {"weights": "partial_correlation"}], ids=str)
def test_umap_leaves_the_graph_alone(method, arguments, counts):
    """It sets weights that it cannot see to 0 where they stand: clusters before and after would differ."""
    adata = annotated(counts)
    method(adata, **arguments)
    key = method.__name__
    before = snapshot(adata.obsp[f"{key}_connectivities"])
    sc.tl.umap(adata, neighbors_key=key, init_pos="random")
    assert snapshot(adata.obsp[f"{key}_connectivities"]) == before


@pytest.mark.parametrize("penalty", ["shrinkage", "ridge"])
def test_constant_genes_have_no_edge(penalty, counts):
    adata = annotated(np.column_stack([np.log1p(counts), np.full(N, 3.0), np.full(N, 7.1)]))
    with pytest.warns(UserWarning, match=r"^2 features \(gene120, gene121\) did not vary .* have no edge\.$"):
        kx.tl.gmgm(adata, penalty=penalty)
    edges = np.diff(adata.varp["gmgm_connectivities"].indptr)
    assert not edges[-2:].any() and edges[:-2].all()
    kx.tl.gene_modules(adata, neighbors_key="gmgm", n_runs=1)
    assert adata.var["gene_module"].isna().tolist() == [False] * P + [True] * 2


@pytest.mark.parametrize("shape", [(100, 250), (300, 100)])
def test_few_genes_that_vary_are_enough(shape, rng):
    """Of all others, which are alike, only what the scales of the cells leave is seen: no rounding."""
    x = np.full(shape, 5.0)
    x[:, :3] = rng.poisson(3, (len(x), 3))
    adata = annotated(x)
    with pytest.warns(UserWarning, match="no edge"):
        kx.tl.med_magma(adata, graphs="genes", n_neighbors=None)
    alike = adata.varp["med_magma_precision"].toarray()[3:, 3:]
    np.testing.assert_allclose(alike, np.diag(alike.diagonal()), atol=1e-6)


def test_a_cell_that_is_the_mean_has_no_partial_correlations(counts):
    x = np.log1p(counts)
    x[5] = np.delete(x, 5, 0).mean(0)
    adata = annotated(x)
    with pytest.warns(UserWarning, match=r"^1 cell \(cell5\) did not vary"):
        kx.tl.gmgm(adata, weights="partial_correlation")
    assert not adata.obsp["gmgm_connectivities"][5].nnz


@pytest.mark.parametrize("key", ["neighbors", "mine"])
def test_ingest_says_what_to_do(key, counts):
    """It takes for granted that every cell has as many neighbours, and that new cells have coordinates."""
    adata = annotated(counts)
    kx.tl.med_magma(adata, key_added=key)
    sc.tl.umap(adata, neighbors_key=key, maxiter=11, init_pos="random")
    with pytest.raises(NotImplementedError, match="cannot use a graph of kronax.*`neighbors_key='for_ingest'`"):
        sc.tl.ingest(annotated(counts[:20]), adata, neighbors_key=key, embedding_method="umap")
    distances = adata.obsp["distances" if key == "neighbors" else f"{key}_distances"]
    assert (distances.copy().tolil() != distances).nnz == 0


def test_settings_of_the_session_do_not_matter(counts, result):
    with (
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
        jax.debug_infs(True),
        jax.transfer_guard("disallow_explicit"),
        jax.set_mesh(jax.make_mesh((1,), ("x",))),
        np.errstate(all="raise"),
    ):
        assert_same_graphs(solved(counts), result, 1e-12)
        adata = solved(counts, max_iter=2, n_comps=2, tol=1.0)
        kx.tl.gmgm(adata)
        kx.pp.quotient(adata)


@pytest.mark.parametrize("key", ["mine", "neighbors"])
def test_nothing_of_an_earlier_result_stays(key, counts):
    fresh = annotated(counts)
    kx.tl.gmgm(fresh, key_added=key)
    adata = annotated(counts)
    kx.tl.med_magma(adata, key_added=key, n_neighbors=None)
    kx.tl.gmgm(adata, key_added=key)
    assert snapshot(adata) == snapshot(fresh)


def test_what_is_not_of_kronax_stays(counts):
    adata = annotated(counts)
    adata.uns["med_magma"] = {"params": {"method": "mine"}}
    adata.obs["med_magma_log_scale"] = adata.obs["other"] = 1.0
    kx.tl.gmgm(adata, key_added="med_magma")
    assert list(adata.obs) == ["med_magma_log_scale", "other"]


EMPTY_CELLS, EMPTY_GENES = [3, 10, 11, 149], [0]


def emptied(counts) -> np.ndarray:
    x = counts.copy()
    x[EMPTY_CELLS], x[:, EMPTY_GENES] = 0, 0
    return x


def test_empty_cells_and_genes(counts):
    x, empty_cells, empty_genes = emptied(counts), EMPTY_CELLS, EMPTY_GENES
    adata = annotated(sparse.csr_matrix(x))
    expected = r"4 of 150 cells \(cell3, cell10, cell11, …\); 1 of 120 genes \(gene0\)"
    with pytest.warns(UserWarning, match=expected):
        kx.tl.med_magma(adata)
    assert_sound(adata, empty_cells, empty_genes)
    cells, genes = np.delete(np.arange(N), empty_cells), np.delete(np.arange(P), empty_genes)
    alone = solved(x[cells][:, genes])
    for name, matrix in graphs(adata).items():
        kept, empty = (cells, empty_cells) if name.startswith("obsp") else (genes, empty_genes)
        np.testing.assert_allclose(matrix[kept][:, kept].toarray(), graphs(alone)[name].toarray(), rtol=1e-12)
        assert matrix[empty].nnz == matrix[:, empty].nnz == 0
    np.testing.assert_array_equal(np.flatnonzero(adata.obs["med_magma_log_scale"].isna()), empty_cells)
    np.testing.assert_array_equal(np.flatnonzero(adata.var["med_magma_log_scale"].isna()), empty_genes)
    assert (adata.obsm["X_med_magma"][empty_cells] == 0).all() and (adata.varm["med_magma"][empty_genes] == 0).all()
    leiden(adata)  # isolated vertices are clusters of their own
    counted = adata.obs["leiden"].value_counts()
    assert (counted[adata.obs["leiden"].iloc[empty_cells]] == 1).all()


# What goes out


def assert_sound(adata: ad.AnnData, empty_cells=(), empty_genes=(), key: str = "med_magma"):
    """The contract with scanpy, and what the docstring promises about shapes and signs."""
    for pairs, size, empty in ((adata.obsp, adata.n_obs, empty_cells), (adata.varp, adata.n_vars, empty_genes)):
        connectivities, distances, precision = (pairs[f"{key}_{name}"] for name in GRAPHS)
        for matrix in (connectivities, distances, precision):
            assert isinstance(matrix, sparse.csr_matrix) and matrix.dtype == np.float64
            assert matrix.shape == (size, size)
            assert np.isfinite(matrix.data).all()
            assert (matrix.data != 0).all()
            assert (matrix != matrix.T).nnz == 0
            assert all((np.diff(row) > 0).all() for row in np.split(matrix.indices, matrix.indptr[1:-1]))
        for matrix in (connectivities, distances):
            assert (matrix.data > 0).all() and (matrix.diagonal() == 0).all()
        assert (connectivities.data <= 1).all()
        np.testing.assert_array_equal(connectivities.indptr, distances.indptr)
        np.testing.assert_array_equal(connectivities.indices, distances.indices)
        present = np.ones(size)
        present[list(empty)] = 0
        pattern = (connectivities != 0).toarray() | np.diag(present).astype(bool)
        np.testing.assert_array_equal(precision.toarray() != 0, pattern)
    for test in (adata.varp[f"{key}_{name}"] for name in TESTS):
        assert isinstance(test, sparse.csr_matrix) and test.dtype == np.float64
        assert (test.data > 0).all() and (test.data <= 1).all() and (test != test.T).nnz == 0
        np.testing.assert_array_equal(test.indptr, adata.varp[f"{key}_connectivities"].indptr)
        np.testing.assert_array_equal(test.indices, adata.varp[f"{key}_connectivities"].indices)
    assert adata.obsm[f"X_{key}"].dtype == adata.varm[key].dtype == np.float64
    for scale in (adata.obs[f"{key}_log_scale"], adata.var[f"{key}_log_scale"]):
        assert scale.dtype == np.float64
    assert abs(adata.var[f"{key}_log_scale"].mean()) < 1e-9  # NaN left out


def of_genes(fit: em.Fit) -> np.ndarray:
    """The precision of the genes without what unknown scales leave in it."""
    return dense(Partial(without_scale_errors(fit.cols.precision.inverse, fit.margins.mean, fit.spectrum.units)))


def test_what_is_written(counts):
    adata = solved(sparse.csr_matrix(counts))
    assert_sound(adata)
    fit = em.fit(sparse.csr_array(counts))
    assert set(adata.obsp) == {f"med_magma_{name}" for name in GRAPHS}
    assert set(adata.varp) == {f"med_magma_{name}" for name in GRAPHS + TESTS}
    np.testing.assert_array_equal(adata.obsm["X_med_magma"], fit.rows.embedding)
    np.testing.assert_array_equal(adata.varm["med_magma"], fit.cols.embedding)
    np.testing.assert_array_equal(adata.obs["med_magma_log_scale"], fit.log_rows)
    np.testing.assert_array_equal(adata.var["med_magma_log_scale"], fit.log_cols)
    for pairs, full in ((adata.obsp, dense(fit.rows.precision)), (adata.varp, of_genes(fit))):
        precision = pairs["med_magma_precision"].toarray()
        np.testing.assert_allclose(precision, np.where(precision != 0, full, 0), rtol=1e-9, atol=1e-12)
    # every cell and gene has at least its own neighbours, as far as their affinities are positive
    assert (np.diff(adata.obsp["med_magma_connectivities"].indptr) >= 15).all()
    assert (np.diff(adata.varp["med_magma_connectivities"].indptr) >= 1).all()

    psi, phi = dense(fit.rows.precision), of_genes(fit)
    shifted = phi + np.diag(psi).mean() * np.eye(P)
    rho = -shifted / np.sqrt(np.outer(np.diag(shifted), np.diag(shifted)))
    genes = adata.varp["med_magma_connectivities"]
    pairs = genes.nonzero()
    np.testing.assert_allclose(genes.data, rho[pairs], rtol=1e-8)
    np.testing.assert_allclose(adata.varp["med_magma_distances"].data, np.sqrt(2 - 2 * rho[pairs]), rtol=1e-8)
    assert (adata.varp["med_magma_precision"][pairs] < 0).all()

    uns = adata.uns["med_magma"]
    assert {name: uns[f"{name}_key"] for name in GRAPHS + TESTS} == {
        name: f"med_magma_{name}" for name in GRAPHS + TESTS
    }
    assert uns["params"] == {
        "method": "med_magma",
        "n_neighbors": 15,
        "metric": "cosine",
        "random_state": 0,
        "use_rep": "X_med_magma",
        "cell_precision": "auto",
        "graphs": "both",
        "weights": "affinity",
        "recall": 0.95,
        "joint": False,
        "laplace": False,
        "penalty": "shrinkage",
        "center": True,
        "n_comps": 50,
        "max_iter": 1,
        "tol": 1e-3,
    }
    assert (uns["converged"], uns["n_iter"], uns["version"]) == (True, 1, kx.__version__)
    found = {"rank": fit.rank, "noise": fit.noise, **dataclasses.asdict(fit.tails)}
    assert {name: uns[name] for name in found} == found
    assert uns["reason"] == fit.status.reason
    np.testing.assert_allclose(uns["objective"], fit.status.objective, rtol=1e-12)


def test_parameters_reach_the_solver(counts):
    adata = annotated(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        kx.tl.med_magma(
            adata, n_neighbors=np.int64(7), power=0.6, center=False, n_comps=2, max_iter=2, tol=1e-9, random_state=3
        )
    fit = em.fit(sparse.csr_array(counts), power=0.6, center=False, n_comps=2, max_iter=2, tol=1e-9)
    np.testing.assert_array_equal(adata.obsm["X_med_magma"], fit.rows.embedding)
    uns = adata.uns["med_magma"]
    assert (uns["power"], uns["n_iter"], len(uns["objective"])) == (0.6, 2, 2)
    params = {name: uns["params"][name] for name in ("n_neighbors", "center", "n_comps", "max_iter", "tol")}
    assert params == {"n_neighbors": 7, "center": False, "n_comps": 2, "max_iter": 2, "tol": 1e-9}
    assert uns["params"]["random_state"] == 3
    full = dense(fit.rows.precision)
    precision = adata.obsp["med_magma_precision"].toarray()
    np.testing.assert_allclose(precision, np.where(precision != 0, full, 0), rtol=1e-9, atol=1e-12)
    edges = np.diff(adata.obsp["med_magma_connectivities"].indptr)
    assert (edges >= 7).all() and edges.mean() < 14


def test_only_what_files_can_hold(result):
    def check(value):
        if isinstance(value, dict):
            assert all(type(key) is str and "/" not in key for key in value)
            for part in value.values():
                check(part)
        elif isinstance(value, np.ndarray):
            assert value.dtype.kind in "biufU"
        else:
            assert value is None or type(value) in (str, bool, int, float)

    check(result.uns["med_magma"])


@pytest.mark.parametrize("fmt", ["h5ad", "zarr"])
def test_survives_a_file(fmt, result, tmp_path):
    path = tmp_path / f"result.{fmt}"
    if fmt == "h5ad":
        result.write_h5ad(path)
        back = ad.read_h5ad(path)
    else:
        result.write_zarr(path)
        back = ad.read_zarr(path)
    for name, matrix in graphs(result).items():
        assert snapshot(graphs(back)[name]) == snapshot(matrix)
    for part, key in (("obsm", "X_med_magma"), ("varm", "med_magma")):
        np.testing.assert_array_equal(getattr(back, part)[key], getattr(result, part)[key])
    for part in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(back, part), getattr(result, part))

    def assert_equal(found, expected):
        if isinstance(expected, dict):
            assert set(found) == set(expected)
            for key in expected:
                assert_equal(found[key], expected[key])
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
        else:
            assert found == expected and (found is None) == (expected is None)

    assert_equal(back.uns["med_magma"], result.uns["med_magma"])
    np.testing.assert_array_equal(leiden(back), leiden(result))


@pytest.fixture
def related(rng):
    """Counts in which every twentieth gene follows the one before it, or runs against it."""
    x = rng.poisson(rng.lognormal(0.5, 0.3, (300, 1)) * rng.lognormal(0.5, 0.3, 200)).astype(float)
    factor = rng.lognormal(0, 0.5, (300, 10))
    x[:, 19::20] = rng.poisson(5 * factor)
    x[:, 18::20] = rng.poisson(5 * np.where(np.arange(10) < 5, factor, 1 / factor))
    return x


def test_significant_edges(related):
    """Those among all pairs, of both signs, with the values that the complete graph has there."""
    every, found = (
        kx.tl.med_magma(annotated(related), copy=True, graphs="genes", **options)
        for options in ({"n_neighbors": None}, {"q_max": 0.1})
    )
    q_values = every.varp["med_magma_q_value"].toarray()
    pattern = (q_values <= 0.1) & ~np.eye(200, dtype=bool)
    true = np.zeros((200, 200), dtype=bool)
    true[np.arange(18, 200, 20), np.arange(19, 200, 20)] = True
    true |= true.T
    assert (pattern & true).sum() >= 18 and (pattern & ~true).sum() <= 4
    for name in ("p_value", "q_value"):
        values, expected = (some.varp[f"med_magma_{name}"].toarray() for some in (found, every))
        np.testing.assert_allclose(values[pattern], expected[pattern], rtol=1e-6)
        np.testing.assert_array_equal((values != 0) & ~np.eye(200, dtype=bool), pattern)
    precision, weights = (found.varp[f"med_magma_{name}"].toarray() for name in ("precision", "connectivities"))
    assert (precision[pattern] > 0).any()  # a negative partial correlation
    np.testing.assert_array_equal(weights > 0, pattern & (precision < 0))
    alone = (~pattern.any(axis=1)).sum()
    assert alone > 100 and (np.diff(found.varp["med_magma_connectivities"].indptr) == 0).sum() >= alone
    assert found.uns["med_magma"]["params"]["q_max"] == 0.1
    both = kx.tl.med_magma(annotated(related), copy=True, graphs="genes", q_max=0.1, weights="absolute")
    np.testing.assert_array_equal(both.varp["med_magma_connectivities"].toarray() > 0, pattern)


def test_significant_edges_have_the_precision_of_the_complete_graph():
    adata = kx.datasets.kronecker_sum(300, 100, signs="positive", random_state=0)
    every, found = (
        kx.tl.med_magma(adata, copy=True, graphs="genes", **options).varp["med_magma_precision"].toarray()
        for options in ({"n_neighbors": None}, {"q_max": 0.1})
    )
    assert np.count_nonzero(np.triu(found, k=1)) > 50
    np.testing.assert_allclose(found[found != 0], every[found != 0], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*show no structure", "ignore:.*are negative")
@pytest.mark.parametrize("few", [10, 2048])
@pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm])
def test_every_graph_has_the_test_of_another_estimate(method, few, rng, monkeypatch):
    """Two pairs among independent genes of few cells: a ridge is tested, and is what significant edges have."""
    monkeypatch.setattr(precision, "_FEW", few)
    x = rng.normal(size=(60, 200))
    x[:, 1], x[:, 3] = x[:, 0] + 0.4 * x[:, 1], 0.4 * x[:, 3] - x[:, 2]
    adata = ad.AnnData(x)
    name = method.__name__
    every, near, found = (
        method(adata, graphs="genes", copy=True, **options).varp
        for options in ({"n_neighbors": None}, {}, {"q_max": 0.2})
    )
    p_values, q_values = (every[f"{name}_{kind}_value"].toarray() for kind in "pq")
    here = near[f"{name}_p_value"].toarray()
    np.testing.assert_allclose(here[here > 0], p_values[here > 0], rtol=1e-6)
    pattern = (q_values <= 0.2) & ~np.eye(200, dtype=bool)
    assert pattern[0, 1] and pattern[2, 3] and pattern.sum() < 10
    entries = found[f"{name}_precision"].toarray()
    np.testing.assert_array_equal((entries != 0) & ~np.eye(200, dtype=bool), pattern)
    assert entries[0, 1] < 0 < entries[2, 3]
    assert found[f"{name}_connectivities"][0, 1] == pytest.approx(-entries[0, 1])
    assert not np.allclose(entries[pattern], every[f"{name}_precision"].toarray()[pattern], rtol=0.1)
    assert found[f"{name}_q_value"].max() <= 0.2


def test_p_values_do_not_change_with_scales(related, rng):
    scaled = related * rng.lognormal(0, 1, (300, 1)) * rng.lognormal(0, 1, 200)
    one, other = (
        kx.tl.med_magma(annotated(x), copy=True, graphs="genes", n_neighbors=None, power=0.5).varp["med_magma_p_value"]
        for x in (related, scaled)
    )
    np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*show no structure", "ignore:The graph of the cells has no edge")
def test_no_significant_edge_is_told(rng):
    with pytest.warns(UserWarning, match="genes has no edge with a positive partial correlation and q ≤ 0.01"):
        kx.tl.med_magma(annotated(rng.poisson(10.0, (300, 60)).astype(float)), q_max=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q_max": 0.0}, "`q_max` must be a positive number of at most 0.3, found 0.0"),
        ({"q_max": 0.5}, "at most 0.3"),
        ({"q_max": 0.1, "graphs": "cells"}, "graphs='cells'"),
        ({"q_max": 0.1, "penalty": "l1"}, "penalty='l1'"),
    ],
)
def test_edges_that_cannot_be_tested_are_refused(counts, arguments, message):
    adata = annotated(counts)
    with pytest.raises(ValueError, match=message):
        kx.tl.med_magma(adata, **arguments)
    assert not adata.uns


def test_everything_else_stays(counts):
    for x in (counts, sparse.csr_matrix(counts), sparse.csc_matrix(counts.astype(np.float32))):
        adata = furnished(x)
        before = snapshot(adata)
        kx.tl.med_magma(adata, key_added="graph")
        after = snapshot(adata)
        new = {
            "obsp": {f"graph_{name}" for name in GRAPHS},
            "varp": {f"graph_{name}" for name in GRAPHS + TESTS},
            "obsm": {"X_graph"},
            "varm": {"graph"},
            "uns": {"graph"},
        }
        for part, keys in new.items():
            assert set(after[part]) - set(before[part]) == keys
            assert {key: after[part][key] for key in before[part]} == before[part]
        for part in ("obs", "var"):
            assert after[part][0] == before[part][0]
            assert after[part][1].pop("graph_log_scale")
        assert after["var"][1].pop("graph_n_tested")
        for part in ("X", "layers", "raw", "obs", "var"):
            assert after[part] == before[part]
        assert_sound(adata, key="graph")


def test_copy(counts, result):
    adata = furnished(counts)
    before = snapshot(adata)
    found = kx.tl.med_magma(adata, copy=True)
    assert snapshot(adata) == before
    assert_same_graphs(found, result, 1e-12)
    assert snapshot(found)["raw"] == before["raw"]
    found.X[:] = 0
    assert snapshot(adata) == before


def test_second_run_replaces_the_first(counts, result):
    adata = solved(counts, n_neighbors=5)
    kx.tl.med_magma(adata)
    assert_same_graphs(adata, result, 1e-12)
    assert list(adata.obs) == ["med_magma_log_scale"]


def test_all_neighbours(counts):
    adata = solved(counts, n_neighbors=None)
    fit = em.fit(sparse.csr_array(counts))
    for pairs, full in ((adata.obsp, dense(fit.rows.precision)), (adata.varp, of_genes(fit))):
        np.testing.assert_allclose(pairs["med_magma_precision"].toarray(), full, rtol=1e-12, atol=1e-15)
    weights = affinity_graph(fit.rows.embedding, N - 1).connectivities.toarray()
    seen = np.where(weights < weights.max() / 500, 0.0, weights)  # by UMAP
    np.testing.assert_allclose(adata.obsp["med_magma_connectivities"].toarray(), seen, atol=1e-12)
    signed = adata.varp["med_magma_precision"].toarray()
    np.fill_diagonal(signed, 0)
    np.testing.assert_array_equal(adata.varp["med_magma_connectivities"].toarray() > 0, signed < 0)
    assert adata.uns["med_magma"]["params"]["n_neighbors"] == N - 1


@pytest.mark.parametrize("arguments", [{"penalty": "ridge"}, {"joint": True}, {"laplace": True}], ids=str)
def test_precisions_are_not_what_makes_cells_neighbours(arguments, counts, result):
    adata = solved(counts, **arguments)
    for kind in ("connectivities", "distances"):
        np.testing.assert_allclose(
            adata.obsp[f"med_magma_{kind}"].toarray(), result.obsp[f"med_magma_{kind}"].toarray(), atol=1e-12
        )
        assert np.abs(adata.varp[f"med_magma_{kind}"] - result.varp[f"med_magma_{kind}"]).max() > 1e-6


def test_a_ridge_is_joint_in_any_case(counts):
    one, other = (solved(counts, penalty="ridge", joint=joint) for joint in (False, True))
    assert_same_graphs(one, other, 1e-12)


def test_fewer_genes_than_neighbours(counts):
    x = counts[:, :8]
    x = x[x.any(1)]
    adata = solved(x)
    assert_sound(adata)
    off_diagonal = of_genes(em.fit(sparse.csr_array(x))) * (1 - np.eye(8))
    np.testing.assert_array_equal(adata.varp["med_magma_connectivities"].toarray() > 0, off_diagonal < 0)
    assert adata.uns["med_magma"]["params"]["n_neighbors"] == 15


def test_smallest_matrix(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        adata = solved(rng.gamma(1.0, 1.0, (2, 2)), n_neighbors=None)
    for matrix in graphs(adata).values():
        assert np.isfinite(matrix.data).all()


# What scanpy reads


def test_leiden_of_both_flavours(result):
    leiden(result)
    assert result.obs["leiden"].nunique() >= 3
    assert result.uns["leiden"]["params"]["resolution"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        sc.tl.leiden(result, neighbors_key="med_magma", flavor="leidenalg", key_added="old")
    assert adjusted_mutual_info_score(result.obs["leiden"], result.obs["old"]) > 0.5


def test_scanpy_after_it(result, tmp_path):
    before = {name: matrix.copy() for name, matrix in result.obsp.items()}
    leiden(result)  # finer than the types: paga needs an edge between two clusters
    sc.tl.umap(result, neighbors_key="med_magma")
    assert result.obsm["X_umap"].shape == (N, 2) and np.isfinite(result.obsm["X_umap"]).all()
    assert "X_pca" not in result.obsm
    sc.tl.paga(result, groups="leiden", neighbors_key="med_magma")
    n_groups = result.obs["leiden"].nunique()
    assert result.uns["paga"]["connectivities"].shape == (n_groups, n_groups)
    sc.tl.diffmap(result, n_comps=5, neighbors_key="med_magma")
    assert np.isfinite(result.obsm["X_diffmap"]).all()
    sc.tl.draw_graph(result, layout="fr", neighbors_key="med_magma")
    assert np.isfinite(result.obsm["X_draw_graph_fr"]).all()
    axes = sc.pl.umap(result, color="leiden", edges=True, show=False, neighbors_key="med_magma")
    axes.figure.savefig(tmp_path / "umap.png")
    for name in ("distances", "precision"):
        assert snapshot(result.obsp[f"med_magma_{name}"]) == snapshot(before[f"med_magma_{name}"])
    # umap itself sets negligible weights to 0 in place, in any graph; how small depends on its version
    weights, after = before["med_magma_connectivities"], result.obsp["med_magma_connectivities"]
    np.testing.assert_array_equal(after.indices, weights.indices)
    changed = after.data != weights.data
    assert (after.data[changed] == 0).all()
    assert (weights.data[changed] < weights.data.max() / 100).all()
    assert "neighbors" not in result.uns


def test_umap_keeps_the_types_apart(rng):
    counts, types = simulate(rng)
    adata = solved(counts)
    sc.tl.umap(adata, neighbors_key="med_magma")
    xy = adata.obsm["X_umap"]
    nearest = np.argsort(np.linalg.norm(xy[:, None] - xy, axis=2), axis=1)[:, 1]
    assert (types[nearest] == types).mean() > 0.98


# What goes wrong


def refused(adata, error, words, **arguments):
    """Assert that a call raises, in these words, and writes nothing."""
    before = snapshot(adata)
    with pytest.raises(error, match=words):
        kx.tl.med_magma(adata, **arguments)
    assert snapshot(adata) == before


def spoilt(value: float):
    def spoil(x):
        x = x.copy()
        x[4, 7] = value
        return x

    return spoil


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        pytest.param(spoilt(np.nan), ValueError, "1 NaN or infinite", id="NaN"),
        pytest.param(spoilt(np.inf), ValueError, "1 NaN or infinite", id="inf"),
        pytest.param(spoilt(-np.inf), ValueError, "1 NaN or infinite", id="-inf"),
        pytest.param(lambda x: sparse.csr_matrix(spoilt(np.nan)(x)), ValueError, "NaN or infinite", id="sparse NaN"),
        pytest.param(lambda x: x[:0], ValueError, "0 cells", id="no cell"),
        pytest.param(lambda x: x[:1], ValueError, "has 1 cell and", id="one cell"),
        pytest.param(lambda x: x[:, :0], ValueError, "0 genes", id="no gene"),
        pytest.param(lambda x: x[:, :1], ValueError, "1 gene;", id="one gene"),
        pytest.param(np.zeros_like, ValueError, "non-zero values in 0 of 150 cells", id="zeros"),
        pytest.param(lambda x: sparse.csr_matrix(x.shape), ValueError, "non-zero values in 0 of", id="sparse zeros"),
        pytest.param(lambda x: x * (np.arange(P) == 3), ValueError, "1 of 120 genes", id="one gene left"),
        pytest.param(lambda x: x * 1j, TypeError, "complex128", id="complex"),
        pytest.param(lambda x: x.astype(str), TypeError, "dtype <U", id="strings"),
        pytest.param(lambda x: x.astype(object), TypeError, "dtype object", id="objects"),
    ],
)
def test_unfit_matrices(spoil, error, words, counts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = furnished(spoil(counts))
    refused(adata, error, words)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        *(
            ({"n_neighbors": value}, ValueError, "`n_neighbors` must be an integer")
            for value in (0, 1, -3, N, 1.5, 15.0, "15", True, np.nan, [15])
        ),
        *(({"n_comps": value}, ValueError, "`n_comps` must be an integer") for value in (1, 2.5, None, True)),
        *(({"max_iter": value}, ValueError, "`max_iter` must be an integer") for value in (0, -1, 1.0, None)),
        *(({"tol": value}, ValueError, "`tol` must be a positive") for value in (0, -1e-3, np.nan, np.inf, "1e-3")),
        *(({"power": value}, ValueError, "`power` must be a positive") for value in (0, -1.0, np.nan, np.inf, "auto")),
        ({"penalty": "lasso"}, ValueError, "`penalty` must be one of .*'shrinkage'.*found 'lasso'"),
        ({"penalty": None}, ValueError, "`penalty` must be one of"),
        ({"layer": "spliced"}, KeyError, "'spliced' not found in `adata.layers`. Available keys: .'double'.*"),
    ],
)
def test_unfit_arguments(arguments, error, words, counts):
    refused(furnished(counts), error, words, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"key_added": "a/b"}, {"key_added": 5}, {"random_state": np.random.RandomState(0)}]
)
def test_arguments_that_no_file_can_hold(arguments, counts):
    """Better now than when the object is to be saved."""
    refused(furnished(counts), (TypeError, ValueError), f"`{next(iter(arguments))}`", **arguments)


def test_neighbours_are_bounded_by_the_cells_with_values(counts):
    counts[100:] = 0
    adata = furnished(counts)
    refused(adata, ValueError, r"from 2 to 99 \(100 cells have non-zero values\), found 100", n_neighbors=100)
    counts[2:] = 0
    refused(
        furnished(counts),
        ValueError,
        "At least 3 cells with non-zero values are needed .*, found 2. `n_neighbors=None`",
    )


def test_no_matrix(counts):
    adata = furnished(counts)
    adata.X = None
    refused(adata, ValueError, r"`adata.X` is None.*available: \['double'\]")


@pytest.mark.parametrize("found", [np.ones((4, 4)), pd.DataFrame(np.ones((4, 4))), None, "data.h5ad"])
def test_no_anndata(found):
    with pytest.raises(TypeError, match=f"Expected an AnnData or MuData object, found .*{type(found).__qualname__}"):
        kx.tl.med_magma(found)


def test_backed(counts, result, tmp_path):
    """The matrix is read from the file, which stays as it is."""
    path = tmp_path / "counts.h5ad"
    annotated(sparse.csr_matrix(counts)).write_h5ad(path)
    stored = path.read_bytes()
    backed = ad.read_h5ad(path, backed="r+")
    kx.tl.med_magma(backed)
    np.testing.assert_allclose(backed.obsm["X_med_magma"], result.obsm["X_med_magma"], atol=1e-6)
    backed.file.close()
    assert path.read_bytes() == stored


def test_backed_in_memory_again(counts, result, tmp_path):
    annotated(sparse.csr_matrix(counts)).write_h5ad(tmp_path / "counts.h5ad")
    adata = ad.read_h5ad(tmp_path / "counts.h5ad", backed="r").to_memory()
    kx.tl.med_magma(adata)
    assert_same_graphs(adata, result, 1e-12)


def test_zarr_array(counts):
    zarr = pytest.importorskip("zarr")
    adata = annotated(zarr.array(counts))
    assert not isinstance(adata.X, np.ndarray)
    with pytest.raises(TypeError, match=r"`adata.X` is a zarr.*not in memory. Run `adata = adata.to_memory\(\)` first"):
        kx.tl.med_magma(adata)
    assert not adata.uns and not adata.obsp


def test_memory(counts, monkeypatch):
    monkeypatch.setattr(objects, "_free_bytes", lambda: 2.0**20)
    refused(furnished(counts), MemoryError, r"About \d+\.\d GiB are needed.*sc\.pp\.highly_variable_genes")
    refused(furnished(counts), MemoryError, "a number for `n_neighbors`", n_neighbors=None)


@pytest.mark.parametrize("x64", [False, True])
def test_interrupt(x64, counts):
    """Wherever a solver is when it comes."""
    adata = furnished(sparse.csr_matrix(counts))
    before, n_calls, stop_at = snapshot(adata), 0, np.inf

    def watch(frame, event, _):
        nonlocal n_calls
        if event == "call" and "/kronax/solvers/" in frame.f_code.co_filename:
            n_calls += 1
            if n_calls >= stop_at:
                raise KeyboardInterrupt

    def learn():
        sys.setprofile(watch)
        try:
            kx.tl.med_magma(adata, max_iter=2, n_comps=2, copy=True)
        finally:
            sys.setprofile(None)

    with jax.enable_x64(x64), warnings.catch_warnings(action="ignore"):
        learn()  # compiles, with more calls than later on
        n_calls = 0
        learn()
        assert n_calls > 100
        for place in np.linspace(1, n_calls, 12).astype(int):
            n_calls, stop_at = 0, place
            with pytest.raises(KeyboardInterrupt):
                learn()
            assert jax.config.jax_enable_x64 == x64
            assert snapshot(adata) == before


def test_interrupt_while_writing(counts, rng):
    """An earlier result, and what is the user's own under the same names, are there as before."""
    adata = furnished(counts)
    kx.tl.med_magma(adata)
    adata.obsm["X_med_magma"] = rng.normal(size=(N, 3))
    before, n_calls, stop_at = snapshot(adata), 0, None

    def watch(frame, event, _):
        nonlocal n_calls
        code = frame.f_code
        # not within generators, which may be ended by the garbage collector; it ignores what is raised then
        within = event == "call" and "/kronax/" in code.co_filename and not code.co_flags & inspect.CO_GENERATOR
        if within and (n_calls or code.co_name == "write"):
            n_calls += 1
            if n_calls == stop_at:
                raise KeyboardInterrupt

    def learn(data):
        sys.setprofile(watch)
        try:
            kx.tl.med_magma(data, n_comps=3)
        finally:
            sys.setprofile(None)

    learn(adata.copy())  # with more calls than later on
    n_calls = 0
    learn(whole := adata.copy())
    assert n_calls > 50
    ends = []
    for place in np.linspace(1, n_calls, 20).astype(int):
        n_calls, stop_at = 0, place
        with pytest.raises(KeyboardInterrupt):
            learn(data := adata.copy())
        ends.append([snapshot(data) == end for end in (before, snapshot(whole))])
    assert all(map(any, ends)) and all(left for left, _ in ends[:15])


@pytest.mark.parametrize("own", [True, False])
def test_a_warning_that_is_an_error(own, rng):
    """Of what is the user's own, before results are written, or of what they mean, afterwards."""
    adata = annotated(rng.poisson(3.0, (60, 50)) + 0.0)  # no structure
    if own:
        adata.obsm["X_med_magma"] = np.ones((60, 2))
    before = snapshot(adata)
    with warnings.catch_warnings(action="error", category=UserWarning):
        with pytest.raises(UserWarning, match="was your own" if own else "no structure"):
            kx.tl.med_magma(adata)
    assert snapshot(adata) == before


@pytest.mark.parametrize("what", ["embedding", "log_scale", "precision"])
@pytest.mark.parametrize("side", ["rows", "cols"])
def test_result_that_is_not_finite(side, what, counts):
    adata = furnished(counts)
    before, matrices = snapshot(adata), graph_in.read(adata, None)
    found = em.fit(matrices.counts[""].matrix)
    axis = getattr(found, side)
    if what == "precision":
        inverse = dataclasses.replace(axis.precision.inverse, base=np.nan)
        spoilt = {side: dataclasses.replace(axis, precision=Partial(inverse))}
    elif what == "embedding":
        spoilt = {side: dataclasses.replace(axis, embedding=np.where(np.arange(N)[:, None] == 5, np.inf, 0.0))}
    else:
        spoilt = {f"log_{side}": np.full(5, np.inf)}
    parts = {"": dataclasses.replace(found, **spoilt)}
    settings = {"graphs": "both", "weights": "affinity", "cell_precision": "auto", "layer": None}
    with pytest.raises(FloatingPointError, match="not finite; nothing was written"):
        graph_out.finish(
            adata, "any", matrices, parts, Penalty(), 15, settings, key_added="key", copy=False, progress=False
        )
    assert snapshot(adata) == before


def test_warns_where_it_did_not_converge(counts):
    adata = annotated(counts)
    with pytest.warns(UserWarning, match=r"did not converge: .*max_iter=2 steps; allow more") as caught:
        kx.tl.med_magma(adata, max_iter=2, n_comps=2, tol=1e-12)
    assert caught[0].filename == __file__
    assert adata.uns["med_magma"]["converged"] is False
    assert adata.uns["med_magma"]["reason"] in str(caught[0].message)


def test_warns_where_there_is_no_structure(counts, rng):
    adata = annotated(rng.normal(0.0, 1.0, (N, P)) * (counts > 0))
    with pytest.warns(UserWarning, match="^No direction rises above the noise: cells and genes show") as caught:
        kx.tl.gmgm(adata)
    assert caught[0].filename == __file__
    assert adata.uns["gmgm"]["rank"] == 0


def test_warns_of_two_blocks(counts):
    x = sparse.block_diag([counts[:60, :40] + 1, counts[60:120, 40:80] + 1]).toarray()
    with pytest.warns(UserWarning, match="form 2 blocks without a cell or gene in common"):
        kx.tl.med_magma(annotated(x))


def test_few_features_may_be_all_structure(rng):
    """One of four kinds in every cell: each feature is a direction of its own, and none is noise."""
    kind = np.arange(N) % 4
    adata = annotated(rng.poisson(20.0 * np.eye(4)[kind] + 1.0) + 1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*structure")
        kx.tl.med_magma(adata)
    assert adata.uns["med_magma"]["rank"] < 2


def test_warning_of_empty_cells_names_the_callers_line(counts):
    adata = annotated(emptied(counts))
    with pytest.warns(UserWarning, match="isolated") as caught:
        kx.tl.med_magma(adata)
    assert caught[0].filename == __file__


def test_no_warning_where_all_is_well(counts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # other packages'; kronax' own are errors in any test
        solved(counts)


# What the session notices


@pytest.mark.parametrize("x64", [False, True])
def test_x64_stays_as_it_was(x64, counts, result):
    with jax.enable_x64(x64):
        adata = solved(counts)
        assert jax.config.jax_enable_x64 == x64
        assert jax.numpy.ones(2).dtype == (np.float64 if x64 else np.float32)
    assert_same_graphs(adata, result, 1e-12)


def compilations(caplog, x, **arguments) -> list[str]:
    caplog.clear()
    with jax.log_compiles(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        solved(x, **arguments)
    return [record.getMessage() for record in caplog.records if "XLA compilation" in record.getMessage()]


def test_second_call_does_not_compile(rng, caplog):
    x = rng.poisson(3.0, (61, 37)) + 1.0  # a shape that no other test has
    scaled = rng.lognormal(0.0, 1.0, (61, 1)) * x
    assert compilations(caplog, x) == []  # one step of EM needs no compiler at all
    assert compilations(caplog, x, max_iter=2)
    assert compilations(caplog, scaled, max_iter=2) == []


@pytest.fixture
def log():
    """What kronax logs, collected by a handler of its own, the level put back at the end."""
    logger, records = logging.getLogger("kronax"), []
    handler = logging.Handler()
    handler.emit = records.append
    level = logger.level
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_logs_what_it_computes_and_in_which_cells_genes_are_looked_at(counts, log):
    solved(counts)
    line, advice = (record.getMessage() for record in log)
    assert "\n" not in line and "`groupby=`" in advice
    for part in ("med_magma", "150 cells × 120 genes", str(np.count_nonzero(counts)), "float64", str(jax.devices()[0])):
        assert part in line


def test_can_be_silenced(counts, log, capfd):
    logging.getLogger("kronax").setLevel("WARNING")
    solved(counts)
    assert log == []
    assert capfd.readouterr() == ("", "")


def test_progress_follows_the_logger_and_fills_no_file(counts, log, monkeypatch):
    """Standard error is no terminal in a test."""
    silent, plain = [], tqdm.__init__

    def noted(self, *iterable, disable=False, **others):
        silent.append(disable)
        plain(self, *iterable, disable=disable, **others)

    monkeypatch.setattr(tqdm, "__init__", noted)
    with warnings.catch_warnings(action="ignore"):
        for level in ("INFO", "DEBUG"):
            logging.getLogger("kronax").setLevel(level)
            solved(counts, max_iter=2)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        for level in ("INFO", "WARNING"):
            logging.getLogger("kronax").setLevel(level)
            solved(counts, max_iter=2)
        monkeypatch.setattr(sys, "stderr", None)
        logging.getLogger("kronax").setLevel("INFO")
        solved(counts, max_iter=2)
    assert silent == [True, False, False, True, True]


# Real cells


def best_ami(adata: ad.AnnData, **arguments) -> float:
    scores = []
    for resolution in np.linspace(0.1, 2.0, 20):
        sc.tl.leiden(
            adata, resolution, flavor="igraph", n_iterations=2, directed=False, key_added="cluster", **arguments
        )
        scores.append(adjusted_mutual_info_score(adata.obs["label"], adata.obs["cluster"]))
    return max(scores)


def test_rna_mixtures_are_told_apart_at_least_as_well_as_by_scanpy(shared_data):
    """Cells of seven RNA mixtures in four amounts: the noise is multiplicative by design."""
    adata = ad.read_h5ad(shared_data / "sc" / "rnamix_sortseq.h5ad")
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=2000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.pca(adata, n_comps=30)
    sc.pp.neighbors(adata)
    kx.tl.med_magma(adata, layer="counts")
    ours, theirs = best_ami(adata, neighbors_key="med_magma"), best_ami(adata)
    assert theirs > 0.8
    assert ours >= theirs


def test_cells_that_differ_in_scale_only(rng):
    rank_one = np.outer(rng.uniform(1, 9, 30), rng.uniform(1, 9, 20))
    refused(furnished(rank_one), ValueError, "Nothing varies")


@pytest.mark.parametrize("n_genes", [90, 200])
def test_twins_do_not_tie_all_other_cells(n_genes, rng):
    """Cells with the same counts add directions without any variance: not a reason to think that all cells are alike."""
    counts = rng.poisson(2 * np.exp(rng.normal(size=(3, n_genes)))[np.arange(60) % 3]).astype(float)
    alone, twins = ad.AnnData(counts.copy()), ad.AnnData(np.vstack([counts, counts[:6]]))
    for adata in (alone, twins):
        kx.tl.med_magma(adata, n_neighbors=None)
    off = ~np.eye(60, dtype=bool)
    expected, found = (adata.obsp["med_magma_precision"][:60, :60].toarray()[off] for adata in (alone, twins))
    assert np.corrcoef(expected, found)[0, 1] > 0.8
    assert np.median(np.abs(found)) < 2 * np.median(np.abs(expected))


def test_as_the_default_graph_of_scanpy(counts, result):
    """Under the key of scanpy's own graph scanpy finds ours, and not one that was there before."""
    adata = annotated(counts)
    sc.pp.neighbors(adata, use_rep="X")
    kx.tl.med_magma(adata, key_added="neighbors")
    assert (adata.obsp["connectivities"] != result.obsp["med_magma_connectivities"]).nnz == 0
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    np.testing.assert_array_equal(adata.obs["leiden"], leiden(result))
    sc.tl.umap(adata)
    kx.tl.gene_modules(adata, neighbors_key="neighbors")


def test_blocks_are_found():
    """Their edges are in the smallest eigenvalues, of which covariances say next to nothing."""
    adata = kx.datasets.kronecker_sum(120, 121, graph="block", noise=1.0)
    kx.tl.med_magma(adata, n_neighbors=None)
    z = adata.layers["latent"]
    for axis, covariance in (("obs", z @ z.T), ("var", z.T @ z)):
        truth = getattr(adata, f"{axis}p")["truth"]
        found = kx.metrics.edge_average_precision(getattr(adata, f"{axis}p")["med_magma_precision"], truth=truth)
        assert found > 3.0 * kx.metrics.edge_average_precision(covariance, truth=truth)
        assert found > 0.8


# The paper by name


@pytest.fixture(scope="module")
def paper(same_counts) -> ad.AnnData:
    return solved(same_counts[:40, :30], **kx.tl.MED_MAGMA_2026, n_neighbors=5)


def test_the_paper_by_name_converges_and_keeps_the_contract(paper):
    uns = paper.uns["med_magma"]
    assert uns["converged"] and 1 < uns["n_iter"] < uns["params"]["max_iter"]
    assert (np.diff(uns["objective"]) < 0).all()
    found = uns["params"]
    assert {name: found[name] for name in kx.tl.MED_MAGMA_2026} == dict(kx.tl.MED_MAGMA_2026)
    assert_sound(paper)


def test_the_paper_by_name_ranks_by_absolute_values(counts, paper):
    full = solved(counts[:40, :30], **kx.tl.MED_MAGMA_2026, n_neighbors=None)
    for part, whole in ((paper.obsp, full.obsp), (paper.varp, full.varp)):
        size = np.abs(whole["med_magma_precision"].toarray())
        np.fill_diagonal(size, 0.0)
        nearest = np.argsort(-size, axis=1)[:, :5]
        expected = np.zeros(size.shape, bool)
        np.put_along_axis(expected, nearest, True, axis=1)
        weights = part["med_magma_connectivities"].toarray()
        np.testing.assert_array_equal(weights > 0, expected | expected.T)
        on_edges = weights > 0
        ratio = weights[on_edges] / size[on_edges]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_the_paper_by_name_does_not_see_scales(counts, paper, rng):
    x = rng.lognormal(0.0, 1.5, (40, 1)) * counts[:40, :30] * rng.lognormal(0.0, 1.5, 30)
    assert_same_graphs(solved(x, **kx.tl.MED_MAGMA_2026, n_neighbors=5), paper)


def test_the_paper_by_name_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        kx.tl.MED_MAGMA_2026["strength"] = 1.0
    assert (kx.tl.MED_MAGMA_2026 | {"max_iter": 3})["max_iter"] == 3


@pytest.fixture(scope="module", params=["positive", "random"])
def trees(request) -> ad.AnnData:
    """The simulation of the paper, small, with edges of one sign or of both."""
    adata = kx.datasets.kronecker_sum(60, 61, signs=request.param, noise=1.0, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some values are negative
        kx.tl.med_magma(adata, **kx.tl.MED_MAGMA_2026, n_neighbors=None)
    return adata


def score(estimates, adata: ad.AnnData) -> float:
    """Average precision of both graphs, by absolute value."""
    truths = adata.obsp["truth"], adata.varp["truth"]
    pairs = zip(estimates, truths, strict=True)
    return float(np.mean([kx.metrics.edge_average_precision(found, truth=truth) for found, truth in pairs]))


def test_the_paper_by_name_finds_its_trees(trees):
    assert trees.uns["med_magma"]["converged"]
    estimates = trees.obsp["med_magma_precision"], trees.varp["med_magma_precision"]
    assert score(estimates, trees) > 0.35  # 0.03 by chance
    for found in estimates:
        upper = sparse.triu(found, k=1)
        assert (upper.data > 0).any() and (upper.data < 0).any()
        assert upper.nnz == found.shape[0] * (found.shape[0] - 1) / 2  # edges of both signs


def test_the_paper_by_name_against_its_package(trees):
    """Nearly the same off the diagonals; the package adds a constant, which pays where all edges have one sign."""
    package = pytest.importorskip("MED_MAGMA")
    ours = [part["med_magma_precision"].toarray() for part in (trees.obsp, trees.varp)]
    np.random.seed(0)  # the package draws its starting point from NumPy's global state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, changes = package.EM_algorithm(package.quotient(trees.X))
    if changes[-1] > 1e-3:  # which depends on the processor
        pytest.skip("the package does not converge here")
    theirs = [0.5 * (matrix + matrix.T) for matrix in theirs]
    assert trees.uns["med_magma"]["converged"]
    for one, other in zip(ours, theirs, strict=True):
        upper = np.triu_indices(len(one), 1)
        assert np.corrcoef(one[upper], other[upper])[0, 1] > 0.95
    behind = {"positive": 0.01, "random": -0.01}[trees.uns["kronecker_sum"]["params"]["signs"]]
    assert score(ours, trees) > score(theirs, trees) - behind


@pytest.mark.filterwarnings("ignore:.*are negative")
@pytest.mark.parametrize("shape", [(120, 60), (60, 120)])
@pytest.mark.parametrize("center", [True, False])
def test_units_of_features_do_not_matter(shape, center, rng):
    """Not even without scales: every feature has the same variance in the graph of the features."""
    x = rng.normal(size=(shape[0], 4)) @ rng.normal(size=(4, shape[1])) + rng.normal(size=shape) + 0.5
    x[:, 7] = 0.25  # does not vary
    one, other = (
        kx.tl.gmgm(ad.AnnData(values), graphs="genes", n_neighbors=None, center=center, copy=True)
        for values in (x, x * np.exp2(rng.integers(-20, 20, shape[1])))
    )
    for name in ("precision", "p_value", "q_value", "connectivities"):
        found, expected = (data.varp[f"gmgm_{name}"].toarray() for data in (other, one))
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(expected).max() > 0.05


def test_rare_genes_do_not_lead(rng):
    """Twenty related pairs of frequent genes beside 150 genes in a few cells each, of which some meet by chance."""
    rate = np.concatenate([np.ones(40), rng.uniform(0.3, 2.0, 110), rng.uniform(0.008, 0.02, 150)])
    logs = np.zeros((400, 300))
    logs[:, :40] = 0.7 * np.repeat(rng.normal(size=(400, 20)), 2, axis=1)
    x = rng.poisson(rate * np.exp(logs + 0.4 * rng.normal(size=(400, 1)))).astype(float)
    adata = annotated(x[:, (x > 0).sum(axis=0) > 2])
    kx.tl.med_magma(adata, graphs="genes")
    edges = kx.get.edges(adata, axis="genes").head(15)
    places = np.stack([adata.var_names.get_indexer(edges[end]) for end in ("source", "target")])
    assert ((places[0] // 2 == places[1] // 2) & (places < 40).all(axis=0)).sum() >= 12


@pytest.mark.filterwarnings("ignore:.*are negative", "ignore:.*did not vary", "ignore:.*show no structure")
@pytest.mark.parametrize("n", [200, 40])
def test_a_feature_of_a_huge_mean_hides_no_other(n, rng):
    """Each is compared with itself: one that does not vary may have all of the energy."""
    x = rng.normal(size=(n, 60))
    x[:, 2] = x[:, 1] + 0.3 * x[:, 2]
    huge, small = (ad.AnnData(np.column_stack([np.full(n, size), x])) for size in (3e7, 1.0))
    for data in (huge, small):
        kx.tl.gmgm(data, graphs="genes", n_neighbors=None)
    found, expected = (data.varp["gmgm_precision"].toarray() for data in (huge, small))
    assert not np.delete(found[0], 0).any() and found[2, 3] < 0
    np.testing.assert_allclose(found, expected, atol=1e-9)
