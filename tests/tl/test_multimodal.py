"""Several modalities with common cells: one cell graph, one feature graph each, wherever a cell is missing."""

import re

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import graph_in, graph_out
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.medmagma import em

N, GENES, PROTEINS = 120, 90, 20
METHODS = pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm])


def types() -> np.ndarray:
    return np.arange(N) % 4


def modality(rng, kinds: np.ndarray, p: int, prefix: str) -> ad.AnnData:
    """Poisson counts of kinds of cells, scaled at random."""
    profiles = rng.gamma(1.0, size=(kinds.max() + 1, p))
    mean = 3.0 * profiles[kinds] * rng.lognormal(0.0, 0.3, (N, 1))
    return ad.AnnData(
        sparse.csr_matrix(rng.poisson(mean).astype(np.float32)),
        pd.DataFrame(index=[f"cell{i}" for i in range(N)]),
        pd.DataFrame(index=[f"{prefix}{j}" for j in range(p)]),
    )


def simulate(rng) -> md.MuData:
    """Genes tell types 0 and 1 from 2 and 3, proteins even types from odd ones: neither knows all four."""
    return md.MuData(
        {"rna": modality(rng, types() // 2, GENES, "gene"), "adt": modality(rng, types() % 2, PROTEINS, "protein")}
    )


@pytest.fixture
def mdata(rng) -> md.MuData:
    return simulate(rng)


def test_negative_values_of_modalities_are_warned_of_once(mdata):
    for part in mdata.mod.values():
        part.layers["scaled"] = part.X.toarray() - part.X.toarray().mean(0)
    with pytest.warns(UserWarning) as caught:
        kx.tl.med_magma(mdata, layer={"rna": None, "adt": "scaled"})
        kx.tl.med_magma(mdata, layer="scaled")
    one, both = (str(warning.message) for warning in caught if "negative" in str(warning.message))
    rna, adt = (rf"[\d,]+ of [\d,]+ non-zero values of `mdata\['{name}'\].layers\['scaled'\]`" for name in mdata.mod)
    assert re.match(f"{adt} are negative. Values", one)
    assert re.match(f"{rna} and {adt} are negative. Values", both)


def clusters(data, key: str = "med_magma", resolution: float = 1.0) -> np.ndarray:
    sc.tl.leiden(
        data, resolution=resolution, neighbors_key=key, flavor="igraph", n_iterations=2, directed=False, random_state=0
    )
    return data.obs["leiden"].to_numpy()


@METHODS
def test_what_is_written(method, mdata):
    key = method.__name__
    assert method(mdata) is None
    for kind in ("connectivities", "distances", "precision"):
        assert mdata.obsp[f"{key}_{kind}"].shape == (N, N)
        assert mdata["rna"].varp[f"{key}_{kind}"].shape == (GENES, GENES)
        assert mdata["adt"].varp[f"{key}_{kind}"].shape == (PROTEINS, PROTEINS)
        assert not mdata["rna"].obsp and not mdata["adt"].obsp
    assert mdata.obsm[f"X_{key}"].shape[0] == N
    uns = mdata.uns[key]
    assert uns["params"]["method"] == key and uns["converged"] is True
    assert list(uns["modalities"]) == ["rna", "adt"]
    np.testing.assert_array_equal(uns["n_cells"], [N, N])
    scaled = "med_magma_log_scale" in mdata["rna"].obs
    assert scaled == (method is kx.tl.med_magma)
    for name in ("rna", "adt"):
        assert mdata[name].varm[key].shape[0] == mdata[name].n_vars
        assert mdata[name].uns[key]["rank"] >= 2


def test_modalities_tell_more_together(mdata):
    kx.tl.med_magma(mdata)
    found = [adjusted_mutual_info_score(types(), clusters(mdata))]
    for name in ("rna", "adt"):
        kx.tl.med_magma(mdata[name])
        found.append(adjusted_mutual_info_score(types(), clusters(mdata[name])))
    assert found[0] > 0.9 > 0.7 > max(found[1:])


def test_one_modality_is_an_anndata_object(mdata):
    alone = mdata["rna"].copy()
    kx.tl.med_magma(alone)
    single = md.MuData({"rna": mdata["rna"].copy()})
    kx.tl.med_magma(single)
    for kind in ("connectivities", "precision"):
        np.testing.assert_array_equal(
            single.obsp[f"med_magma_{kind}"].toarray(), alone.obsp[f"med_magma_{kind}"].toarray()
        )
        np.testing.assert_array_equal(
            single["rna"].varp[f"med_magma_{kind}"].toarray(), alone.varp[f"med_magma_{kind}"].toarray()
        )


def test_scales_of_every_modality_leave_the_graphs(mdata, rng):
    other = mdata.copy()
    for part in other.mod.values():
        r, c = rng.lognormal(0.0, 1.5, (N, 1)), rng.lognormal(0.0, 1.5, (1, part.n_vars))
        part.X = sparse.csr_matrix(part.X.toarray().astype(float) * r * c)
    kx.tl.med_magma(mdata)
    kx.tl.med_magma(other)
    for one, two in (
        (mdata.obsp, other.obsp),
        (mdata["rna"].varp, other["rna"].varp),
        (mdata["adt"].varp, other["adt"].varp),
    ):
        for kind in ("connectivities", "distances", "precision"):
            expected = one[f"med_magma_{kind}"].toarray()
            found = two[f"med_magma_{kind}"].toarray()
            np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_cells_are_matched_by_name(mdata, rng):
    """The order of the cells in a modality changes nothing, nor does it where some are missing."""
    present = np.flatnonzero(np.arange(N) % 5)
    straight = md.MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][present].copy()})
    shuffled = md.MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][rng.permutation(present)].copy()})
    for data in (straight, shuffled):
        kx.tl.med_magma(data, n_neighbors=None)
    assert list(straight.obs_names) == list(shuffled.obs_names)
    for kind in ("connectivities", "precision"):
        expected = straight.obsp[f"med_magma_{kind}"].toarray()
        found = shuffled.obsp[f"med_magma_{kind}"].toarray()
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_missing_cells_stand_where_their_kind_does(mdata):
    """A third of the cells have no proteins: they are placed by what genes tell of proteins, and counted."""
    missing = np.arange(N) % 3 == 1
    partial = md.MuData({"rna": mdata["rna"].copy(), "adt": mdata["adt"][~missing].copy()})
    kx.tl.med_magma(partial)
    np.testing.assert_array_equal(partial.uns["med_magma"]["n_cells"], [N, (~missing).sum()])
    kinds = pd.Series(types() // 2, index=mdata.obs_names)[partial.obs_names].to_numpy()
    graph = partial.obsp["med_magma_connectivities"].tocoo()
    assert (kinds[graph.row] == kinds[graph.col]).mean() > 0.95
    assert (np.diff(partial.obsp["med_magma_connectivities"].indptr) > 0).all()
    assert np.isfinite(partial.obsm["X_med_magma"]).all()
    absent = ~partial.obs_names.isin(partial["adt"].obs_names)
    share = graph.data[absent[graph.row] & absent[graph.col]].sum() / graph.data[absent[graph.row]].sum()
    assert share < 0.6  # not a cluster of its own: a third would be chance


def test_cells_without_a_value_anywhere_are_isolated(mdata):
    for part in mdata.mod.values():
        part.X[7] = 0.0
        part.X.eliminate_zeros()
    with pytest.warns(UserWarning, match="isolated in '(rna|adt)': 1 of 120 cells"):
        kx.tl.med_magma(mdata)
    assert mdata.obsp["med_magma_connectivities"][7].nnz == 0
    assert not mdata.obsm["X_med_magma"][7].any()


@METHODS
def test_scanpy_and_files_after_it(method, mdata, tmp_path):
    key = method.__name__
    method(mdata)
    before = clusters(mdata, key)
    sc.tl.umap(mdata, neighbors_key=key, maxiter=5)
    assert mdata.obsm["X_umap"].shape == (N, 2)
    mdata.write_h5mu(tmp_path / "saved.h5mu")
    mdata.write_zarr(store := MemoryStore())
    for back in (md.read_h5mu(tmp_path / "saved.h5mu"), md.read_zarr(store)):
        np.testing.assert_array_equal(clusters(back, key), before)
        assert back["rna"].uns[key]["params"]["method"] == key


def test_modules_of_a_modality(mdata):
    kx.tl.med_magma(mdata)
    kx.tl.gene_modules(mdata["rna"])
    assert mdata["rna"].var["gene_module"].notna().any()


def test_copy(mdata):
    before = set(mdata.obsp), set(mdata.uns), set(mdata["rna"].varp)
    found = kx.tl.med_magma(mdata, copy=True)
    assert (set(mdata.obsp), set(mdata.uns), set(mdata["rna"].varp)) == before
    assert "med_magma_connectivities" in found.obsp


@METHODS
def test_complete_precision_and_partial_correlations(method, mdata):
    key = method.__name__
    method(mdata, n_neighbors=None, weights="partial_correlation", joint=True)
    psi = mdata.obsp[f"{key}_precision"].toarray()
    phis = [mdata[name].varp[f"{key}_precision"].toarray() for name in ("rna", "adt")]
    assert (psi != 0).all()
    for phi in phis:
        assert np.linalg.eigvalsh(psi)[0] + np.linalg.eigvalsh(phi)[0] > 0
    shift = np.concatenate([np.diag(phi) for phi in phis]).mean()
    full = psi + shift * np.eye(N)
    rho = -full / np.sqrt(np.outer(np.diag(full), np.diag(full)))
    np.fill_diagonal(rho, 0.0)
    expected = np.where(rho < rho.max() / 500, 0.0, rho)  # what is weaker UMAP would delete
    np.testing.assert_allclose(mdata.obsp[f"{key}_connectivities"].toarray(), expected, atol=1e-9)


def test_l1_of_several_modalities(mdata):
    """Exact zeros in the whole precision matrices, most of them."""
    kx.tl.med_magma(mdata, penalty="l1", strength=(0.6, 0.7), n_neighbors=None)
    for found in (mdata.obsp, mdata["rna"].varp, mdata["adt"].varp):
        precision = found["med_magma_precision"]
        assert precision.nnz < 0.8 * np.prod(precision.shape)
        assert (precision.data != 0).all() and (precision.diagonal() != 0).all()
    for data in (mdata, mdata["rna"]):
        np.testing.assert_allclose(data.uns["med_magma"]["strength"], [0.6, 0.7])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": "l2"}, r"`penalty` must be one of \['shrinkage', 'ridge', 'l1'\], found 'l2'"),
        ({"strength": 0.2}, "shrinkage finds its own"),
        ({"penalty": "l1", "strength": 2.0}, "`strength` must be a positive number of at most 1, found 2.0"),
        ({"penalty": "l1", "strength": (0.1, 0.2, 0.3)}, "one number, or two, for cells and genes"),
        ({"penalty": "ridge", "strength": (0.1, 0.2)}, "`strength` must be one number, found"),
        ({"penalty": "ridge", "strength": 0}, "`strength` must be a positive number of at most .*, found 0"),
        ({"joint": 1}, "`joint` must be True or False"),
        ({"penalty": "l1", "strength": []}, "one number, or two, for cells and genes"),
        ({"penalty": "ridge", "strength": 1e300}, "`strength` must be a positive number of at most 1e\\+10"),
        ({"laplace": "yes"}, "`laplace` must be 'auto', True or False, found 'yes'"),
        ({"laplace": 1}, "`laplace` must be 'auto', True or False, found 1"),
    ],
)
def test_refuses_penalties(arguments, message, mdata):
    refused(mdata, ValueError, message, **arguments)


