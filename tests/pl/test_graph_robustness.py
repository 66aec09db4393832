"""kx.pl.graph_robustness: what it shows."""

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import kronax as kx


def with_result(n_shares=7, n_repeats=20, measure="vi") -> ad.AnnData:
    rng = np.random.default_rng(0)
    shares = np.linspace(0, 0.6, n_shares)
    adata = ad.AnnData(np.zeros((2, 2)))
    adata.uns["graph_robustness"] = {
        "shares": shares,
        "graph": 0.3 * shares + 0.03 * rng.random((n_repeats, n_shares)),
        "random": 0.4 + 0.3 * shares + 0.1 * rng.random((n_repeats, n_shares)),
        "params": {"measure": measure},
    }
    return adata


def test_lines_and_bands():
    adata = with_result()
    ax = kx.pl.graph_robustness(adata).axes[0]
    result = adata.uns["graph_robustness"]
    for line, band, name in zip(ax.lines, ax.collections, ("graph", "random"), strict=True):
        np.testing.assert_allclose(line.get_xdata(), 100 * result["shares"])
        np.testing.assert_allclose(line.get_ydata(), result[name].mean(axis=0))
        (box,) = [path.get_extents() for path in band.get_paths()]
        low, high = np.percentile(result[name], [5, 95], axis=0)
        assert (box.y0, box.y1) == pytest.approx((low.min(), high.max()))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["this graph", "random, same degrees"]


@pytest.mark.parametrize(("measure", "words"), [("vi", "variation of information"), ("ami", "adjusted mutual")])
def test_measure_is_named(measure, words):
    assert words in kx.pl.graph_robustness(with_result(measure=measure)).axes[0].get_ylabel()


@pytest.mark.parametrize("n", [2, 20, 200])
def test_everything_is_inside_and_nothing_overlaps(n):
    figure = kx.pl.graph_robustness(with_result(n_shares=n, n_repeats=n))
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    box, size = figure.get_tightbbox(), figure.get_size_inches()
    assert (box.min >= 0).all()
    assert (box.max <= size).all()
    ax = figure.axes[0]
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    assert (len(ax.lines[0].get_marker()) == 1) == (n <= 25)


def test_axes_of_the_user_and_no_open_figure(tmp_path):
    before = plt.get_fignums()
    figure, axes = plt.subplots(1, 2)
    assert kx.pl.graph_robustness(with_result(), ax=axes[1], save=tmp_path / "x.png") is figure
    assert not axes[0].lines
    plt.close(figure)
    assert (tmp_path / "x.png").stat().st_size
    kx.pl.graph_robustness(with_result())
    assert plt.get_fignums() == before


def test_show_opens_a_window(monkeypatch):
    before, shown = plt.get_fignums(), []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    figure = kx.pl.graph_robustness(with_result(), show=True)
    assert shown == [[*before, figure.number]]
    plt.close(figure)


def test_what_is_not_there():
    adata = with_result()
    with pytest.raises(KeyError, match=r"'mine' not found in `adata\.uns`.*Run kx\.tl\.graph_robustness first"):
        kx.pl.graph_robustness(adata, key="mine")
    adata.uns["mine"] = {}
    with pytest.raises(KeyError, match="'shares' not found"):
        kx.pl.graph_robustness(adata, key="mine")
