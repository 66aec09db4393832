"""kx.pl.gene_network: the edges it draws, and that every name can be read."""

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from scipy import sparse

import kronax as kx
from kronax.pl._spread import spread


def with_module(n: int, density: float = 0.1, name="ENSG{:011d}") -> ad.AnnData:
    """One module of n genes, one of three; a random precision matrix of both signs."""
    rng = np.random.default_rng(0)
    size = n + 3
    upper = np.triu(rng.normal(size=(size, size)) * (rng.random((size, size)) < density), k=1)
    adata = ad.AnnData(np.ones((2, size)))
    adata.var_names = [name.format(number) for number in range(size)]
    adata.var["gene_module"] = pd.Categorical(["0"] * n + ["1"] * 3)
    adata.varp["p"] = sparse.csr_matrix(upper + upper.T + 10 * np.eye(size))
    adata.uns["med_magma"] = {"precision_key": "p"}
    adata.uns["gene_module"] = {"params": {"neighbors_key": "med_magma"}}
    return adata


def edges(ax) -> dict[str, int]:
    return {to_hex(lines.get_colors()[0]).upper(): len(lines.get_segments()) for lines in ax.collections}


def test_signs():
    adata = with_module(12, density=0.4)
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    upper = np.triu(adata.varp["p"].toarray()[:12, :12], k=1)
    assert edges(ax) == {"#0072B2": (upper < 0).sum(), "#D55E00": (upper > 0).sum()}  # negative precision attracts
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "positive partial correlation",
        "negative partial correlation",
    ]


def test_edges_join_their_genes():
    adata = with_module(6, density=0.5, name="g{}")
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    place = {text.get_text(): text.get_position() for text in ax.texts}
    expected = {
        frozenset([place[f"g{i}"], place[f"g{j}"]])
        for i, j in itertools.combinations(range(6), 2)
        if adata.varp["p"][i, j] != 0
    }
    drawn = {frozenset(tuple(end) for end in segment) for lines in ax.collections for segment in lines.get_segments()}
    assert drawn == expected


def test_hubs_are_chosen():
    adata = with_module(30, density=0.3, name="g{}")
    (ax,) = kx.pl.gene_network(adata, module="0", n_genes=5).axes
    degree = np.abs(adata.varp["p"].toarray()[:30, :30] - 10 * np.eye(30)).sum(axis=1)
    assert {text.get_text() for text in ax.texts} == {f"g{i}" for i in np.argsort(-degree)[:5]}
    assert ax.get_title() == "module 0: 5 of 30 genes"
    for kind, called in (("Gene Expression", "genes"), ("Antibody Capture", "proteins"), ("Custom", "features")):
        adata.var["feature_types"] = kind
        (ax,) = kx.pl.gene_network(adata, module="0", n_genes=5).axes
        assert ax.get_title() == f"module 0: 5 of 30 {called}"


def test_complete_graphs_are_thinned():
    (ax,) = kx.pl.gene_network(with_module(20, density=1.0), module="0").axes
    assert sum(edges(ax).values()) == 60


@pytest.mark.parametrize(("n", "density"), [(1, 0.0), (20, 0.1), (20, 1.0), (200, 0.03)])
def test_no_name_hides_another(n, density):
    figure = kx.pl.gene_network(with_module(n, density), module="0", n_genes=200)
    for dpi in (72, 150) if n < 200 else (100,):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(boxes) == n
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        width, height = figure.get_size_inches() * dpi
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


@pytest.mark.parametrize("tied", [0, 8])
def test_genes_without_an_edge_stand_in_rows_below(tied):
    adata = with_module(20, density=0.0, name="g{}")
    ring = np.arange(tied)
    if tied:
        graph = sparse.lil_array(adata.varp["p"])
        graph[ring, np.roll(ring, 1)] = graph[np.roll(ring, 1), ring] = -1.0
        adata.varp["p"] = graph.tocsr()
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    place = {text.get_text(): text.get_position() for text in ax.texts}
    below = np.array([place[f"g{i}"] for i in range(tied, 20)])
    assert len(np.unique(below[:, 1].round(6))) <= 10  # rows, not a cloud
    assert below[:, 1].max() < min([place[f"g{i}"][1] for i in ring], default=np.inf)
    assert ax.get_title() == f"module 0: 20 genes, {20 - tied} without an edge"


def test_boxes_at_one_place_are_spread():
    sizes = np.tile([1.0, 0.2], (40, 1))
    places = spread(np.zeros((40, 2)), sizes)
    for one, other in itertools.combinations(places, 2):
        assert (np.abs(one - other) >= sizes[0]).any()


def test_boxes_with_room_stay():
    places = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(spread(places, np.tile([1.0, 0.5], (3, 1))), places)


def test_symbols_axes_and_file(tmp_path):
    adata = with_module(4)
    adata.var["symbol"] = ["A", None, "C", "D", "E", "F", "G"]
    figure, ax = plt.subplots()
    assert kx.pl.gene_network(adata, module="0", gene_symbols="symbol", ax=ax, save=tmp_path / "n.png") is figure
    assert {text.get_text() for text in ax.texts} == {"A", adata.var_names[1], "C", "D"}
    assert (tmp_path / "n.png").stat().st_size > 0
    plt.close(figure)


def test_same_seed_same_figure():
    places = [
        [text.get_position() for text in kx.pl.gene_network(with_module(15), module="0", random_state=s).axes[0].texts]
        for s in (0, 0, 1)
    ]
    assert places[0] == places[1]
    assert places[0] != places[2]


def test_what_is_not_there():
    adata = with_module(4)
    with pytest.raises(KeyError, match=r"'7' not found in `adata\.var\['gene_module'\]`\..*\['0', '1'\]"):
        kx.pl.gene_network(adata, module="7")
    adata.var["gene_module"] = [f"m{number}" for number in (2, 10, 1, 2, 10, 2, 0)]
    with pytest.raises(KeyError, match=r"\['m0', 'm1', 'm2', 'm10'\]"):
        kx.pl.gene_network(adata, module="7")
    assert kx.pl.gene_network(adata).axes[0].get_title().startswith("module m2: 3 genes")
    with pytest.raises(ValueError, match="`n_genes` must be an integer"):
        kx.pl.gene_network(adata, module="0", n_genes=0)
    with pytest.raises(KeyError, match=r"Run kx\.tl\.gene_modules first"):
        kx.pl.gene_network(adata, module="0", modules="mine")
    del adata.varp["p"]
    with pytest.raises(KeyError, match=r"Run kx\.tl\.med_magma first"):
        kx.pl.gene_network(adata)