def test_warns_where_a_graph_has_no_edge(mdata):
    with pytest.warns(UserWarning) as caught:
        kx.tl.med_magma(mdata, penalty="l1", strength=1.0, weights="partial_correlation")
    words = " ".join(str(warning.message) for warning in caught)
    for graph in ("features of 'rna'", "features of 'adt'", "cells"):
        assert f"The graph of the {graph} has no edge. A smaller `strength` of the l1 penalty leaves some." in words


def test_no_advice_on_a_penalty_that_was_not_used(mdata, monkeypatch):
    matrices = graph_out._matrices

    def without_edges(*args, **kwargs):
        return {kind: sparse.csr_array(matrix.shape) for kind, matrix in matrices(*args, **kwargs).items()}

    monkeypatch.setattr(graph_out, "_matrices", without_edges)
    with pytest.warns(UserWarning, match="The graph of the cells has no edge.$"):
        kx.tl.med_magma(mdata)


def test_blocks_are_counted_however_long_the_way_between_them():
    """A chain of cells, each tied to the next by one feature: one block, until a link is missing; or made in another matrix."""
    chain = sparse.csr_array(np.eye(9, 8) + np.eye(9, 8, -1))
    broken = chain.tolil()
    broken[4, 3] = 0.0
    link = np.zeros((9, 2))
    link[[0, 8]] = 1.0  # the ends of the chain

    def count(*found) -> int:
        parts = {str(k): ad.AnnData(sparse.csr_matrix(x)) for k, x in enumerate(found)}
        for k, part in parts.items():
            part.obs_names, part.var_names = (
                [f"cell{i}" for i in range(9)],
                [f"{k}-{j}" for j in range(part.n_vars)],
            )
        return graph_in.count_blocks(graph_in.read(md.MuData(parts), None))

    assert count(chain) == 1
    assert count(broken.tocsr()) == 2
    assert count(broken.tocsr(), link) == 1


