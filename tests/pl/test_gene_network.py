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
from kronax.pl._spread import crossed, spread


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
    strengths = np.abs(upper[upper != 0]) / 20  # both diagonals are 10
    high = strengths.max()
    low = max(strengths.min(), high / 50)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "positive partial correlation",
        "negative partial correlation",
        f"{high:.2g}, the strongest",
        f"{np.sqrt(high * low):.2g}",
        f"{low:.2g}" + (", the weakest" if low == strengths.min() else " or weaker"),
    ]
    widths = np.concatenate([lines.get_linewidths() for lines in ax.collections])
    assert max(widths) == 3.5
    assert min(ax.collections[1].get_linewidths()) >= 0.8  # narrower dashes would hardly be seen


def test_widths_differ_beside_one_strong_edge():
    """On a linear scale, all edges but one would be as narrow as can be."""
    adata = with_module(6, density=0.0)
    graph = adata.varp["p"].tolil()
    for j, rho in enumerate([0.9, 0.02, 0.04, 0.08], start=1):
        graph[0, j] = graph[j, 0] = -20 * rho
    adata.varp["p"] = graph.tocsr()
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    narrow, *wider = ax.collections[0].get_linewidths()
    assert narrow == 0.4 and len(wider) == 3
    assert (np.diff([narrow, *wider]) > 0.4).all()
    opacity = ax.collections[0].get_colors()[:, 3]
    assert (np.diff(opacity) > 0).all()
    assert ax.get_legend().get_texts()[-1].get_text() == "0.02, the weakest"
    graph[0, 5] = graph[5, 0] = -20 * 0.001
    adata.varp["p"] = graph.tocsr()
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    assert ax.get_legend().get_texts()[-1].get_text() == "0.018 or weaker"  # 50 times weaker than the strongest


def test_significant_edges_alone():
    adata = with_module(12, density=0.4)
    precision = adata.varp["p"].tocoo()
    upper = np.triu(adata.varp["p"].toarray()[:12, :12], k=1)
    q_values = np.where(np.abs(precision.data) > 0.8, 0.01, 0.4)
    off = precision.row != precision.col
    adata.varp["q"] = sparse.csr_matrix((q_values[off], (precision.row[off], precision.col[off])), precision.shape)
    with pytest.raises(KeyError, match=r"This graph has no q-values|'q_value_key' not found"):
        kx.pl.gene_network(adata, module="0", q_max=0.05)
    adata.uns["med_magma"]["q_value_key"] = "q"
    (ax,) = kx.pl.gene_network(adata, module="0", q_max=0.05).axes
    assert edges(ax) == {"#0072B2": (upper < -0.8).sum(), "#D55E00": (upper > 0.8).sum()}
    n_tied = (np.abs(upper + upper.T) > 0.8).any(axis=0).sum()
    assert ax.get_title() == f"module 0: {n_tied} of 12 genes, edges with q ≤ 0.05"
    (ax,) = kx.pl.gene_network(adata, module="0", q_max=1.0).axes
    assert sum(edges(ax).values()) == (upper != 0).sum()
    with pytest.raises(ValueError, match="`q_max`"):
        kx.pl.gene_network(adata, module="0", q_max=0)


def test_the_module_with_most_genes_in_significant_edges_is_chosen():
    """Inside it, whatever its size; edges between modules do not count, and noise is the last choice."""
    adata = with_module(9, density=0.0)
    q_values = np.full((12, 12), 0.5)
    precision = adata.varp["p"].toarray()
    for j, k in ((0, 1), (2, 10), (3, 11), (4, 9), (9, 10), (10, 11)):
        precision[j, k] = precision[k, j] = -5.0
        q_values[j, k] = q_values[k, j] = 0.01
    adata.varp["p"], adata.varp["q"] = sparse.csr_matrix(precision), sparse.csr_matrix(q_values)
    adata.uns["med_magma"]["q_value_key"] = "q"
    for q_max, chosen in ((None, "0"), (0.05, "1"), (1e-3, "0")):
        (ax,) = kx.pl.gene_network(adata, q_max=q_max).axes
        assert ax.get_title().startswith(f"module {chosen}:"), q_max
    adata.uns["gene_module"]["table"] = pd.DataFrame({"noise": [False, True]}, index=["0", "1"])
    (ax,) = kx.pl.gene_network(adata, q_max=0.05).axes
    assert ax.get_title().startswith("module 0:")


