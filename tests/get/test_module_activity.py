"""kx.get.module_activity: the table of what kx.tl.module_activity found."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import kronax as kx


@pytest.fixture
def adata() -> ad.AnnData:
    """Nine cells of two types, one without counts; six genes in two modules, one of them raised in one type."""
    counts = np.random.default_rng(0).poisson(5.0, size=(9, 6)).astype(float)
    counts[:4, :3] += 8
    counts[8] = 0
    found = ad.AnnData(counts, obs=pd.DataFrame({"type": [*"aaaabbbbb"]}, index=[*"qrstuvwxy"]))
    found.var["gene_module"] = pd.Categorical(["0"] * 3 + ["1"] * 2 + [None])
    return found


@pytest.mark.filterwarnings("ignore:1 of 9 cells")
def test_table(adata, tmp_path):
    kx.tl.module_activity(adata, groupby="type")
    table = kx.get.module_activity(adata)
    totals = adata.X[:8].sum(axis=1)
    shares = [(adata.X[:8, genes].sum(axis=1) / totals).mean() for genes in (slice(3), slice(3, 5))]
    np.testing.assert_allclose(table["share"], shares, rtol=1e-12)
    assert list(table.index) == ["0", "1"]
    assert list(table.columns) == ["share", "F", "p", "p_adjusted", "eta_squared"]
    anova = adata.uns["module_activity"]["anova"]
    np.testing.assert_array_equal(
        table[["F", "p", "p_adjusted", "eta_squared"]].T, [anova[name] for name in table.columns[1:]]
    )
    adata.write_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(kx.get.module_activity(ad.read_h5ad(tmp_path / "a.h5ad")), table)


@pytest.mark.filterwarnings("ignore:1 of 9 cells")
def test_without_groups_and_under_another_name(adata):
    kx.tl.module_activity(adata, key_added="mine")
    assert list(kx.get.module_activity(adata, key="mine").columns) == ["share"]
    with pytest.raises(
        KeyError, match=r"'module_activity' not found in `adata\.uns`.*Run kx\.tl\.module_activity first"
    ):
        kx.get.module_activity(adata)
