"""kx.metrics.batch_mixing: examples by hand, and what holds of every graph."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx


def ring(n: int) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.roll(np.eye(n), 1, axis=0) + np.roll(np.eye(n), -1, axis=0))


def random_graph(n: int = 120, seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    upper = np.triu((rng.random((n, n)) < 0.1) * rng.random((n, n)), 1)
    return sparse.csr_matrix(upper + upper.T)


@pytest.fixture
def cells() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({"type": rng.choice(["T", "B", "NK"], 120), "batch": rng.choice(["x", "y"], 120, p=[0.7, 0.3])})


def mixing(graph, cells: pd.DataFrame, **options):
    return kx.metrics.batch_mixing(graph, label_key=cells["type"], batch_key=cells["batch"], **options)


def test_by_hand():
    """A ring of T and B cells: cell 0 has one T neighbour of another batch, cells 1 and 2 one of two, and so on."""
    graph = ring(6).tolil()
    graph[0, 2] = graph[2, 0] = 3.0
    types, batches = list("TTTBBB"), list("xxyxyy")
    # T: cell 0 has 1 (x) and 2 (y), cell 1 has 0 (x) and 2 (y), cell 2 has 0 and 1 (both x)
    # B: cell 3 has 4 (y), cell 4 has 3 (x) and 5 (y), cell 5 has 4 (y)
    table = kx.metrics.batch_mixing(graph, label_key=types, batch_key=batches, by_label=True).loc[["T", "B"]]
    np.testing.assert_allclose(table["observed"], [2 / 3, 1 / 2])
    np.testing.assert_allclose(table["expected"], [2 / 3, 2 / 3])
    np.testing.assert_allclose(table["mixing"], [1, 3 / 4])
    assert kx.metrics.batch_mixing(graph, label_key=types, batch_key=batches) == pytest.approx((2 + 1.5) / 4)
    weighted = kx.metrics.batch_mixing(graph, label_key=types, batch_key=batches, weighted=True, by_label=True)
    np.testing.assert_allclose(weighted.loc["T", "observed"], (3 / 4 + 1 / 2 + 1) / 3)
    np.testing.assert_allclose(weighted.loc["B", "observed"], 1 / 2)


def test_ends_of_the_scale(cells):
    same = (cells["type"].to_numpy()[:, None] == cells["type"].to_numpy()).astype(float)
    together = cells["batch"].to_numpy()[:, None] == cells["batch"].to_numpy()
    assert mixing(same, cells) == pytest.approx(1, abs=1e-12)
    assert mixing(same * together, cells) == 0
    assert mixing(same * ~together, cells) > 1


def test_average_over_random_batches_is_one(cells):
    """Whatever the graph: the batches of a label's cells are exchanged at random."""
    rng, graph, found = np.random.default_rng(2), random_graph(), []
    for _ in range(400):
        shuffled = cells.copy()
        for _, rows in cells.groupby("type").groups.items():
            shuffled.loc[rows, "batch"] = rng.permutation(cells.loc[rows, "batch"])
        found.append(mixing(graph, shuffled))
    assert abs(np.mean(found) - 1) < 3 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) / np.sqrt(len(found)) < 0.01


def test_edges_between_labels_do_not_matter(cells):
    graph = random_graph()
    within = graph.multiply(cells["type"].to_numpy()[:, None] == cells["type"].to_numpy()).tocsr()
    within.eliminate_zeros()
    assert within.nnz < graph.nnz
    for weighted in (False, True):
        assert mixing(graph, cells, weighted=weighted) == mixing(within, cells, weighted=weighted)


def test_weights_and_their_unit(cells):
    graph = random_graph()
    assert mixing(graph, cells) == mixing(graph.sqrt(), cells)
    assert mixing(3 * graph, cells, weighted=True) == pytest.approx(mixing(graph, cells, weighted=True))
    assert mixing(graph, cells, weighted=True) != pytest.approx(mixing(graph, cells))


def test_labels_of_one_batch_are_left_out_and_told(cells):
    graph = random_graph()
    cells.loc[cells["type"] == "NK", "batch"] = "x"
    others = (cells["type"] != "NK").to_numpy()
    with pytest.warns(UserWarning, match="1 label left out of the mixing, found in one batch only: NK"):
        found = mixing(graph, cells)
    assert found == pytest.approx(mixing(graph[others][:, others], cells[others]), abs=1e-12)
    table = mixing(graph, cells, by_label=True)
    assert table["mixing"].isna().to_dict() == {"B": False, "NK": True, "T": False}
    assert table.loc["NK", ["n_batches", "observed", "expected"]].tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="No label is found in two batches"):
        kx.metrics.batch_mixing(graph, label_key=cells["batch"], batch_key=cells["batch"])


def test_cells_without_neighbours_and_missing_values(cells):
    graph = random_graph()
    without = graph.tolil()
    without[:10], without[:, :10] = 0, 0
    table = mixing(without, cells, by_label=True)
    assert table["n_cells"].sum() == 120
    for column, missing in (("type", None), ("batch", np.nan)):
        gaps = cells.astype(object)
        gaps.loc[gaps.index % 7 == 0, column] = missing
        known = gaps[column].notna().to_numpy()
        assert mixing(graph, gaps) == pytest.approx(mixing(graph[known][:, known], cells[known]), abs=1e-12)
    assert np.isnan(mixing(sparse.csr_matrix((120, 120)), cells))


def test_stored_graph(cells):
    adata = ad.AnnData(np.zeros((120, 2)), obs=cells.set_index(pd.RangeIndex(120).astype(str)))
    adata.obs["type"] = pd.Categorical(adata.obs["type"], categories=["T", "NK", "none", "B"])
    adata.obsp["mine"] = random_graph()
    adata.uns["my_graph"] = {"connectivities_key": "mine"}
    arguments = {"label_key": "type", "batch_key": "batch", "neighbors_key": "my_graph"}
    assert kx.metrics.batch_mixing(adata, **arguments) == pytest.approx(mixing(random_graph(), cells), abs=1e-12)
    assert list(kx.metrics.batch_mixing(adata, by_label=True, **arguments).index) == ["T", "NK", "B"]
    with pytest.raises(KeyError, match=r"'donor' not found in `adata\.obs`.*\['batch', 'type'\]"):
        kx.metrics.batch_mixing(adata, **{**arguments, "batch_key": "donor"})
    with pytest.raises(ValueError, match="`batch_key` names a column, 'batch', but a matrix has none"):
        kx.metrics.batch_mixing(random_graph(), label_key=cells["type"], batch_key="batch")
    with pytest.raises(ValueError, match="`batch_key` has 119 values, but the graph has 120 vertices"):
        kx.metrics.batch_mixing(random_graph(), label_key=cells["type"], batch_key=cells["batch"][1:])
    with pytest.raises(ValueError, match="All values of `label_key` are missing"):
        kx.metrics.batch_mixing(random_graph(), label_key=[None] * 120, batch_key=cells["batch"])