def test_noise_is_called_so_and_not_chosen():
    adata = with_module(12, density=0.4)
    table = pd.DataFrame({"noise": [True, False]}, index=["0", "1"])
    adata.uns["gene_module"]["table"] = table
    (ax,) = kx.pl.gene_network(adata).axes
    assert ax.get_title().startswith("module 1: 3 genes")
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    assert ax.get_title().startswith("module 0 (noise): 12 genes")
    table["noise"] = True
    (ax,) = kx.pl.gene_network(adata).axes
    assert ax.get_title().startswith("module 0 (noise)")


def test_edges_join_their_genes():
    adata = with_module(6, density=0.5, name="g{}")
    (ax,) = kx.pl.gene_network(adata, module="0").axes
    place = {text.get_text(): tuple(text.xy) for text in ax.texts}
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
    weights = np.abs(adata.varp["p"].toarray()[:30, :30] - 10 * np.eye(30))
    degree = np.minimum(weights, np.median(weights.max(axis=1))).sum(axis=1)
    assert {text.get_text() for text in ax.texts} == {f"g{i}" for i in np.argsort(-degree)[:5]}
    assert ax.get_title() == "module 0: 5 of 30 genes"
    for kind, called in (("Gene Expression", "genes"), ("Antibody Capture", "proteins"), ("Custom", "features")):
        adata.var["feature_types"] = kind
        (ax,) = kx.pl.gene_network(adata, module="0", n_genes=5).axes
        assert ax.get_title() == f"module 0: 5 of 30 {called}"


def test_complete_graphs_are_thinned():
    (ax,) = kx.pl.gene_network(with_module(20, density=1.0), module="0").axes
    assert sum(edges(ax).values()) == 60
    assert ax.get_title() == "module 0: 20 genes,\nthe 60 strongest of 190 edges"
    (ax,) = kx.pl.gene_network(with_module(5, density=1.0), module="0").axes
    assert ax.get_title() == "module 0: 5 genes"  # all edges are among three for every gene
    weak = with_module(20, density=1.0)
    graph = weak.varp["p"].tolil()
    graph[0, 1:], graph[1:, 0] = 1e-9, 1e-9
    weak.varp["p"] = graph.tocsr()
    (ax,) = kx.pl.gene_network(weak, module="0").axes
    assert ax.get_title().endswith("the 60 strongest of 190 edges")  # none is without an edge


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
    place = {text.get_text(): text.xy for text in ax.texts}
    below = np.array([place[f"g{i}"] for i in range(tied, 20)])
    assert len(np.unique(below[:, 1].round(6))) <= 10  # rows, not a cloud
    assert below[:, 1].max() < min([place[f"g{i}"][1] for i in ring], default=np.inf)
    assert ax.get_title() == f"module 0: 20 genes, {20 - tied} without an edge"


@pytest.mark.parametrize("density", [0.1, 0.2, 0.3])
def test_edges_lead_past_the_genes_of_others(density):
    (ax,) = kx.pl.gene_network(with_module(30, density), module="0").axes
    places = np.array([text.xy for text in ax.texts])
    segments = np.concatenate([lines.get_segments() for lines in ax.collections])
    ends = np.array([[np.flatnonzero((places == end).all(axis=1))[0] for end in segment] for segment in segments])
    radius = ax.lines[0].get_markersize() / 2 / 72
    over = len(np.unique(crossed(places, ends, radius)[0]))
    assert over < 0.05 * len(ends)


def test_an_edge_over_a_node_is_noticed():
    places = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 0.1], [3.0, 0.9], [5.0, 0.0]])
    (edge,), (node,), (along,), (left,) = crossed(places, np.array([[0, 1]]), 0.2)
    assert (edge, node, along, left) == (0, 2, 0.25, 0.1)
    moved = spread(places, np.full((5, 2), 0.01), np.array([[0, 1]]), dot=0.2)
    assert not len(crossed(moved, np.array([[0, 1]]), 0.2)[0])


