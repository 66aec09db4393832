"""kx.tl.med_magma with groups of cells: genes within them, and across."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import kronax as kx
from kronax.solvers.medmagma import em

N, P, N_TYPES = 480, 40, 6
REGULATORS = (0, 1)  # nothing regulates them; which is high in which type is chance, and about the same for both
CHAIN = [(2, 10), (3, 11), (4, 12), (5, 13), (6, 14)]  # a gene and one that follows it


def simulated(seed: int, n: int = N, p: int = P) -> ad.AnnData:
    """Genes whose means differ between types, and of which some depend on each other within types."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % N_TYPES
    means = rng.normal(0.0, 0.3, (N_TYPES, p))
    means[:, REGULATORS[0]] = rng.normal(0.0, 1.0, N_TYPES)
    means[:, REGULATORS[1]] = means[:, REGULATORS[0]] + rng.normal(0.0, 0.2, N_TYPES)
    logs = means[kind] + rng.normal(0.0, 0.4, (n, p))
    for source, target in CHAIN:
        logs[:, target] += 0.8 * (logs[:, source] - means[kind, source])
    counts = rng.poisson(20.0 * np.exp(logs) * rng.lognormal(0.0, 0.3, (n, 1)) * rng.lognormal(0.0, 0.7, p))
    obs = pd.DataFrame({"type": [f"t{k}" for k in kind]}, index=[f"cell{i}" for i in range(n)])
    var = pd.DataFrame(index=[f"gene{j}" for j in range(p)])
    return ad.AnnData(sparse.csr_matrix(counts, dtype=np.float64), obs, var)


@pytest.fixture
def adata() -> ad.AnnData:
    return simulated(0)


def learnt(adata: ad.AnnData, **arguments) -> ad.AnnData:
    adata = adata.copy()
    kx.tl.med_magma(adata, **arguments)
    return adata


def correlations(adata: ad.AnnData) -> np.ndarray:
    """Partial correlations of a complete graph."""
    found = -adata.varp["med_magma_precision"].toarray()
    np.fill_diagonal(found, 0.0)
    return found


def complete(adata: ad.AnnData, **arguments) -> np.ndarray:
    return correlations(learnt(adata, graphs="genes", n_neighbors=None, **arguments))


@pytest.mark.parametrize(("given", "p"), [({"groupby": "type"}, P), ({}, 60)], ids=["given", "own"])
def test_what_differs_between_types_alone_is_less_of_an_edge(given, p, monkeypatch):
    """Shrinkage makes all weaker; dependence within types least, other pairs more and what differs between types alone most.

    Whether types are given or, with many cells, not.
    """
    drawn = [simulated(seed, p=p) for seed in range(3)]
    after = np.mean([complete(adata, **given) for adata in drawn], axis=0)
    monkeypatch.setattr(em, "_COLUMNS", np.inf)  # never
    before = np.mean([complete(adata) for adata in drawn], axis=0)
    assert before[REGULATORS] > 0.25
    others = np.triu(np.ones((p, p), dtype=bool), k=1)
    for pair in (REGULATORS, *CHAIN):
        others[pair] = False
    kept, kept_of_others = after / before, np.abs(after[others]).mean() / np.abs(before[others]).mean()
    assert min(kept[pair] for pair in CHAIN) > max(1.2 * kept_of_others, 2.0 * kept[REGULATORS], 0.45)
    assert max(kept[REGULATORS], kept_of_others) < 0.5


def test_scales_change_nothing(adata, rng):
    noisy = adata.copy()
    factors = rng.lognormal(0.0, 1.0, (N, 1)), rng.lognormal(0.0, 1.0, P)
    noisy.X = sparse.csr_matrix(adata.X.toarray() * factors[0] * factors[1])
    one, other = (complete(a, groupby="type") for a in (adata, noisy))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_cells_do_not_change(adata):
    one, other = learnt(adata), learnt(adata, groupby="type")
    for kind in ("connectivities", "distances"):
        np.testing.assert_array_equal(
            one.obsp[f"med_magma_{kind}"].toarray(), other.obsp[f"med_magma_{kind}"].toarray()
        )
    np.testing.assert_array_equal(one.obsm["X_med_magma"], other.obsm["X_med_magma"])
    assert (one.varp["med_magma_connectivities"] != other.varp["med_magma_connectivities"]).nnz
    assert other.uns["med_magma"]["params"]["groupby"] == "type"
    assert "groupby" not in one.uns["med_magma"]["params"]


