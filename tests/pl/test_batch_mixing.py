"""kx.pl.batch_mixing: what it shows, and that every label can be read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.colors import to_rgb
from scipy import sparse

import kronax as kx

COLUMNS = {"label_key": "type", "batch_key": "batch"}


def with_batches(n: int, labels: list[str], batches: list[str]) -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sparse.csr_matrix((n, 2)))
    adata.obs["type"], adata.obs["batch"] = (pd.Categorical(rng.choice(names, n)) for names in (labels, batches))
    kind, batch = (adata.obs[column].cat.codes.to_numpy() for column in ("type", "batch"))
    chance = 0.3 * (kind[:, None] == kind) * np.where(batch[:, None] == batch, 1, 0.4)
    upper = np.triu(rng.random((n, n)) < chance, 1)
    adata.obsp["mine"] = sparse.csr_matrix((upper | upper.T).astype(float))
    adata.uns["med_magma"] = {"connectivities_key": "mine"}
    return adata


@pytest.fixture
def small() -> ad.AnnData:
    return with_batches(120, ["B", "NK", "T"], ["x", "y"])


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def shown(figure) -> np.ndarray:
    return np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)


def test_values(small):
    figure = kx.pl.batch_mixing(small, **COLUMNS)
    table = kx.metrics.batch_mixing(small, by_label=True, **COLUMNS)
    values = shown(figure)
    np.testing.assert_allclose(values[:, 0], table["mixing"], rtol=1e-12)
    kind, batch = small.obs["type"].to_numpy(), small.obs["batch"].to_numpy()
    members, graph = np.flatnonzero(kind == "T"), small.obsp["mine"].toarray() > 0
    for column, name in enumerate("xy", start=1):
        cells = [i for i in members if batch[i] == name]
        observed = np.mean([np.mean(batch[np.flatnonzero(graph[i])] != name) for i in cells])
        expected = (len(members) - len(cells)) / (len(members) - 1)
        assert values[2, column] == pytest.approx(observed / expected)
    ax = figure.axes[0]
    assert labels(ax.xaxis) == ["all", "x", "y"]
    assert labels(ax.yaxis) == [f"{name} ({n})" for name, n in table["n_cells"].items()]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("batch", "type")
    assert ax.get_title(loc="left") == f"mixing of batches: {kx.metrics.batch_mixing(small, **COLUMNS):.2f}"
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in values.ravel()]


def test_what_says_nothing_is_grey(small):
    small.obs.loc[small.obs["type"] == "NK", "batch"] = "y"
    figure = kx.pl.batch_mixing(small, **COLUMNS)
    np.testing.assert_array_equal(np.isnan(shown(figure)), [[False] * 3, [True] * 3, [False] * 3])
    figure.draw_without_rendering()
    colors = figure.axes[0].collections[0].get_facecolor().reshape(3, 3, 4)
    np.testing.assert_allclose(colors[1], [[0.8, 0.8, 0.8, 1.0]] * 3)


def test_colours_of_two_figures_can_be_compared(small):
    apart = small.copy()
    same = small.obs["batch"].to_numpy()[:, None] == small.obs["batch"].to_numpy()
    apart.obsp["mine"] = small.obsp["mine"].multiply(same).tocsr()
    figures = [kx.pl.batch_mixing(adata, **COLUMNS) for adata in (small, apart)]
    assert [figure.axes[0].collections[0].get_clim() for figure in figures] == [(0, 1), (0, 1)]
    assert (shown(figures[1]) == 0).all()


def test_numbers_are_seen_in_the_dark(small):
    with style.context("dark_background"):
        figure = kx.pl.batch_mixing(small, **COLUMNS)
        figure.draw_without_rendering()
    ax = figure.axes[0]
    fields = ax.collections[0].get_facecolor()[:, :3].mean(axis=1)
    numbers = [np.mean(to_rgb(text.get_color())) for text in ax.texts]
    assert (np.abs(fields - numbers) > 0.4).all()


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_many_names_do_not_overlap(layout):
    adata = with_batches(900, [f"cell type {i:02d}" for i in range(90)], [f"a donor {i:02d}" for i in range(40)])
    figure, ax = plt.subplots(figsize=(5, 4), layout=layout)
    assert kx.pl.batch_mixing(adata, ax=ax, **COLUMNS) is figure
    figure.draw_without_rendering()
    rows = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert len(rows) > 5
    assert all(above.y0 > below.y1 for above, below in zip(rows, rows[1:], strict=False))
    columns = [text.get_window_extent() for text in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in zip(columns, columns[1:], strict=False))
    assert ax.get_ylabel().startswith("type, 1 in ")
    assert ax.get_xlabel().startswith("batch, 1 in ")
    assert not ax.texts
    plt.close(figure)
    assert max(kx.pl.batch_mixing(adata, **COLUMNS).get_size_inches()) < 14


def test_dollar_signs_are_no_mathematics(small):
    small.obs["a$_{b$"] = small.obs["type"].cat.rename_categories(["$\\foo$", "$", "x$y$"])
    kx.pl.batch_mixing(small, label_key="a$_{b$", batch_key="batch").draw_without_rendering()


def test_what_is_refused(small):
    with pytest.raises(KeyError, match=r"'donor' not found in `adata\.obs`"):
        kx.pl.batch_mixing(small, label_key="type", batch_key="donor")
    with pytest.raises(ValueError, match="No label is found in two batches"):
        kx.pl.batch_mixing(small, label_key="batch", batch_key="batch")
    small.obs["cell"] = small.obs_names
    with pytest.raises(ValueError, match=r"`obs\['cell'\]` has 120 groups; at most 100 can be drawn"):
        kx.pl.batch_mixing(small, label_key="cell", batch_key="batch")