@pytest.mark.parametrize("name", ["$g_{{{}}}$", "a${}_{{b$", "g{}$", "$\\foo{}$", "{}$5$ and $6"])
def test_dollar_signs_are_no_mathematics(name):
    figure = kx.pl.gene_network(with_module(20, 0.2, name), module="0")
    figure.draw_without_rendering()
    assert {text.get_text() for text in figure.axes[0].texts} == {name.format(number) for number in range(20)}
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(("layout", "density"), [(None, 0.1), ("constrained", 0.1), (None, 0.02)])
def test_axes_of_the_user_hold_as_many_genes_as_fit(layout, density):
    figure, axes = plt.subplots(2, figsize=(4, 6), layout=layout)
    for ax in axes.flat:
        kx.pl.gene_network(with_module(57, density, "Gene{}"), module="0", n_genes=57, ax=ax)
    figure.draw_without_rendering()
    for ax in axes.flat:
        assert 8 < len(ax.texts) < 57
        assert ax.get_title().startswith(f"module 0: {len(ax.texts)} of 57 genes")
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        field = ax.get_window_extent().padded(2)
        assert all(field.x0 < box.x0 and box.x1 < field.x1 and field.y0 < box.y0 for box in boxes)
        assert ax.get_legend().get_window_extent().y1 < min(box.y0 for box in boxes) + 2
    plt.close(figure)


def test_many_long_names_make_no_figure_that_is_too_large():
    figure = kx.pl.gene_network(with_module(120, 0.05, "a gene with a long name, {}"), module="0", n_genes=120)
    assert max(figure.get_size_inches()) < 12


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
        [tuple(text.xy) for text in kx.pl.gene_network(with_module(15), module="0", random_state=s).axes[0].texts]
        for s in (0, 0, 1)
    ]
    assert places[0] == places[1]
    assert places[0] != places[2]


def test_edges_of_another_graph(tmp_path):
    """Modules of the graph of nearest neighbours, or of one's own, with the signs of a complete one."""
    adata = with_module(6, density=0.0, name="g{}")
    complete = -0.5 * np.ones((9, 9)) + np.diag(np.full(9, 2.5))
    complete[0, 1] = complete[1, 0] = 0.7
    adata.varp["q"] = sparse.csr_matrix(complete)
    adata.uns["full"] = {"precision_key": "q"}
    assert not kx.pl.gene_network(adata).axes[0].collections
    (ax,) = kx.pl.gene_network(adata, neighbors_key="full").axes
    assert len(ax.collections) == 2
    adata.var["mine"] = "all"
    (ax,) = kx.pl.gene_network(adata, modules="mine", neighbors_key="full").axes
    assert ax.get_title().startswith("module all: 9 genes")
    with pytest.raises(
        KeyError, match=r"in which graph the modules of `adata\.var\['mine'\]` were found\. Name it with"
    ):
        kx.pl.gene_network(adata, modules="mine")


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
    with pytest.raises(KeyError, match=r"Run kx\.tl\.gene_modules first; it finds none in a gene graph without edges"):
        kx.pl.gene_network(adata, module="0", modules="mine")
    del adata.varp["p"]
    with pytest.raises(KeyError, match=r"Run kx\.tl\.med_magma first"):
        kx.pl.gene_network(adata)


def test_genes_without_a_significant_edge_are_left_out():
    adata = with_module(12, density=0.4)
    q_values = sparse.lil_matrix(adata.varp["p"].shape)
    upper = sparse.triu(adata.varp["p"][:12][:, :12], k=1).tocoo()
    q_values[upper.row, upper.col] = 0.9
    q_values[upper.row[0], upper.col[0]] = 0.01
    adata.varp["q"] = q_values.tocsr() + q_values.tocsr().T
    adata.uns["med_magma"]["q_value_key"] = "q"
    (ax,) = kx.pl.gene_network(adata, module="0", q_max=0.05).axes
    assert ax.get_title() == "module 0: 2 of 12 genes, edges with q ≤ 0.05"
    (ax,) = kx.pl.gene_network(adata, module="0", q_max=0.001).axes
    assert ax.get_title() == "module 0: 12 genes, edges with q ≤ 0.001, 12 without an edge"