@pytest.mark.parametrize("kind", [str, "category", "string", lambda codes: codes])
def test_names_of_groups_do_not_matter(adata, kind):
    codes = np.array([3, 1, 5, 0, 2, 4])[adata.obs["type"].astype("category").cat.codes]
    adata.obs["other"] = (
        kind(codes) if callable(kind) and kind is not str else pd.Series(codes.astype(str)).astype(kind).array
    )
    one, other = (complete(adata, groupby=key) for key in ("type", "other"))
    np.testing.assert_allclose(one, other, atol=1e-10)


def test_one_group_is_told_and_changes_nothing(adata):
    adata.obs["one"] = "all"
    with pytest.warns(UserWarning, match=r"All cells of `adata.obs\['one'\]` are of one group \(all\)"):
        found = complete(adata, groupby="one")
    np.testing.assert_allclose(found, complete(adata), atol=1e-9)


def test_edges_by_significance():
    adata = simulated(1, n=2 * N)
    with_groups, without = (
        kx.get.edges(learnt(adata, graphs="genes", q_max=0.05, groupby=groupby)) for groupby in ("type", None)
    )
    pairs = list(zip(with_groups["source"], with_groups["target"], strict=True))
    assert sorted(pairs) == [(f"gene{source}", f"gene{target}") for source, target in CHAIN]
    assert (with_groups["q_value"] <= 0.05).all()
    assert (without["source"] + without["target"]).eq("gene0gene1").any()


@pytest.mark.parametrize("weights", ["partial_correlation", "absolute"])
def test_other_weights(adata, weights):
    found = learnt(adata, groupby="type", weights=weights, n_neighbors=5)
    assert found.varp["med_magma_connectivities"].nnz and found.obsp["med_magma_precision"].nnz


def test_fewer_cells_than_genes():
    """The matrix is then worked on as its transpose, and finds the same genes alike."""
    adata = simulated(1, n=4 * P)
    wide = adata[: P - 4].copy()
    found = complete(wide, groupby="type")
    assert np.isfinite(found).all() and np.abs(found).max() < 1.0
    assert not np.allclose(found, complete(wide))


