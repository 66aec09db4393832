"""Names of gene modules: the group in which one stands out, and its hubs."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from kronax._cli import named_modules


@pytest.fixture
def adata() -> ad.AnnData:
    """Module 0 is raised in group B, module 1 in none, module 2 in A; the first gene of each is its hub.

    Genes in no module have most of every cell's total, so that one module's counts hardly change another one's share.
    """
    rng = np.random.default_rng(0)
    group = np.repeat(["A", "B", "C"], 40)
    module = np.repeat([0, 1, 2, -1], [6, 5, 4, 185])
    mean = np.full((120, 200), 4.0)
    mean[np.ix_(group == "B", module == 0)] = 16
    mean[np.ix_(group == "A", module == 2)] = 16
    mean[np.ix_(group == "A", module == 0)] = 2
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(mean).astype(np.float32)))
    adata.obs["type"] = pd.Categorical([f"type {name}" for name in group])
    adata.var["gene_module"] = pd.Categorical(module.astype(str), categories=["0", "1", "2"])
    adata.var["symbol"] = [f"S{gene}" for gene in range(200)]
    weights = 0.1 * (module[:, None] == module)
    first = [0, 6, 11]
    weights[first] *= 5
    weights = np.maximum(weights, weights.T) * (1 - np.eye(200))
    adata.varp["c"] = sparse.csr_matrix(weights)
    adata.uns["med_magma"] = {"connectivities_key": "c"}
    return adata


def test_by_group_and_hubs(adata):
    title, *rows = named_modules.lines(adata, None, "type", "symbol")
    assert title == "  Gene modules: the 'type' in which each stands out, and its hubs"
    assert rows[0].split("   ") == ["", " module 0 · type B", "S0, S1, S2, S3, S4", "(6 genes)"]
    assert rows[1].split("   ")[1:] == [" module 2 · type A", "S11, S12, S13, S14", "(4 genes)"]
    assert rows[2].split()[:3] == ["module", "1", "S6,"]  # of no group, and so the last
    assert len({row.index("S") for row in rows}) == 1


def test_few_cells_are_no_group(adata):
    """Means of two cells are large by chance; without the groups B and A, nothing stands out."""
    adata.obs["type"] = np.where(np.arange(120) < 118, "most", "two")
    rows = named_modules.lines(adata, None, "type", None)[1:]
    assert [row.split()[:2] for row in rows] == [["module", str(number)] for number in range(3)]
    assert not any("·" in row for row in rows)


def test_without_groups(adata):
    title, *rows = named_modules.lines(adata, None, None, None)
    assert title == "  Gene modules: their hubs"
    assert [row.split()[:3] for row in rows] == [["module", "0", "0,"], ["module", "1", "6,"], ["module", "2", "11,"]]


def test_clusters_are_called_so(adata):
    adata.obs["med_magma_leiden"] = adata.obs["type"].cat.rename_categories(["0", "1", "2"])
    title, *rows = named_modules.lines(adata, None, "med_magma_leiden", None)
    assert "the cluster in which each stands out" in title
    assert rows[0].strip().startswith("module 0 · cluster 1 ")


def test_many_modules_are_not_all_listed(adata, monkeypatch):
    monkeypatch.setattr(named_modules, "MOST", 2)
    assert named_modules.lines(adata, None, "type", None)[-1] == "    and 1 more"
    assert len(named_modules.lines(adata, None, "type", None)) == 4


def test_noise_is_last_and_called_so(adata):
    adata.uns["gene_module"] = {"table": pd.DataFrame({"noise": [True, False, False]}, index=["0", "1", "2"])}
    rows = named_modules.lines(adata, None, "type", None)[1:]
    assert [row.split("   ")[1].strip() for row in rows] == ["module 2 · type A", "module 1", "module 0 · noise"]
