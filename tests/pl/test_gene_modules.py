"""kx.pl.gene_modules: what it shows, and that every label can be read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import sparse

import kronax as kx


def with_modules(n_modules: int, n_genes: int, n_groups: int, name=str) -> ad.AnnData:
    """Genes in modules, cells in groups; the weights grow with the position of a gene."""
    rng = np.random.default_rng(0)
    n_cells = 20 * n_groups
    module = np.arange(n_genes) % n_modules
    group = np.arange(n_cells) % n_groups
    raised = 1 + 3 * (group[:, None] == module % n_groups)
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(raised).astype(np.float32)))
    adata.obs["group"] = pd.Categorical([name(number) for number in group])
    adata.var["gene_module"] = pd.Categorical(module.astype(str))
    weights = np.where(module[:, None] == module, 1.0 + np.add.outer(np.arange(n_genes), np.arange(n_genes)), 0.1)
    np.fill_diagonal(weights, 0)
    adata.varp["med_magma_connectivities"] = sparse.csr_matrix(weights)
    adata.uns["med_magma"] = {"connectivities_key": "med_magma_connectivities"}
    adata.uns["gene_module"] = {"params": {"neighbors_key": "med_magma"}}
    return adata


@pytest.fixture
def small() -> ad.AnnData:
    """Six cells of two groups, one of none; modules of genes 0 to 2 and 3 to 4, gene 5 in none."""
    counts = np.array(
        [[4, 2, 2, 1, 1, 0], [5, 3, 0, 1, 1, 10], [1, 0, 0, 6, 3, 0], [0, 1, 1, 4, 4, 0], [2, 2, 2, 2, 2, 0], [0] * 6]
    )
    adata = ad.AnnData(
        counts.astype(float), obs=pd.DataFrame({"type": ["b", "b", "a", "a", None, "a"]}, index=[*"uvwxyz"])
    )
    adata.var["gene_module"] = pd.Categorical(["0", "0", "0", "1", "1", None])
    adata.var["symbol"] = [*"ABCDEF"]
    graph = np.zeros((6, 6))
    for i, j, weight in [(0, 1, 0.2), (1, 2, 0.9), (3, 4, 0.5), (0, 3, 5.0)]:  # the last between modules
        graph[i, j] = graph[j, i] = weight
    adata.varp["graph"] = sparse.csr_matrix(graph)
    adata.uns["med_magma"] = {"connectivities_key": "graph"}
    adata.uns["gene_module"] = {"params": {"neighbors_key": "med_magma"}}
    return adata


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def rows(ax) -> list[tuple[str, str]]:
    """The two columns beside the heat map: hub genes, and the module with the number of its genes."""
    module = [text.get_text() for text in ax.texts[: len(ax.get_yticklabels())]]
    return list(zip(labels(ax.yaxis), module, strict=True))


def test_values(small):
    figure = kx.pl.gene_modules(small, groupby="type", n_hubs=2)
    with np.errstate(invalid="ignore"):
        share = pd.DataFrame({"0": small.X[:, :3].sum(1), "1": small.X[:, 3:5].sum(1)}) / small.X.sum(1)[:, None]
    share = share.iloc[:5]  # the last cell has no counts and so no shares
    score = (share - share.mean()) / share.std(ddof=0)
    expected = score.groupby(small.obs["type"].to_numpy()[:5]).mean()  # without the cell of no group
    ax = figure.axes[0]
    assert labels(ax.xaxis) == ["a", "b"]
    assert rows(ax) == [("3, 4", "1 (2)"), ("1, 2", "0 (3)")]  # in the order of the groups: 1 in a, 0 in b
    shown = np.asarray(ax.collections[0].get_array()).reshape(2, 2)
    np.testing.assert_allclose(shown, expected[["1", "0"]].T, rtol=1e-12)


def test_groups_without_counts_are_grey(small):
    small.obs["type"] = pd.Categorical(["b", "b", "c", "c", None, "a"])
    figure = kx.pl.gene_modules(small, groupby="type")
    ax = figure.axes[0]
    figure.draw_without_rendering()
    assert labels(ax.xaxis) == ["a (no counts)", "b", "c"]
    colors = ax.collections[0].get_facecolor().reshape(2, 3, 4)
    np.testing.assert_allclose(colors[:, 0], [[0.8, 0.8, 0.8, 1.0]] * 2)
    assert (np.ptp(colors[:, 1:, :3], axis=2) > 0.1).all()
    assert rows(ax)[0][1] == "0 (3)"  # most active in b
    small.obs["type"] = pd.Categorical([None] * 5 + ["a"])
    assert labels(kx.pl.gene_modules(small, groupby="type").axes[0].xaxis) == ["a (no counts)"]


def test_colours_are_centred(small):
    figure = kx.pl.gene_modules(small, groupby="type")
    low, high = figure.axes[0].collections[0].get_clim()
    assert low == -high < 0
    assert figure.axes[1].get_ylabel() == "mean standardised\nactivity"


def test_what_hardly_differs_looks_alike(small):
    """One group is at the average, but for rounding."""
    small.obs["type"] = pd.Categorical(["a"] * 6)
    assert kx.pl.gene_modules(small, groupby="type").axes[0].collections[0].get_clim() == (-0.5, 0.5)


def test_colours_of_the_groups(small):
    assert not kx.pl.gene_modules(small, groupby="type").axes[0].patches
    small.uns["type_colors"] = ["#ff0000", (0.0, 0.0, 1.0)]
    figure = kx.pl.gene_modules(small, groupby="type")
    ax = figure.axes[0]
    assert [to_hex(patch.get_facecolor()) for patch in ax.patches] == ["#ff0000", "#0000ff"]
    figure.draw_without_rendering()
    boxes, field = [patch.get_window_extent() for patch in ax.patches], ax.get_window_extent()
    np.testing.assert_allclose(
        [(box.x0, box.x1) for box in boxes], np.array([[0, 0.5], [0.5, 1]]) * field.width + field.x0
    )
    assert max(text.get_window_extent().y1 for text in ax.get_xticklabels()) < boxes[0].y0 < boxes[0].y1 < field.y0


def test_figures_do_not_grow_without_end():
    figure = kx.pl.gene_modules(with_modules(267, 534, 100, lambda number: f"cluster {number}"), groupby="group")
    assert max(figure.get_size_inches()) < 14
    ax = figure.axes[0]
    assert "1 in 5 named" in ax.texts[-2].get_text()
    figure.draw_without_rendering()
    rows = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in zip(rows, rows[1:], strict=False))
    titles = [text.get_window_extent() for text in ax.texts[-2:]]
    assert titles[1].x1 < titles[0].x0


@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize(("n_groups", "size"), [(60, (7, 5)), (14, (5, 3)), (11, (5, 3))])
def test_names_fit_the_axes_of_the_user(layout, n_groups, size):
    adata = with_modules(20, 40, n_groups, lambda number: f"cell type {number:02d}")
    figure, ax = plt.subplots(figsize=size, layout=layout)
    kx.pl.gene_modules(adata, groupby="group", ax=ax)
    figure.draw_without_rendering()
    centres = np.array([ax.transData.transform((place, 0))[0] for place in ax.get_xticks()])
    upright = ax.get_xticklabels()[0].get_rotation() == 90
    assert np.diff(centres).min() > (1.0 if upright else 1.4) * 1.2 * 8 * figure.dpi / 72
    rows = [text.get_window_extent() for text in ax.texts[:-2]]
    assert all(above.y0 > below.y1 for above, below in zip(rows, rows[1:], strict=False))
    assert ax.get_window_extent().width > 0.3 * figure.bbox.width
    plt.close(figure)


@pytest.mark.parametrize("name", ["a$_{{b{}$", "$\\foo{}$", "{}$"])
@pytest.mark.parametrize("ax", [True, False])
def test_dollar_signs_are_no_mathematics(name, ax):
    adata = with_modules(4, 40, 3, name.format)
    adata.var_names = [name.format(number) for number in range(40)]
    ax = plt.subplots(figsize=(9, 4))[1] if ax else None
    figure = kx.pl.gene_modules(adata, groupby="group", ax=ax)
    figure.draw_without_rendering()
    assert labels(figure.axes[0].xaxis) == [name.format(number) for number in range(3)]
    plt.close("all")


def test_layer_and_names(small):
    small.layers["counts"] = small.X.copy()
    small.X = -small.X
    with pytest.raises(ValueError, match="negative values"):
        kx.pl.gene_modules(small, groupby="type")
    figure = kx.pl.gene_modules(small, groupby="type", layer="counts", gene_symbols="symbol", n_hubs=1)
    assert rows(figure.axes[0]) == [("D", "1 (2)"), ("B", "0 (3)")]
    small.var["symbol"] = pd.Categorical(["A", None, *"CDEF"])
    figure = kx.pl.gene_modules(small, groupby="type", layer="counts", gene_symbols="symbol", n_hubs=1)
    assert rows(figure.axes[0]) == [("D", "1 (2)"), ("1", "0 (3)")]


def test_layer_is_that_of_the_graph(small):
    small.layers["counts"] = small.X.copy()
    expected = kx.pl.gene_modules(small, groupby="type").axes[0].collections[0].get_array()
    small.X = -small.X
    small.uns["med_magma"]["params"] = {"layer": "counts"}
    found = kx.pl.gene_modules(small, groupby="type").axes[0].collections[0].get_array()
    np.testing.assert_array_equal(found, expected)
    for learnt_from in ("gone", None):
        small.uns["med_magma"]["params"] = {"layer": learnt_from}
        with pytest.raises(ValueError, match="negative values"):
            kx.pl.gene_modules(small, groupby="type")


def test_one_module_with_everything(small):
    small.var["gene_module"] = pd.Categorical(["0"] * 6)
    figure = kx.pl.gene_modules(small, groupby="type")
    assert not np.any(figure.axes[0].collections[0].get_array())


@pytest.mark.parametrize(
    ("n_modules", "n_genes", "n_groups", "name"),
    [
        (2, 20, 2, str),
        (2, 2000, 12, lambda number: f"T cell {number}"),
        (30, 60, 3, lambda number: f"a cell type with a long name, {number}"),
        (30, 2000, 25, lambda number: f"$group_{number}$"),
    ],
)
def test_labels_can_be_read(n_modules, n_genes, n_groups, name):
    adata = with_modules(n_modules, n_genes, n_groups, name)
    adata.var_names = [f"ENSG{number:011d}" for number in range(n_genes)]
    figure = kx.pl.gene_modules(adata, groupby="group")
    assert isinstance(figure, Figure)
    ax = figure.axes[0]
    assert len(labels(ax.yaxis)) == n_modules
    assert len(labels(ax.xaxis)) == n_groups
    assert not any(text.get_parse_math() for text in [*ax.get_xticklabels(), *ax.get_yticklabels()])
    for dpi in (100, 150):
        figure.set_dpi(dpi)
        box = figure.get_tightbbox()  # also moves the labels to their places
        rows = [text.get_window_extent() for text in ax.get_yticklabels()]
        assert all(above.y0 > below.y1 for above, below in zip(rows, rows[1:], strict=False))
        *modules, title, hub_title = [text.get_window_extent() for text in ax.texts]
        assert max(text.x1 for text in [*rows, hub_title]) < min(text.x0 for text in [*modules, title])
        assert max(text.x1 for text in [*modules, title]) < ax.get_window_extent().x0
        assert min(title.y0, hub_title.y0) > max(text.y1 for text in [*rows, *modules])
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert (box.max <= figure.get_size_inches()).all()
        slanted = [text.get_window_extent().x1 for text in ax.get_xticklabels()]
        assert (np.diff(slanted) > 10 * dpi / 100).all()


def test_noise_is_last_pale_and_marked(small):
    small.uns["gene_module"]["table"] = pd.DataFrame({"noise": [False, True]}, index=["0", "1"])
    figure = kx.pl.gene_modules(small, groupby="type", n_hubs=2)
    ax = figure.axes[0]
    assert rows(ax) == [("1, 2", "0 (3)"), ("3, 4", "1 (2), noise")]
    first, second = ax.get_yticklabels()
    assert (first.get_color(), second.get_color()) == ("black", "0.6")
    assert [text.get_color() for text in ax.texts[:2]] == ["black", "0.6"]
    (pale,) = ax.patches
    low, high = sorted(ax.transData.inverted().transform(pale.get_window_extent())[:, 1])
    assert (low, high) == pytest.approx((1, 2))


def test_small_modules_can_be_left_out(small):
    assert rows(kx.pl.gene_modules(small, groupby="type", min_genes=3).axes[0]) == [("1, 2, 0", "0 (3)")]
    with pytest.raises(ValueError, match="No module has 4 genes; the largest has 3"):
        kx.pl.gene_modules(small, groupby="type", min_genes=4)


def test_order_of_the_modules(small):
    assert [name for _, name in rows(kx.pl.gene_modules(small, groupby="type", order="modules").axes[0])] == [
        "0 (3)",
        "1 (2)",
    ]
    with pytest.raises(ValueError, match=r"`order` must be one of \['groups', 'modules'\]"):
        kx.pl.gene_modules(small, groupby="type", order="size")


def test_data_are_left_alone(small):
    before = small.copy()
    kx.pl.gene_modules(small, groupby="type")
    assert str(small) == str(before)
    pd.testing.assert_frame_equal(small.obs, before.obs)
    pd.testing.assert_frame_equal(small.var, before.var)
    np.testing.assert_array_equal(small.X, before.X)
    assert small.uns == before.uns
    assert (small.varp["graph"] != before.varp["graph"]).nnz == 0


def test_axes_of_the_user(small):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    size = figure.get_size_inches().copy()
    assert kx.pl.gene_modules(small, groupby="type", ax=axes[1]) is figure
    assert not axes[0].collections
    np.testing.assert_array_equal(figure.get_size_inches(), size)
    plt.close(figure)


@pytest.mark.parametrize(("left", "n_hubs"), [(0.15, 0), (0.45, 1), (0.65, 2), (0.85, 3)])
def test_no_label_leaves_the_axes_of_the_user(left, n_hubs):
    adata = with_modules(4, 40, 3)
    adata.var_names = [f"ENSG{number:011d}" for number in range(40)]
    figure = plt.figure(figsize=(6, 3))
    axes = [figure.add_axes(place) for place in ((0.01, 0.1, 0.04, 0.8), (left, 0.1, 0.95 - left, 0.8))]
    kx.pl.gene_modules(adata, groupby="group", ax=axes[1])
    figure.draw_without_rendering()
    texts = [text for text in [*axes[1].get_yticklabels(), *axes[1].texts] if text.get_text()]
    assert min(text.get_window_extent().x0 for text in texts) > axes[0].get_window_extent().x1 - 1
    n_named = {len(text.get_text().split(", ")) * bool(text.get_text()) for text in axes[1].get_yticklabels()}
    assert n_named == {n_hubs}
    plt.close(figure)


def test_layout_engines_make_room_for_all_hubs():
    figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    kx.pl.gene_modules(with_modules(4, 40, 3), groupby="group", ax=ax)
    figure.draw_without_rendering()
    assert {text.get_text().count(", ") for text in ax.get_yticklabels()} == {2}
    assert min(text.get_window_extent().x0 for text in ax.get_yticklabels()) > 0
    plt.close(figure)


def test_no_figure_stays_open(small):
    before = plt.get_fignums()
    kx.pl.gene_modules(small, groupby="type")
    assert plt.get_fignums() == before


def test_show_opens_a_window(small, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.get_fignums()))
    figure = kx.pl.gene_modules(small, groupby="type", show=True)
    assert figure.number in shown
    plt.close(figure)


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_save(small, tmp_path, ending):
    kx.pl.gene_modules(small, groupby="type", save=tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").read_bytes()[:4] in {b"\x89PNG", b"%PDF"}


def test_numbers_and_long_names_as_groups(small):
    small.obs["type"] = [2, 2, 10, 10, 2, 10]
    assert labels(kx.pl.gene_modules(small, groupby="type").axes[0].xaxis) == ["2", "10"]
    small.obs["type"] = ["x" * 40 + "1", "x" * 40 + "2", *"abcd"]
    assert labels(kx.pl.gene_modules(small, groupby="type").axes[0].xaxis)[-2:] == [
        "x" * 15 + "…" + "x" * 13 + end for end in "12"
    ]
    same_when_cut = ["x" * 20 + middle + "x" * 20 for middle in "12"]
    small.obs["type"] = [*same_when_cut, *"abcd"]
    assert labels(kx.pl.gene_modules(small, groupby="type").axes[0].xaxis)[-2:] == [
        "x" * 7 + f"…x{middle}" + "x" * 12 + "…" + "x" * 6 for middle in "12"
    ]


def test_too_many_groups():
    adata = with_modules(2, 10, 101)
    with pytest.raises(ValueError, match=r"`adata\.obs\['group'\]` has 101 groups; at most 100 can be drawn\. Name"):
        kx.pl.gene_modules(adata, groupby="group")
    adata.obs.loc[adata.obs["group"] == "7", "group"] = None
    ax = kx.pl.gene_modules(adata, groupby="group").axes[0]
    assert labels(ax.xaxis) == [str(name) for name in sorted(set(map(str, range(101))) - {"7"})][::2]
    assert ax.get_xlabel() == "group, 1 in 2 named"


def test_colour_bar_has_one_line_where_there_is_room():
    figure = kx.pl.gene_modules(with_modules(12, 24, 3), groupby="group")
    assert figure.axes[1].get_ylabel() == "mean standardised activity"
    label = figure.axes[1].yaxis.label
    figure.draw_without_rendering()
    assert label.get_window_extent().height <= figure.axes[1].get_window_extent().height


def test_what_is_not_there(small):
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.obs`.*\['type'\]"):
        kx.pl.gene_modules(small, groupby="none")
    with pytest.raises(KeyError, match=r"'mine' not found in `adata\.var`.*Run kx\.tl\.gene_modules first"):
        kx.pl.gene_modules(small, groupby="type", modules="mine")
    with pytest.raises(
        KeyError, match=r"in which graph the modules of `adata\.var\['symbol'\]` were found.*run kx\.tl\.gene_modules"
    ):
        kx.pl.gene_modules(small, groupby="type", modules="symbol")
    with pytest.raises(KeyError, match="'counts' not found"):
        kx.pl.gene_modules(small, groupby="type", layer="counts")
    with pytest.raises(KeyError, match="'names' not found"):
        kx.pl.gene_modules(small, groupby="type", gene_symbols="names")
    with pytest.raises(ValueError, match="`n_hubs` must be an integer of at least 1"):
        kx.pl.gene_modules(small, groupby="type", n_hubs=0)
    small.obs["type"] = None
    with pytest.raises(ValueError, match="All values of .* are missing"):
        kx.pl.gene_modules(small, groupby="type")
    del small.varp["graph"]
    with pytest.raises(KeyError, match=r"Run kx\.tl\.med_magma first"):
        kx.pl.gene_modules(small, groupby="type")