def test_refuses_modalities_without_a_common_cell(rng):
    """Two that share some cells are none of its business."""
    parts = simulate(rng).mod
    parts["adt"] = parts["adt"][: N // 2].copy()
    parts["hto"] = parts["adt"].copy()
    parts["hto"].obs_names = [f"{name}-1" for name in parts["hto"].obs_names]
    words = r"`mdata\['hto'\]` shares no cell .* called like 'cell0-1', those of `mdata\['rna'\]` like 'cell0'. Make"
    refused(md.MuData(dict(parts)), ValueError, words)
    refused(md.MuData(dict(parts)), ValueError, words, n_neighbors=1000)  # before anything is read


def test_names_the_modality_without_structure(mdata, rng):
    noise = rng.normal(0.0, 1.0, (N, 60))
    mdata = md.MuData({"rna": mdata["rna"].copy(), "adt": ad.AnnData(noise, mdata["rna"].obs.copy())})
    with pytest.warns(
        UserWarning, match="direction of 'adt' rises above the noise: cells and features of 'adt' show no"
    ):
        kx.tl.gmgm(mdata)


def test_refuses_cells_that_the_object_does_not_know(mdata):
    mdata["adt"].obs_names = [f"renamed{i}" for i in range(N)]
    refused(mdata, ValueError, r"cells of `mdata\['adt'\]` are not in `mdata.obs_names`. Run `mdata.update\(\)`")


def test_gmgm_is_the_fit_to_the_values_as_they_are(mdata):
    """The eigenvectors of Ψ are those of the values' covariance matrix, gene means away."""
    adata = mdata["rna"]
    sc.pp.log1p(adata)
    kx.tl.gmgm(adata, n_neighbors=None, joint=True)
    z = adata.X.toarray().astype(float)
    z -= z.mean(0)
    psi = adata.obsp["gmgm_precision"].toarray()
    commutator = psi @ (z @ z.T) - (z @ z.T) @ psi
    assert np.abs(commutator).max() < 1e-8 * np.abs(psi @ (z @ z.T)).max()


def test_nonparanormal_sees_ranks_alone(mdata):
    one, other = mdata["rna"].copy(), mdata["rna"].copy()
    other.X = other.X.power(3)
    for adata in (one, other):
        kx.tl.gmgm(adata, nonparanormal=True)
    found, expected = (adata.varp["gmgm_connectivities"].toarray() for adata in (one, other))
    np.testing.assert_array_equal(found > 0, expected > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # BLAS rounds by where arrays lie in memory


@METHODS
def test_layers_by_modality(method, mdata, tmp_path):
    """As if all of them were X; each modality remembers its own."""
    key = method.__name__
    expected = method(mdata, copy=True)
    mdata["rna"].layers["counts"] = mdata["rna"].X
    mdata["rna"].X = mdata["rna"].X.power(2)
    layers = {"adt": None, "rna": "counts"}
    method(mdata, layer=layers)
    for part in ("connectivities", "precision"):
        found, goal = (data.obsp[f"{key}_{part}"].toarray() for data in (mdata, expected))
        np.testing.assert_array_equal(found, goal)
    mdata.write_h5mu(tmp_path / "saved.h5mu")
    mdata.write_zarr(store := MemoryStore())
    for back in (mdata, md.read_h5mu(tmp_path / "saved.h5mu"), md.read_zarr(store)):
        assert back.uns[key]["params"]["layer"] == {"rna": "counts"}  # what is not named is X
        assert back["rna"].uns[key]["params"]["layer"] == "counts"
        assert "layer" not in back["adt"].uns[key]["params"]


def refused(mdata, error, match: str, **arguments):
    before = mdata.copy()
    with pytest.raises(error, match=match):
        kx.tl.med_magma(mdata, **arguments)
    assert not mdata.obsp and not mdata["rna"].varp and not mdata.uns
    np.testing.assert_array_equal(mdata["rna"].X.toarray(), before["rna"].X.toarray())


def test_refuses(mdata):
    refused(mdata, KeyError, r"Key 'counts' not found in `mdata\['rna'\].layers`", layer="counts")
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    refused(mdata, KeyError, r"`mdata\['adt'\].layers`.*`layer={'rna': 'counts', 'adt': None}`", layer="counts")
    words = (
        r"`layer` names no layer of 'adt'; None stands for `X`.*leave modalities out: `mudata.MuData\(.*\('rna',\)}\)`"
    )
    refused(mdata, ValueError, words, layer={"rna": "counts"})
    refused(mdata, KeyError, "no modality 'rnaa'. Did you mean 'rna'", layer={"rnaa": "counts", "adt": None})
    with pytest.raises(TypeError, match="a mapping is for modalities"):
        kx.tl.med_magma(mdata["rna"], layer={"rna": "counts"})
    refused(mdata, ValueError, r"`n_neighbors` must be an integer from 2 to 119", n_neighbors=N)
    refused(
        mdata,
        ValueError,
        r"`weights` must be one of \['affinity', 'partial_correlation', 'absolute'\]",
        weights="cosine",
    )
    mdata["adt"].X = mdata["adt"].X * np.nan
    refused(mdata, ValueError, r"`mdata\['adt'\].X` has \d+ NaN or infinite values")


def test_refuses_cells_with_the_same_name(rng):
    parts = simulate(rng).mod
    parts["adt"].obs_names = ["cell0"] * 2 + list(parts["adt"].obs_names[2:])
    with pytest.warns(UserWarning, match="not unique"):
        mdata = md.MuData(dict(parts))
    with pytest.raises(ValueError, match=r"`mdata\['adt'\]` has 1 cell name more than once \(cell0\)"):
        kx.tl.med_magma(mdata)


@METHODS
@pytest.mark.filterwarnings("ignore")
def test_names_of_features_may_be_anything(method, mdata):
    expected = method(mdata, copy=True)
    mdata["rna"].var.index = pd.Index(
        [*mdata["rna"].var_names[:-3], None, np.nan, pd.Timestamp("2021-03-01")], dtype=object
    )
    mdata["adt"].var.index = pd.RangeIndex(mdata["adt"].n_vars)
    method(mdata)
    key = f"{method.__name__}_connectivities"
    for name in ("rna", "adt"):
        assert (mdata[name].varp[key] != expected[name].varp[key]).nnz == 0


@pytest.mark.filterwarnings("ignore")
def test_refuses_cells_without_a_name(mdata):
    mdata["adt"].obs.index = pd.Index([*mdata["adt"].obs_names[:-1], np.nan])
    with pytest.raises(ValueError, match=r"`mdata\['adt'\]` has 1 cell without a name; cells are matched by name"):
        kx.tl.med_magma(mdata)


def test_refuses_modalities_that_share_features(rng):
    parts = simulate(rng).mod
    with pytest.raises(ValueError, match="must share cells"):
        kx.tl.med_magma(md.MuData({"a": parts["rna"].T.copy(), "b": parts["adt"].T.copy()}, axis=1))


def test_precision_of_the_cells_is_that_of_the_solver(mdata):
    matrices = graph_in.read(mdata, None)
    kx.tl.med_magma(mdata, n_neighbors=None)
    learnt = graph_out.combine(
        matrices, {name: em.fit(found.matrix) for name, found in matrices.counts.items()}, m_step.Penalty()
    )
    np.testing.assert_allclose(
        mdata.obsp["med_magma_precision"].toarray(), dense(learnt.cells.precision), rtol=1e-12, atol=1e-15
    )