def test_batches_too(adata):
    adata.obs["batch"] = np.array(["a", "b"])[np.arange(N) // N_TYPES % 2]
    one, other = (complete(adata, batch_key="batch", **with_) for with_ in ({}, {"groupby": "type"}))
    assert not np.allclose(one, other)


def test_empty_cells_have_no_group(adata):
    """Cells without values are left out, with their groups, even if these are missing."""
    empty = ad.AnnData(sparse.csr_matrix((2, P)), pd.DataFrame({"type": [None, None]}, index=["e", "f"]), adata.var)
    with_empty = ad.concat([adata, empty])
    assert with_empty.obs["type"].isna().sum() == 2
    with pytest.warns(UserWarning, match="isolated|non-zero"):
        found = complete(with_empty, groupby="type")
    np.testing.assert_allclose(found, complete(adata, groupby="type"), atol=1e-10)


def test_modalities(adata):
    """The column of the object, or that of every modality; genes of each are as by themselves."""
    parts = {"rna": adata[:, :30].copy(), "adt": adata[:, 30:].copy()}
    for part in parts.values():
        part.obs = part.obs[[]].copy()
    mdata = mudata.MuData(parts)
    with pytest.raises(KeyError, match=r"not found in `mdata.obs`"):
        kx.tl.med_magma(mdata, groupby="type")
    mdata.obs["type"] = adata.obs["type"].reindex(mdata.obs_names)
    kx.tl.med_magma(mdata, groupby="type", n_neighbors=None)
    for name, part in parts.items():
        part.obs["type"] = adata.obs["type"]
        np.testing.assert_allclose(correlations(mdata[name]), complete(part, groupby="type"), atol=1e-9)


def refused(adata, kind: type[Exception], match: str, **arguments):
    with pytest.raises(kind, match=match):
        kx.tl.med_magma(adata, **arguments)
    assert "med_magma" not in adata.uns


def test_refuses_what_is_no_column_of_groups(adata):
    refused(adata, KeyError, r"Key 'kind' not found in `adata.obs`", groupby="kind")
    refused(adata, TypeError, r"`groupby` must be a str, one column of `obs`", groupby=["type"])
    adata.obs["cell"] = adata.obs_names
    refused(adata, ValueError, r"has 480 values for 480 cells: fewer than two cells for a group", groupby="cell")
    adata.obs["alike"] = pd.Series([1, "1"] * (N // 2), index=adata.obs_names, dtype=object)
    refused(adata, ValueError, r"different values that are written alike \(1\)", groupby="alike")
    adata.obs["some"] = adata.obs["type"].where(np.arange(N) > 2)
    refused(adata, ValueError, r"is missing in 3 of 480 cells; every cell needs a group", groupby="some")


@pytest.mark.parametrize(
    ("argument", "value", "needed"),
    [
        ("graphs", "cells", "graphs='both' or graphs='genes'"),
        ("penalty", "ridge", "penalty='shrinkage'"),
        ("penalty", "l1", "penalty='shrinkage'"),
        ("joint", True, "joint=False"),
        ("laplace", True, "laplace=False"),
        ("laplace", "auto", "laplace=False"),
        ("center", False, "center=True"),
    ],
)
def test_refuses_what_has_no_genes_within_groups(adata, argument, value, needed):
    refused(adata, ValueError, f"needs {needed}; found {argument}={value!r}", groupby="type", **{argument: value})


@pytest.mark.parametrize("groupby", ["type", None])
def test_markers_of_one_type_are_no_edges(groupby, monkeypatch):
    """Within types they are independent, and nothing else is found to depend: to all cells, that they are high together counts."""
    rng = np.random.default_rng(0)
    n, p, n_types = 1600, 160, 8
    kind, of = np.arange(n) % n_types, rng.integers(n_types, size=p)
    logs = np.log(10.0) * (kind[:, None] == of) + rng.normal(0.0, 0.4, (n, p))
    counts = rng.poisson(5.0 * np.exp(logs) * rng.lognormal(0.0, 0.3, (n, 1)) * rng.lognormal(0.0, 1.0, p))
    adata = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float64), pd.DataFrame({"type": kind.astype(str)}))
    with_groups = learnt(adata, graphs="genes", q_max=0.05, groupby=groupby)
    monkeypatch.setattr(em, "_COLUMNS", np.inf)
    n_edges = [len(kx.get.edges(found)) for found in (with_groups, learnt(adata, graphs="genes", q_max=0.05))]
    assert n_edges[0] < 5 and n_edges[1] > 20


def test_markers_beside_genes_that_depend_are_no_edges_either():
    """Pairs that depend loosen what is significant; a marker that varies in its own type alone is known from as few cells."""
    n, p, n_types, n_pairs, n_markers = 4000, 400, 6, 60, 40
    kind, n_edges, n_true = np.arange(n) % n_types, 0, []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        logs = rng.normal(0.0, 0.4, (n, p))
        logs[:, : 2 * n_pairs] += np.repeat(rng.normal(0.0, 0.7, (n, n_pairs)), 2, axis=1)
        for number in range(n_types):
            own = 2 * n_pairs + number * n_markers + np.arange(n_markers)
            logs[np.ix_(kind == number, own)] += rng.uniform(1.0, 2.5, n_markers)
        counts = rng.poisson(np.exp(logs + rng.normal(-1.5, 1.0, p) + rng.normal(0.0, 0.35, (n, 1))))
        adata = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float64), pd.DataFrame({"type": kind.astype(str)}))
        edges = kx.get.edges(learnt(adata, graphs="genes", q_max=0.05, groupby="type"))
        source, target = (edges[end].astype(int).to_numpy() for end in ("source", "target"))
        n_true.append(((source // 2 == target // 2) & (source < 2 * n_pairs)).sum())
        n_edges += len(edges)
    assert min(n_true) > 40 and n_edges - sum(n_true) <= 0.05 * n_edges


@pytest.mark.parametrize("n", [1500, 600])
@pytest.mark.parametrize("groupby", ["type", None])
def test_p_values_are_uniform_within_groups(groupby, n):
    """Where nothing else depends on each other than what differs between types, also with few cells for a gene."""
    rng = np.random.default_rng(0)
    p, kind = 200, np.arange(n) % 5
    logs = rng.normal(0.0, 1.0, (5, p))[kind] + rng.normal(0.0, 0.4, (n, p))
    counts = rng.poisson(20.0 * np.exp(logs) * rng.lognormal(0.0, 0.3, (n, 1))).astype(float)
    adata = ad.AnnData(sparse.csr_matrix(counts), pd.DataFrame({"type": kind.astype(str)}))
    found = learnt(adata, graphs="genes", n_neighbors=None, groupby=groupby)
    assert found.uns["med_magma"]["n_groups"] >= 3
    p_values = found.varp["med_magma_p_value"].toarray()[np.triu_indices(p, k=1)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values <= 0.001) <= 0.002


# Groups that nobody named: with fifty genes and clusters


@pytest.fixture
def many() -> ad.AnnData:
    return simulated(0, p=60)


def test_found_groups_and_how_many_cells_count_are_told(many, caplog):
    found = learnt(many, graphs="genes").uns["med_magma"]
    assert 2 <= found["n_groups"] <= 64 and found["n_effective"] == N
    assert f"genes are looked at within {found['n_groups']} clusters of cells, found here, too" in caplog.text
    assert learnt(many, groupby="type").uns["med_magma"]["n_groups"] == N_TYPES
    assert f"genes are looked at within {N_TYPES} groups of cells too" in caplog.text
    few = learnt(many[:200].copy(), graphs="genes").uns["med_magma"]["n_groups"]
    assert f"genes are looked at within {few} clusters of cells, found here, to test their edges" in caplog.text
    assert "in all cells together" not in caplog.text
    learnt(many[:, :49].copy(), graphs="genes")
    assert caplog.text.count("genes are looked at in all cells together") == 1
    for arguments in ({"joint": True}, {"penalty": "ridge", "strength": 0.1}, {"center": False}):
        assert "n_groups" not in learnt(many, graphs="genes", **arguments).uns["med_magma"]
    assert not {"n_groups", "n_effective"} & set(learnt(many, graphs="cells").uns["med_magma"])


def test_cells_alike_by_their_zeros_all_count(rng):
    """In a small panel with few counts, most cells have the same in nearly all genes."""
    counts = rng.poisson(0.1 * rng.lognormal(0.0, 1.0, 60) * rng.lognormal(0.0, 0.5, (600, 1))).astype(float)
    counts = counts[counts.any(axis=1)]
    panel = ad.AnnData(sparse.csr_matrix(counts[:, counts.any(axis=0)]))
    assert learnt(panel, graphs="genes").uns["med_magma"]["n_effective"] == panel.n_obs


def test_one_group_is_none(many, monkeypatch, caplog):
    """And that no clusters are looked for is what it says, without advice to name some."""
    many.obs["one"] = "all"
    assert learnt(many, graphs="genes").uns["med_magma"]["n_groups"] > 1
    with pytest.warns(UserWarning, match="of one group.*no clusters are looked for"):
        one = learnt(many, graphs="genes", groupby="one")
    assert "in all cells together" not in caplog.text
    monkeypatch.setattr(em, "_COLUMNS", np.inf)
    other = learnt(many, graphs="genes")
    assert "in all cells together" in caplog.text
    assert "n_groups" not in one.uns["med_magma"] and "med_magma_q_value_all_cells" not in one.varp
    for kind in ("precision", "p_value", "q_value"):
        np.testing.assert_array_equal(
            one.varp[f"med_magma_{kind}"].toarray(), other.varp[f"med_magma_{kind}"].toarray()
        )


@pytest.mark.parametrize("arguments", [{}, {"n_neighbors": None}, {"weights": "absolute"}], ids=str)
def test_the_graph_is_that_of_all_cells(many, arguments, monkeypatch):
    """Partial correlations and tests look within groups, so that modules of what differs between types stay."""
    one = learnt(many, graphs="genes", **arguments)
    monkeypatch.setattr(em, "_COLUMNS", np.inf)
    other = learnt(many, graphs="genes", **arguments)
    for kind in ("connectivities", "distances"):
        np.testing.assert_array_equal(*(a.varp[f"med_magma_{kind}"].toarray() for a in (one, other)))
    assert not np.allclose(correlations(one), correlations(other), atol=0.01)
    pattern = [(a.varp["med_magma_precision"] != 0).toarray() for a in (one, other)]
    np.testing.assert_array_equal(*pattern)
    in_all, q = one.varp["med_magma_q_value_all_cells"], other.varp["med_magma_q_value"]
    np.testing.assert_array_equal(in_all.toarray(), q.toarray())
    assert (one.varp["med_magma_q_value"] != in_all).nnz


def test_modules_are_judged_by_all_cells_as_the_graph_is(many, monkeypatch):
    """Those of what differs between types alone are more than noise, though none of their edges is significant within groups."""
    rng = np.random.default_rng(3)
    kind, of = np.arange(N) % N_TYPES, np.arange(60) // 10
    logs = 0.8 * rng.normal(size=(N_TYPES, 6))[kind][:, of] * rng.uniform(0.5, 1.0, 60)
    many.X = sparse.csr_matrix(rng.poisson(np.exp(logs + 1.0)), dtype=np.float64)
    one = learnt(many, graphs="genes")
    kx.tl.gene_modules(one)
    assert (one.varp["med_magma_q_value"].data > 0.2).all()
    table, genes = one.uns["gene_module"]["table"], kx.get.modules(one)
    assert (
        (~table["noise"]).sum() >= 2
        and (genes["q_value_all_cells"] <= 0.2).any()
        and not (genes["q_value"] <= 0.2).any()
    )
    edges = kx.get.edges(one)
    assert (edges["q_value_all_cells"] <= 0.2).any() and not (edges["q_value"] <= 0.2).any()
    assert "q_value_all_cells" not in kx.get.edges(one, regulators=["gene0", "gene1"])
    monkeypatch.setattr(em, "_COLUMNS", np.inf)
    assert (
        "med_magma_q_value_all_cells" not in learnt(one, graphs="genes", groupby="type").varp
    )  # whose graph is of both
    other = learnt(one, graphs="genes")  # and nothing of before stays
    assert not [key for key in (*other.varp, *other.uns["med_magma"]) if "all_cells" in key]
    for kind in ("significant", "noise"):
        found = other.copy()
        kx.tl.gene_modules(found)
        np.testing.assert_array_equal(found.uns["gene_module"]["table"][kind], table[kind])


@pytest.mark.parametrize("groupby", ["type", None])
def test_signs_in_all_cells_and_within_groups_agree(groupby):
    """Genes that are high in the same types, and exclude each other within them, are joined by neither."""
    rng = np.random.default_rng(0)
    n, p, n_types, ends = 4000, 60, 16, np.arange(0, 12, 2)
    kind, means, noise = np.arange(n) % n_types, np.zeros((n_types, p)), rng.normal(size=(n, p))
    means[:, ends] = 1.2 * rng.normal(size=(n_types, 6))
    means[:, ends + 1] = means[:, ends] + 0.1 * rng.normal(size=(n_types, 6))
    noise[:, ends + 1] = 0.87 * noise[:, ends + 1] - 0.5 * noise[:, ends]
    counts = rng.poisson(50.0 * np.exp(means[kind] + 0.3 * noise)).astype(float)
    adata = ad.AnnData(sparse.csr_matrix(counts), pd.DataFrame({"type": kind.astype(str)}))
    found = learnt(adata, graphs="genes", n_neighbors=None, groupby=groupby)
    q_values, rho = found.varp["med_magma_q_value"].toarray(), correlations(found)
    assert (q_values[ends, ends + 1] == 1.0).all() and (rho[ends, ends + 1] < 0.0).all()
    assert (found.varp["med_magma_p_value"].toarray()[ends, ends + 1] < 1e-4).all()
    named = kx.get.edges(found, regulators=found.var_names[ends])
    pairs = named["source"].astype(int) // 2 == named["target"].astype(int) // 2
    assert pairs.sum() == 6 and (named["q_value"][pairs] == 1.0).all()
    if groupby is None:
        of_all_cells = (
            found.varp["med_magma_q_value_all_cells"].toarray(),
            found.varp["med_magma_connectivities"].toarray(),
        )
        assert (of_all_cells[0][ends, ends + 1] <= 0.05).all() and (of_all_cells[1][ends, ends + 1] > 0.3).all()


def test_edges_that_are_significant_within_found_groups(monkeypatch):
    """They weigh by their partial correlations in all cells."""
    many = simulated(1, n=2 * N, p=60)
    one = learnt(many, graphs="genes", q_max=0.05)
    monkeypatch.setattr(em, "_COLUMNS", np.inf)
    other = learnt(many, graphs="genes", n_neighbors=None)
    found, of_all = (a.varp["med_magma_connectivities"].toarray() for a in (one, other))
    pairs = list(zip(*np.nonzero(np.triu(found)), strict=True))
    assert set(CHAIN) <= set(pairs) and len(pairs) <= len(CHAIN) + 1
    np.testing.assert_allclose(found[found > 0], of_all[found > 0], rtol=1e-10)


def test_order_and_scales_change_nothing(many, rng):
    cells, genes = rng.permutation(N), rng.permutation(60)
    other = many[cells][:, genes].copy()
    other.X = sparse.csr_matrix(other.X.toarray() * rng.lognormal(size=(N, 1)) * rng.lognormal(size=60))
    np.testing.assert_allclose(complete(many)[np.ix_(genes, genes)], complete(other), atol=1e-6)


def test_copies_of_cells_add_little(many):
    """They make more directions rise above the noise, and so more groups."""
    copied = ad.AnnData(sparse.vstack([many.X, many.X, many.X], format="csr"), var=many.var)
    one, other = (learnt(adata, graphs="genes", n_neighbors=None) for adata in (many, copied))
    assert other.uns["med_magma"]["n_effective"] == pytest.approx(N, rel=1e-3)
    np.testing.assert_allclose(correlations(one), correlations(other), atol=0.05)
    assert np.corrcoef(correlations(one).ravel(), correlations(other).ravel())[0, 1] > 0.95


def test_found_groups_may_have_nothing_within(rng):
    """Then there are none, and no more is said."""
    x = rng.lognormal(0.0, 1.0, (4, 60))[np.arange(400) % 4]
    adata = learnt(ad.AnnData(x), graphs="genes", n_neighbors=5)
    assert "n_groups" not in adata.uns["med_magma"]


def test_a_constant_gene_has_no_edge(rng):
    x = np.sign(rng.normal(size=(400, 60)) + 1.5 * np.sign(rng.normal(size=(4, 60)))[np.arange(400) % 4])
    x[:, 5] = 1.0
    with pytest.warns(UserWarning, match="has no edge"):
        adata = learnt(ad.AnnData(x), graphs="genes")
    assert "n_groups" in adata.uns["med_magma"]
    assert not adata.varp["med_magma_connectivities"].toarray()[5].any()


def test_not_in_memory(many, tmp_path):
    da = pytest.importorskip("dask.array")
    lazy = ad.AnnData(da.from_array(many.X.toarray(), chunks=(100, -1)), many.obs, many.var)
    one, other = (learnt(adata, graphs="genes") for adata in (many, lazy))
    assert one.uns["med_magma"]["n_groups"] == other.uns["med_magma"]["n_groups"]
    for kind in ("connectivities", "precision"):
        np.testing.assert_allclose(*(a.varp[f"med_magma_{kind}"].toarray() for a in (one, other)), atol=1e-6)


def test_only_wide_modalities_go_without(many, rng):
    """Every modality has groups of its own, or none."""
    wide = ad.AnnData(sparse.csr_matrix(rng.poisson(2.0, (N, 150)).astype(float)), obs=many.obs)
    mdata = mudata.MuData({"narrow": many, "wide": wide})
    kx.tl.med_magma(mdata, graphs="genes")
    assert "n_groups" in mdata["narrow"].uns["med_magma"] and "n_groups" not in mdata["wide"].uns["med_magma"]
    np.testing.assert_allclose(
        mdata["narrow"].varp["med_magma_precision"].toarray(),
        learnt(many, graphs="genes").varp["med_magma_precision"].toarray(),
        atol=1e-6,
    )
