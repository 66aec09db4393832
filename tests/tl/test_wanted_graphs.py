"""The graph of the cells alone, or of the genes: the same graph, nothing of the other, and what scanpy and kronax make of it."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import kronax as kx
from kronax._data import graph_in
from kronax._data.partial_correlations import partial_correlations

N, P = 60, 50
METHODS = pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm], ids=lambda method: method.__name__)
WEIGHTS = pytest.mark.parametrize("weights", ["affinity", "partial_correlation", "absolute"])
ALONE = pytest.mark.parametrize("graphs", ["cells", "genes"])


def counts(rng, prefix: str = "gene") -> ad.AnnData:
    """Poisson counts of three cell types; one cell and one gene are empty."""
    mean = 2.0 * rng.gamma(1.0, size=(3, P))[np.arange(N) % 3] * rng.lognormal(0.0, 0.3, (N, 1))
    x = rng.poisson(mean).astype(np.float32)
    x[7] = x[:, 11] = 0.0
    obs, var = [f"cell{i}" for i in range(N)], [f"{prefix}{j}" for j in range(P)]
    adata = ad.AnnData(sparse.csr_matrix(x), pd.DataFrame(index=obs), pd.DataFrame(index=var))
    adata.obs["type"] = pd.Categorical(np.array(["a", "b", "c"])[np.arange(N) % 3])
    return adata


def modalities(rng) -> md.MuData:
    """Two, of which the second one lacks cells."""
    return md.MuData({"rna": counts(rng), "adt": counts(rng, "protein")[20:].copy()})


def learnt(data, graphs: str, method=kx.tl.med_magma, **others):
    with warnings.catch_warnings(action="ignore"):  # of what is empty
        return method(data, graphs=graphs, n_neighbors=5, copy=True, **others)


@pytest.fixture
def adata(rng) -> ad.AnnData:
    return counts(rng)


def written(data) -> Iterator[tuple[str, np.ndarray]]:
    """Everything in pairs, coordinates and scales, by place."""
    for part in ("obsp", "varp", "obsm", "varm"):
        for key, value in getattr(data, part).items():
            if getattr(value, "dtype", None) is not None and value.dtype != bool:
                yield f"{part} {key}", value.toarray() if sparse.issparse(value) else np.asarray(value)
    for part in ("obs", "var"):
        for key, column in getattr(data, part).items():
            if key.endswith("_log_scale") and ":" not in key:  # MuData copies those of its modalities
                yield f"{part} {key}", column.to_numpy()
    for name, modality in getattr(data, "mod", {}).items():
        yield from ((f"{name} {place}", value) for place, value in written(modality))


def squares(data, part: str) -> set[str]:
    """Names in ``obsp`` or ``varp``, of a MuData and of its modalities."""
    found = {key for key in getattr(data, part, {}) if key not in getattr(data, "mod", {})}
    return found.union(*(squares(modality, part) for modality in getattr(data, "mod", {}).values()))


def names(key: str, *kinds: str) -> set[str]:
    return {f"{key}_{kind}" for kind in kinds}


KINDS = ("connectivities", "distances", "precision")
OF_GENES = (*KINDS, "p_value", "q_value")
PART = {"cells": "obsp", "genes": "varp"}


@METHODS
@WEIGHTS
@ALONE
@pytest.mark.parametrize("make", [counts, modalities])
def test_one_graph_is_that_of_both(make, graphs, weights, method, rng):
    """Cells joined by affinity need no precision, and have none; all else is the same to the last bit."""
    data, key = make(rng), method.__name__
    both, alone = (learnt(data, which, method, weights=weights) for which in ("both", graphs))
    quick = graphs == "cells" and weights == "affinity"
    kinds = OF_GENES if graphs == "genes" else KINDS[:2] if quick else KINDS
    assert squares(alone, "obsp") == (names(key, *kinds) if graphs == "cells" else set())
    assert squares(alone, "varp") == (names(key, *kinds) if graphs == "genes" else set())
    expected, found = dict(written(both)), dict(written(alone))
    assert f"obsm X_{key}" in found and any(f"varm {key}" in place for place in found)
    for place, value in found.items():
        if quick:
            np.testing.assert_allclose(value, expected[place], rtol=0, atol=1e-8, err_msg=place)
        else:
            np.testing.assert_array_equal(value, expected[place], err_msg=place)
    assert set(found) == {
        place
        for place in expected
        if "obsp" not in place and "varp" not in place or PART[graphs] in place and place.endswith(kinds)
    }
    uns = alone.uns[key]
    assert uns["params"]["graphs"] == graphs and uns["converged"] is True
    assert ("precision_key" in uns) == (not quick)


@METHODS
def test_both_is_the_default(method, adata):
    with warnings.catch_warnings(action="ignore"):
        found = method(adata, n_neighbors=5, copy=True)
    assert found.uns[method.__name__]["params"]["graphs"] == "both"
    expected = dict(written(learnt(adata, "both", method)))
    for place, value in written(found):
        np.testing.assert_array_equal(value, expected[place], err_msg=place)


@METHODS
def test_scanpy_after_the_cells(method, adata):
    key = method.__name__
    cells = learnt(adata, "cells", method)
    cells = cells[cells.obs_names != "cell7"].copy()
    sc.tl.leiden(cells, neighbors_key=key, flavor="igraph", n_iterations=2, directed=False)
    sc.tl.umap(cells, neighbors_key=key, maxiter=5)
    sc.tl.diffmap(cells, neighbors_key=key, n_comps=3)
    assert cells.obs["leiden"].nunique() > 1
    assert np.isfinite(cells.obsm["X_umap"]).all()
    assert "X_pca" not in cells.obsm


@METHODS
def test_modules_after_the_genes(method, adata):
    found = [learnt(adata, graphs, method) for graphs in ("genes", "both")]
    for data in found:
        kx.tl.gene_modules(data, neighbors_key=method.__name__, n_runs=5)
    one, other = (data.var["gene_module"].astype(str).tolist() for data in found)
    assert one == other and len(set(one)) > 1


@METHODS
def test_partial_correlations_of_the_genes_alone(method, adata):
    """The mean diagonal of the cells' precision, which is not there, is that of the genes'."""
    key = method.__name__
    genes, both = (partial_correlations(learnt(adata, graphs, method), key, "var") for graphs in ("genes", "both"))
    assert both.nnz
    np.testing.assert_allclose(genes.toarray(), both.toarray(), rtol=1e-10)


@METHODS
@pytest.mark.parametrize("make", [counts, modalities])
def test_nothing_of_an_earlier_call_stays(make, method, rng):
    data, key = make(rng), method.__name__
    once = {graphs: learnt(data, graphs, method) for graphs in ("both", "cells", "genes")}
    for first, earlier in once.items():
        for second, alone in once.items():
            again = learnt(earlier, second, method)
            expected, found = dict(written(alone)), dict(written(again))
            assert set(found) == set(expected), (first, second)
            for place, value in found.items():
                np.testing.assert_array_equal(value, expected[place], err_msg=f"{first}, {second}: {place}")
            assert set(again.uns[key]) == set(alone.uns[key])


@ALONE
@METHODS
@pytest.mark.parametrize("fmt", ["h5ad", "zarr"])
def test_survives_a_file(fmt, method, graphs, adata, tmp_path):
    found = learnt(adata, graphs, method)
    path = tmp_path / f"file.{fmt}"
    getattr(found, f"write_{fmt}")(path)
    back = (ad.read_h5ad if fmt == "h5ad" else ad.read_zarr)(path)
    expected = dict(written(found))
    assert set(dict(written(back))) == set(expected)
    for place, value in written(back):
        np.testing.assert_array_equal(value, expected[place], err_msg=place)
    assert back.uns[method.__name__]["params"] == found.uns[method.__name__]["params"]


@ALONE
def test_modalities_survive_a_file(graphs, rng, tmp_path):
    found = learnt(modalities(rng), graphs)
    found.write_h5mu(tmp_path / "file.h5mu")
    back = md.read_h5mu(tmp_path / "file.h5mu")
    expected = dict(written(found))
    assert set(dict(written(back))) == set(expected)
    for place, value in written(back):
        np.testing.assert_array_equal(value, expected[place], err_msg=place)


@METHODS
@ALONE
def test_empty_cells_and_genes(graphs, method, adata):
    """They have no edge and no coordinates, and the others have what they have without them."""
    found = learnt(adata, graphs, method)
    alone = learnt(adata[adata.obs_names != "cell7", adata.var_names != "gene11"].copy(), graphs, method)
    key = method.__name__
    pairs, index, part = (found.obsp, 7, "obsp") if graphs == "cells" else (found.varp, 11, "varp")
    for kind in KINDS[: 2 if graphs == "cells" else 3]:
        matrix = pairs[f"{key}_{kind}"].toarray()
        assert not matrix[index].any() and not matrix[:, index].any()
        rest = np.delete(np.delete(matrix, index, 0), index, 1)
        np.testing.assert_array_equal(rest, getattr(alone, part)[f"{key}_{kind}"].toarray())


@METHODS
def test_more_than_one_step(method, adata):
    """With steps of EM, a ridge, a joint fit: whatever the graphs need is made."""
    several = [{"joint": True}, {"penalty": "ridge", "strength": 0.1}, {"n_neighbors": None}]
    if method is kx.tl.med_magma:
        several.append({"max_iter": 2, "n_comps": 2})
    for arguments in several:
        with warnings.catch_warnings(action="ignore"):
            both, cells, genes = (
                method(adata, graphs=graphs, copy=True, **{"n_neighbors": 5} | arguments)
                for graphs in ("both", "cells", "genes")
            )
        expected = dict(written(both))
        for place, value in written(genes):
            np.testing.assert_array_equal(value, expected[place], err_msg=f"{arguments} {place}")
        for place, value in written(cells):
            np.testing.assert_allclose(value, expected[place], rtol=0, atol=1e-7, err_msg=f"{arguments} {place}")


# What was not made


def refused(function, *arguments, **others) -> str:
    with pytest.raises(KeyError) as caught:
        function(*arguments, **others)
    return str(caught.value)


@METHODS
def test_what_was_not_made_is_said(method, adata):
    """And what to run; nothing is written."""
    key = method.__name__
    cells, genes = (learnt(adata, graphs, method) for graphs in ("cells", "genes"))
    for data in (cells, genes):
        data.var["kind"] = "any"
    before = {id(data): set(dict(written(data))) | set(data.var) for data in (cells, genes)}
    for data, graphs, missing in (
        (cells, "cells", lambda: kx.tl.gene_modules(cells, neighbors_key=key)),
        (cells, "cells", lambda: kx.tl.graph_robustness(cells, neighbors_key=key, axis="var")),
        (cells, "cells", lambda: kx.pl.precision(cells, groupby="type", neighbors_key=key)),
        (cells, "cells", lambda: kx.pl.precision(cells, groupby="kind", axis="var", neighbors_key=key)),
        (genes, "genes", lambda: kx.tl.graph_robustness(genes, neighbors_key=key)),
        (genes, "genes", lambda: kx.pl.precision(genes, groupby="type", neighbors_key=key)),
    ):
        assert f"made with graphs='{graphs}': run kx.tl.{key} with graphs='both'" in refused(missing)
        assert set(dict(written(data))) | set(data.var) == before[id(data)]


@METHODS
def test_precision_of_the_cells_on_request(method, adata):
    """It changes nothing else, with both graphs or that of the cells alone."""
    key = method.__name__
    both = learnt(adata, "both", method)
    without = learnt(adata, "both", method, cell_precision=False)
    cells = learnt(adata, "cells", method, cell_precision=True)
    name = f"{key}_precision"
    assert name in both.obsp and name not in without.obsp and name in without.varp
    np.testing.assert_array_equal(cells.obsp[name].toarray(), both.obsp[name].toarray())
    assert not cells.varp
    for found in (cells, without):
        assert found.uns[key]["precision_key"] == name
        expected, found = (data.obsp[f"{key}_connectivities"].toarray() for data in (both, found))
        np.testing.assert_array_equal(found, expected)
    asked = refused(lambda: kx.pl.precision(without, groupby="type", neighbors_key=key))
    assert f"made without it: run kx.tl.{key} with cell_precision=True" in asked


@METHODS
def test_precision_of_the_cells_needs_their_graph(method, adata):
    with pytest.raises(ValueError, match="cell_precision=True needs the graph of the cells"):
        method(adata, graphs="genes", cell_precision=True)


def test_precision_of_many_cells_is_left_to_the_user():
    def decided(n: int, *, in_memory: bool = True, graphs: str = "both", weights: str = "affinity") -> bool:
        matrices = SimpleNamespace(cells=np.arange(n), in_memory=in_memory)
        return graph_in.writes_cell_precision("auto", matrices, graphs, weights, 15)

    assert decided(5_000) and not decided(5_001)
    assert not decided(100, in_memory=False) and not decided(100, graphs="cells")
    assert decided(5_001, weights="partial_correlation")


@METHODS
@pytest.mark.parametrize("graphs", ["gene", "all", None, True])
def test_unfit_graphs(graphs, method, adata):
    before = set(dict(written(adata)))
    with pytest.raises(ValueError, match="`graphs` must be one of"):
        method(adata, graphs=graphs)
    assert set(dict(written(adata))) == before and not adata.uns


def test_modules_of_a_gene_graph_that_is_gone_are_told_of(adata, recwarn):
    def told() -> list[str]:
        return [str(w.message) for w in recwarn if "are of the gene graph that was" in str(w.message)]

    kx.tl.med_magma(adata, n_neighbors=5)
    kx.tl.gene_modules(adata, n_runs=2)
    kx.tl.gene_modules(adata, n_runs=2, key_added="finer")
    kx.tl.med_magma(adata, n_neighbors=5)
    kx.tl.med_magma(adata, n_neighbors=5, graphs="cells", key_added="other")
    assert not told()
    kx.tl.med_magma(adata, n_neighbors=5, graphs="cells")
    (message,) = told()
    assert message.startswith("The modules in `var['gene_module']`, `var['finer']` are of the gene graph")
    assert {"gene_module", "finer"} <= set(adata.var)


def test_what_is_the_users_own_beside_a_cell_graph_stays():
    """A graph of the cells has no tests of genes: a column of that name is not part of it."""
    adata = counts(np.random.default_rng(0))
    adata.var["med_magma_n_tested"] = "mine"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kx.tl.med_magma(adata, graphs="cells", n_neighbors=5)
        assert (adata.var["med_magma_n_tested"] == "mine").all()
        kx.tl.med_magma(adata, graphs="genes", n_neighbors=5)
        assert (adata.var["med_magma_n_tested_before"] == "mine").all()
        kx.tl.med_magma(adata, graphs="cells", n_neighbors=5)
    assert "med_magma_n_tested" not in adata.var and (adata.var["med_magma_n_tested_before"] == "mine").all()
