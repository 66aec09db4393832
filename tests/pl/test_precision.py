"""kx.pl.precision: what it shows and where, and that every name can be read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from scipy import sparse

import kronax as kx


def with_groups(n: int, n_groups: int) -> ad.AnnData:
    """Cells of groups, in no order: negative precision within them, positive between."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.arange(n) % n_groups)
    same = group[:, None] == group
    precision = np.where(same, -0.1, 0.05) + np.eye(n)
    adata = ad.AnnData(np.ones((n, 2)), obsp={"p": sparse.csr_matrix(precision)})
    adata.obs["group"] = pd.Categorical([f"a group of cells, {number:03d}" for number in group])
    adata.uns["med_magma"] = {"precision_key": "p"}
    return adata


def fields(figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_groups_lie_along_the_diagonal():
    figure = kx.pl.precision(with_groups(30, 3), groupby="group")
    shown = fields(figure)
    block = np.kron(np.eye(3), np.ones((10, 10))) - np.eye(30)
    assert (shown[block > 0] > 0).all()
    assert (shown[np.kron(1 - np.eye(3), np.ones((10, 10))) > 0] < 0).all()
    assert not shown.diagonal().any()
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high < 0


def test_members_of_a_group_stand_in_the_order_of_their_ties():
    adata = with_groups(30, 3)
    half = np.triu(np.random.default_rng(1).uniform(0.0, 0.2, (30, 30)), 1)
    adata.obsp["p"] = sparse.csr_matrix(np.eye(30) - half - half.T)
    shown = fields(kx.pl.precision(adata, groupby="group"))
    for start in (0, 10, 20):
        ties = shown[start : start + 10, start : start + 10].sum(axis=1)
        assert (np.diff(ties) < 0).all()


def test_a_field_of_several_entries_shows_the_largest():
    adata = with_groups(900, 1)
    half = np.zeros((900, 900))
    half[np.triu_indices(6, 1)] = np.linspace(0.01, 0.15, 15)
    adata.obsp["p"] = sparse.csr_matrix(np.eye(900) - half - half.T)
    assert np.abs(fields(kx.pl.precision(adata, groupby="group"))).max() == pytest.approx(0.15 / 2)  # both axes count 1


def test_genes_without_a_group_stand_at_the_end():
    adata = with_groups(30, 3)
    flipped = ad.AnnData(adata.X.T, var=adata.obs, varp={"p": adata.obsp["p"]}, uns=adata.uns)
    flipped.var.loc[flipped.var["group"] == "a group of cells, 001", "group"] = None
    figure = kx.pl.precision(flipped, groupby="group", axis="var")
    assert [text.get_text()[-3:] for text in figure.axes[0].texts] == ["000", "002", "bel"]
    assert figure.axes[0].texts[-1].get_text() == "no label"
    assert (fields(figure)[:20, 20:] < 0).all()  # those without one, apart from both groups
    assert figure.axes[0].get_xlabel() == "30 genes, by group"


@pytest.mark.parametrize(("n", "n_groups"), [(20, 3), (20, 20), (200, 3), (200, 25), (200, 60), (900, 200)])
def test_names_can_be_read(n, n_groups):
    figure = kx.pl.precision(with_groups(n, n_groups), groupby="group")
    assert max(fields(figure).shape) <= 400
    for dpi in (72, 150):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(boxes) == n_groups or n_groups == 200
        assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False))
        assert min(box.x0 for box in boxes) >= 0
        drawn, line = figure.axes[0].get_window_extent(), boxes[0].height
        assert all(drawn.y0 - line / 2 <= box.y0 and box.y1 <= drawn.y1 + line / 2 for box in boxes)


@pytest.mark.parametrize("sizes", [[1] * 23 + [100, 77], [90] + [1] * 10 + [100]])  # more than have room, and fewer
def test_lines_lead_to_the_names_of_narrow_groups(sizes):
    adata, names = with_groups(200, 25), [f"g{i:02d}" for i in range(len(sizes))]
    adata.obs["group"] = pd.Categorical(np.repeat(names, sizes))
    figure = kx.pl.precision(adata, groupby="group")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    bounds = np.r_[0, np.cumsum(sizes)]
    leaders = [line.get_ydata() for line in ax.lines if max(line.get_xdata()) < 0]
    assert [text.get_text() for text in ax.texts] == names
    ends = {text.get_position()[1]: group for group, text in enumerate(ax.texts)}
    assert len(leaders) == len(sizes)
    for centre, place in leaders:
        group = ends[place]
        assert centre == (bounds[group] + bounds[group + 1]) / 2
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False))


def test_wide_groups_need_no_lines():
    ax = kx.pl.precision(with_groups(200, 3), groupby="group").axes[0]
    np.testing.assert_allclose([text.get_position()[1] for text in ax.texts], [33.5, 100.5, 167.0])
    assert len(ax.lines) == 2 * 2


def test_fields_share_the_largest_value():
    adata = with_groups(800, 2)
    adata.obsp["p"] = sparse.csr_matrix(
        (np.r_[np.ones(800), [-0.5, -0.5]], (np.r_[np.arange(800), [0, 799]], np.r_[np.arange(800), [799, 0]]))
    )
    figure = kx.pl.precision(adata, groupby="group")
    shown = fields(figure)
    assert shown.shape == (400, 400)
    assert figure.axes[1].get_ylabel() == "partial correlation\n(largest of each field)"
    assert kx.pl.precision(with_groups(400, 2), groupby="group").axes[1].get_ylabel() == "partial correlation"
    assert np.count_nonzero(shown) in (
        1,
        2,
    )  # one pair of cells, on both sides of the diagonal unless they share a field
    assert shown.max() == pytest.approx(0.5 / 2)  # every diagonal is 1, and so is their mean


