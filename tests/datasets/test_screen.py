import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import kronax as kx


def test_design_and_truth():
    adata = kx.datasets.screen(n_treatments=9, n_contexts=2, n_genes=50, n_replicates=3, n_cells=5, random_state=1)
    cells = adata.obs.groupby(["perturbation", "cell_line", "plate"], observed=True).size()
    assert len(cells) == 10 * 2 * 3
    assert (cells["control"] == 20).all()
    assert sparse.issparse(adata.X) and (adata.X.data == np.rint(adata.X.data)).all()
    truth = adata.uns["log_fold_change"]
    assert truth.shape == (18, 50)
    none = adata.obs.loc[adata.obs["strength"] == "none", "perturbation"].unique()
    still = truth.index.str.split("|").str[0].isin(none)
    assert 0 < still.sum() < len(truth)
    assert not truth[still].to_numpy().any()
    assert truth[~still].to_numpy().any(axis=1).all()


def test_strong_effects_are_seen_in_the_counts():
    adata = kx.datasets.screen(n_treatments=3, n_contexts=1, n_genes=100, n_replicates=1, n_cells=2000, random_state=2)
    mean = {
        name: np.asarray(adata[(adata.obs["perturbation"] == name).to_numpy()].X.mean(axis=0)).ravel()
        for name in ("control", "drug2")
    }
    high = mean["control"] > 0.3
    found = np.log2(mean["drug2"] / mean["control"])[high]
    np.testing.assert_allclose(found, adata.uns["log_fold_change"].loc["drug2|line1"].to_numpy()[high], atol=0.2)


def test_same_seed_same_counts_and_savable(tmp_path):
    one, two = (kx.datasets.screen(n_treatments=3, n_genes=30, n_cells=3, random_state=5) for _ in range(2))
    assert (one.X != two.X).nnz == 0
    one.write_h5ad(tmp_path / "screen.h5ad")
    assert ad.read_h5ad(tmp_path / "screen.h5ad").uns["log_fold_change"].equals(one.uns["log_fold_change"])


def test_wrong_sizes():
    with pytest.raises(ValueError, match="n_genes"):
        kx.datasets.screen(n_genes=3)
    with pytest.raises(ValueError, match="n_replicates"):
        kx.datasets.screen(n_replicates=0)
