"""Cells in the plane, with their legends."""

import anndata as ad
import pandas as pd
import pytest

from kronax.pl._cell_panels import cell_panels


@pytest.mark.parametrize(("n_labels", "length"), [(2, 3), (60, 40)])
def test_legends_lie_beside_the_points(rng, n_labels, length):
    labels = [f"${number}_".ljust(length, "x") for number in rng.integers(n_labels, size=300)]
    obs = pd.DataFrame({"clusters": pd.Categorical(rng.integers(9, size=300).astype(str)), "label": labels})
    obs.index = obs.index.astype(str)
    obs.loc["5", "label"] = None
    adata = ad.AnnData(obs=obs, obsm={"X_umap": rng.normal(size=(300, 2))})
    figure = cell_panels(adata, "X_umap", {"clusters": "clusters of the cell graph", "label": "label"})
    first, second = figure.axes
    assert first.get_window_extent().x1 <= first.get_legend().get_window_extent().x0
    assert first.get_legend().get_window_extent().x1 < second.get_window_extent().x0
    assert second.get_window_extent().x1 <= second.get_legend().get_window_extent().x0
    assert second.get_legend().get_window_extent().x1 <= figure.bbox.x1
    assert len(second.get_legend().get_texts()) == len(set(labels))