def test_colours_of_the_groups():
    adata = with_groups(30, 3)
    adata.uns["group_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    ax = kx.pl.precision(adata, groupby="group").axes[0]
    assert [to_hex(patch.get_facecolor()) for patch in ax.patches] == adata.uns["group_colors"]
    without = adata[adata.obs["group"] != "a group of cells, 001"].copy()
    without.uns["group_colors"] = adata.uns["group_colors"][::2]
    ax = kx.pl.precision(without, groupby="group").axes[0]
    assert [to_hex(patch.get_facecolor()) for patch in ax.patches] == ["#ff0000", "#0000ff"]


@pytest.mark.parametrize("colors", [[(1, 0, 0), (0, 1, 0), (0, 0, 1)], np.eye(3), ["red", "lime", "blue"]])
def test_colours_in_any_form(colors):
    adata = with_groups(30, 3)
    adata.uns["group_colors"] = colors
    ax = kx.pl.precision(adata, groupby="group").axes[0]
    assert [to_hex(patch.get_facecolor()) for patch in ax.patches] == ["#ff0000", "#00ff00", "#0000ff"]


@pytest.mark.parametrize(
    "colors", [["red", "nonsense", "blue"], [1.5, 2.5, 3.5], dict.fromkeys(["nonsense", "b", "c"], "red")]
)
def test_what_is_no_colour_is_left_out(colors):
    adata = with_groups(30, 3)
    adata.uns["group_colors"] = colors
    with pytest.warns(UserWarning, match=r"`uns\['group_colors'\]`.*(nonsense|2\.5).*left out"):
        ax = kx.pl.precision(adata, groupby="group").axes[0]
    assert not ax.patches


def test_fields_of_complete_graphs_show_means():
    adata = with_groups(900, 3)
    figure = kx.pl.precision(adata, groupby="group")
    assert figure.axes[1].get_ylabel() == "partial correlation\n(mean of each field)"
    shown, entries = fields(figure), np.asarray(adata.obsp["p"].toarray())
    assert shown[0, -1] == pytest.approx(-0.05 / 1.8)  # every diagonal is 0.9, and so is their mean
    order = np.argsort(adata.obs["group"], kind="stable")
    expected = -(entries - 0.9 * np.eye(900))[np.ix_(order, order)].sum() / 1.8
    size = np.bincount(np.arange(900) * 400 // 900)
    assert (shown * np.outer(size, size)).sum() == pytest.approx(expected)


@pytest.mark.parametrize(("n", "n_groups", "n_lines"), [(200, 3, 2), (900, 40, 39), (900, 200, 0)])
def test_lines_between_many_groups_do_not_hide_the_data(n, n_groups, n_lines):
    ax = kx.pl.precision(with_groups(n, n_groups), groupby="group").axes[0]
    between = [line for line in ax.lines if max(line.get_xdata()) >= 0]
    assert len(between) == 2 * n_lines
    assert all(line.get_linewidth() == 0.4 * min(1, (10 / n_groups) ** 0.5) for line in between)


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_names_fit_the_axes_of_the_user(layout):
    figure, ax = plt.subplots(figsize=(5, 10), layout=layout)
    kx.pl.precision(with_groups(400, 40), groupby="group", ax=ax)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) > 5
    assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False))
    plt.close(figure)


def test_the_other_axis_is_named_where_the_column_is_there():
    adata = with_groups(20, 2)
    adata.var["gene_module"] = "0"
    with pytest.raises(KeyError, match=r"not found in `adata\.obs`.*It is in adata\.var: pass `axis='var'`"):
        kx.pl.precision(adata, groupby="gene_module")


def test_axes_of_the_user_and_file(tmp_path):
    figure, ax = plt.subplots()
    adata = with_groups(20, 2)
    before = adata.copy()
    assert kx.pl.precision(adata, groupby="group", ax=ax, save=tmp_path / "p.pdf") is figure
    assert (tmp_path / "p.pdf").stat().st_size > 0
    assert str(adata) == str(before)
    plt.close(figure)


def test_what_is_not_there():
    adata = with_groups(20, 2)
    with pytest.raises(KeyError, match="'none' not found in `adata.obs`"):
        kx.pl.precision(adata, groupby="none")
    with pytest.raises(ValueError, match="`axis`"):
        kx.pl.precision(adata, groupby="group", axis="cells")
    with pytest.raises(KeyError, match=r"Pass `neighbors_key=`, one of \['med_magma'\]"):
        kx.pl.precision(adata, groupby="group", neighbors_key="other")
    adata.obs["score"] = np.arange(20.0)
    kx.pl.precision(adata, groupby="score")
    many = with_groups(101, 2)
    many.obs["score"] = np.arange(101.0)
    with pytest.raises(ValueError, match=r"`adata\.obs\['score'\]` has 101 groups; at most 100 can be drawn"):
        kx.pl.precision(many, groupby="score")
    adata.obs["group"] = None
    with pytest.raises(ValueError, match="are missing"):
        kx.pl.precision(adata, groupby="group")
