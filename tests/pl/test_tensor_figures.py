"""kx.pl figures of tensors: what they show, and that every text can be read."""

import inspect
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from mudata import MuData
from sklearn.metrics import auc

import kronax as kx
from kronax._data import tensor as tensors
from kronax.metrics import CrossValidation, DensityCurve
from kronax.pl import _best_method
from kronax.pl._methods import COLORS, styles_of

NAN = np.nan
METHODS = ["dnpp", "mean_2d", "mean_1d"]
LONG = {"a method with quite a long name, really": "mean_1d", "$x_1$": "mean_2d", **dict.fromkeys("abcde", "mean_1d")}


@pytest.fixture(scope="module")
def small():
    return kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=30, rank=2, missing=0.3)


@pytest.fixture(scope="module")
def large():
    return kx.datasets.drug_response(n_treatments=200, n_contexts=70, n_genes=70, rank=2, missing=0.8)


@pytest.fixture(scope="module")
def result(small):
    return kx.metrics.cross_validate(small, methods=METHODS, n_folds=4)


@pytest.fixture(scope="module")
def large_result(large):
    return kx.metrics.cross_validate(large, methods=LONG, n_folds=3)


@pytest.fixture(scope="module")
def curve(small):
    return kx.metrics.density_curve(small, methods=METHODS, densities=[0.2, 0.4, 0.6], n_repeats=3)


def most_held_out(result) -> str:
    return result.profiles.obs["treatment"].mode()[0]


def assert_readable(figure: Figure) -> None:
    """Every text lies within the figure, and none upon another."""
    for dpi in (100, 150):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        width, height = figure.get_size_inches() * dpi
        boxes = []
        for ax in figure.axes:
            texts = [ax.xaxis.label, ax.yaxis.label, ax.title, *ax.texts]
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                texts += [t.label1 for t in axis.get_major_ticks() if low - 1e-9 <= t.get_loc() <= high + 1e-9]
            if (legend := ax.get_legend()) is not None:
                texts += [*legend.get_texts(), legend.get_title()]
            boxes += [(t.get_text(), t.get_window_extent()) for t in texts if t.get_visible() and t.get_text()]
        for text, box in boxes:
            assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
        x0, y0, x1, y1 = np.array([box.extents for _, box in boxes]).T
        across = np.minimum.outer(x1, x1) - np.maximum.outer(x0, x0)
        down = np.minimum.outer(y1, y1) - np.maximum.outer(y0, y0)
        upon = np.argwhere(np.triu(np.minimum(across, down) >= 1, 1))
        assert [(boxes[i][0], boxes[j][0]) for i, j in upon] == []


def legend_texts(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def field_colors(ax) -> np.ndarray:
    mesh = ax.collections[0]
    return mesh.cmap(mesh.norm(np.asarray(mesh.get_array())))


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    "draw", [kx.pl.best_method, kx.pl.predicted_against_true, kx.pl.deg_roc, kx.pl.cell_specificity]
)
def test_figures_of_results_can_be_read(request, draw, size):
    found = request.getfixturevalue("result" if size == "small" else "large_result")
    assert_readable(draw(found))


@pytest.mark.parametrize("size", ["small", "large"])
def test_other_figures_can_be_read(request, size):
    mdata = request.getfixturevalue(size)
    assert_readable(kx.pl.measured_fibers(mdata))
    assert_readable(kx.pl.cell_specificity(mdata, highlight=[f"drug{i}" for i in range(7)]))
    found = request.getfixturevalue("result" if size == "small" else "large_result")
    for n_genes in (20, 200):
        assert_readable(kx.pl.treatment_profiles(found, most_held_out(found), n_genes=n_genes))


def test_density_curve_can_be_read(curve):
    assert_readable(kx.pl.density_curve(curve))
    densities = np.linspace(0.01, 0.6, 50)
    rows = [(m, d, 0, d, 0.0) for m in LONG for d in densities]
    many = DensityCurve(pd.DataFrame(rows, columns=["method", "density", "repeat", "pct", "unpredicted"]), {})
    assert_readable(kx.pl.density_curve(many))


def test_measured_fibers_shows_what_was_measured():
    values = np.ones((3, 2, 4))
    values[0, 1] = NAN
    values[1, :] = NAN
    values[1, 0, 0] = 1.0  # in part
    values[1, 1, 0] = 1.0
    values[1, 1, 1] = 1.0
    with tensors.without_pulling():
        mdata = MuData({f"c{c}": AnnData(values[:, c].copy()) for c in range(2)}, axis=-1)
    ax = kx.pl.measured_fibers(mdata).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1 (2)", "2 (2)", "0 (1)"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["c0 (3)", "c1 (2)"]
    assert legend_texts(ax) == ["measured", "measured in part", "missing"]
    blue, orange, grey = "#0072b2", "#e69f00", "#e6e6e6"
    found = [to_hex(color) for color in field_colors(ax).reshape(-1, 4)]
    assert found == [orange, orange, blue, blue, blue, grey]


def test_measured_fibers_counts_where_names_have_no_room(large):
    ax = kx.pl.measured_fibers(large).axes[0]
    measured = tensors.read(large).measured
    ticks = [(round(t.get_position()[1]), int(t.get_text())) for t in ax.get_yticklabels()]
    counts = np.sort(measured.sum(axis=1))[::-1]
    assert ticks[0] == (0, counts[0])
    for place, n in ticks:
        assert counts[place] == n
    assert ax.get_ylabel() == "200 treatments, by their number of contexts"


def held_in(n_treatments: int, n_contexts: int) -> MuData:
    """A tensor of this shape, of which about half is measured."""
    has = np.random.default_rng(0).random((n_treatments, n_contexts)) < 0.5
    has[0], has[:, 0] = True, True
    values = np.where(has[..., None], 1.0, NAN) * np.ones(2)
    with tensors.without_pulling():
        return MuData({f"context {c}": AnnData(values[:, c].copy()) for c in range(n_contexts)}, axis=-1)


@pytest.mark.parametrize("shape", [(5, 134), (134, 5), (20, 20), (600, 8), (2, 2)])
def test_measured_fibers_of_any_shape(shape):
    figure = kx.pl.measured_fibers(held_in(*shape))
    assert_readable(figure)
    ax = figure.axes[0]
    field = ax.get_window_extent()
    assert ax.yaxis.label.get_window_extent().height < 1.05 * field.height
    assert ax.xaxis.label.get_window_extent().width < 1.05 * field.width
    low = min(text.get_window_extent().y0 for text in [*ax.get_xticklabels(), ax.xaxis.label])
    assert low < 0.15 * figure.dpi  # nothing but the axis stands below, and nothing above
    assert figure.get_size_inches()[1] - field.y1 / figure.dpi < 0.2


def test_best_method_is_that_of_the_largest_correlation(result):
    ax = kx.pl.best_method(result).axes[0]
    best = result.fibers.idxmax(axis=1)
    share = best.value_counts(normalize=True)
    assert legend_texts(ax) == [*(f"{method} ({share.get(method, 0):.0%})" for method in METHODS), "not held out"]
    rows = [text.get_text().split(" ")[0] for text in ax.get_yticklabels()]
    columns = [text.get_text().split(" ")[0] for text in ax.get_xticklabels()]
    color = {method: style.color for method, style in styles_of(METHODS).items()}
    shown = field_colors(ax).reshape(len(rows), len(columns), 4)
    for d, treatment in enumerate(rows):
        for c, context in enumerate(columns):
            fiber = f"{treatment}:{context}"
            expected = color[best[fiber]] if fiber in best.index else "#F2F2F2"
            assert to_hex(shown[d, c]) == expected.lower()


def test_the_same_predictions_are_a_tie(small):
    found = kx.metrics.cross_validate(small, methods={"a": "mean_1d", "b": "mean_1d"}, n_folds=4)
    ax = kx.pl.best_method(found).axes[0]
    assert legend_texts(ax) == ["a (0%)", "b (0%)", "tie (100%)", "not held out"]


def test_predicted_against_true_counts_every_value(result):
    figure = kx.pl.predicted_against_true(result, method="mean_1d")
    ax = figure.axes[0]
    assert np.asarray(ax.collections[0].get_array()).sum() == result.profiles.X.size
    regression = ax.lines[1]
    (x0, x1), (y0, y1) = regression.get_xdata(), regression.get_ydata()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(result.table.loc["mean_1d", "calibration_slope"])
    assert f"correlation {result.table.loc['mean_1d', 'pct']:.2f}" in ax.get_title()
    best = kx.pl.predicted_against_true(result).axes[0].get_title()
    assert best.startswith(result.table["pct"].idxmax())


def compared(truth: np.ndarray, predicted: np.ndarray):
    """What is shown of a cross-validation with these held-out values: axes, and the counts of their fields."""
    profiles = AnnData(truth.reshape(-1, 10), layers={"m": predicted.reshape(-1, 10)})
    table = pd.DataFrame({"pct": [0.5], "calibration_slope": [1.0]}, index=["m"])
    rest = dict.fromkeys(
        ("fibers", "treatments", "contexts", "genes", "cell_specificity", "confidences", "fallback"), table
    )
    ax = kx.pl.predicted_against_true(CrossValidation(table, profiles, **rest, parameters={})).axes[0]
    return ax, np.asarray(ax.collections[0].get_array())


@pytest.mark.parametrize("n", [50, 20_000])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_one_value_far_out_does_not_shrink_the_others(n, shift):
    truth, noise = shift + np.random.default_rng(0).normal(size=(2, n))
    truth, predicted = truth, truth + 0.3 * (noise - shift)
    whole, _ = compared(truth, predicted)
    assert "beyond" not in whole.get_title()
    predicted[7] = shift + 1000.0
    ax, counts = compared(truth, predicted)
    assert counts.sum() == n  # the one is at the edge
    assert ax.get_xlim() == ax.get_ylim()
    low, high = ax.get_xlim()
    assert low < truth.min() < truth.max() < high
    assert np.ptp(truth) > 0.5 * (high - low)
    assert f"1 of {n:,} values beyond" in ax.get_title()


def test_axes_end_where_the_values_do():
    values = np.linspace(3.0, 5.0, 1000)
    low, high = compared(values, values)[0].get_xlim()
    assert 2.9 < low < 3.0
    assert 5.0 < high < 5.1
    low, high = compared(np.ones(20), np.ones(20))[0].get_xlim()
    assert low < 1 < high


def test_roc_has_the_area_of_the_table(result):
    ax = kx.pl.deg_roc(result, top=0.1).axes[0]
    for line, method in zip(ax.lines[1:], METHODS, strict=True):
        expected = result.table.loc[method, "deg_auc_10%"]
        assert auc(line.get_xdata(), line.get_ydata()) == pytest.approx(expected, abs=2e-3)
        assert f"{method} ({expected:.2f})" in legend_texts(ax)


def test_density_curve_shows_means_and_spreads(curve):
    ax = kx.pl.density_curve(curve).axes[0]
    for container, method in zip(ax.containers, METHODS, strict=True):
        line, _, (bars,) = container
        found = curve.summary.loc[method]
        np.testing.assert_allclose(line.get_ydata(), found["mean"])
        np.testing.assert_allclose(line.get_xdata(), 100 * found.index)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.diff(ends, axis=1).ravel(), 2 * found["std"])
    ends = [container[1][0].get_markersize() for container in ax.containers]
    assert len(set(ends)) == len(METHODS)


def looks(lines: dict) -> dict[str, tuple]:
    return {
        name: (to_hex(line.get_color()), str(line._dash_pattern), line.get_linewidth()) for name, line in lines.items()
    }


def test_a_method_looks_alike_in_every_figure(result, curve):
    roc = {line.get_label().split(" ")[0]: line for line in kx.pl.deg_roc(result).axes[0].lines[1:]}
    specificity = {line.get_label(): line for line in kx.pl.cell_specificity(result).axes[0].lines[1:]}
    density = {container.get_label(): container[0] for container in kx.pl.density_curve(curve).axes[0].containers}
    assert set(roc) == set(METHODS)
    assert looks(roc) == looks(specificity) == looks(density)
    patches = kx.pl.best_method(result).axes[0].get_legend().get_patches()
    colors = {name: to_hex(patch.get_facecolor()) for name, patch in zip(METHODS, patches, strict=False)}
    assert colors == {name: color for name, (color, *_) in looks(roc).items()}


def test_methods_look_alike_whatever_is_beside_them():
    shown = [["kronecker", "dnpp", "cp"], ["mean_2d", "cp", "mine", "dnpp", "kronecker"], ["dnpp"]]
    styles = [styles_of(names) for names in shown]
    for name in ("kronecker", "dnpp", "cp"):
        assert len({found[name] for found in styles if name in found}) == 1
    for names in (["silrtc", "cp", "mf", "mean_1d", "attention_cp", "halrtc", "x"], list("abcdefg")):
        assert list(styles_of(names)) == names
        assert len({style.color for style in styles_of(names).values()}) == 7


@pytest.mark.parametrize(
    "names", [*combinations(["kronecker", "falrtc", "mean_2d", "dnpp", "mean_1d", "halrtc", "cp"], 2)]
)
def test_lines_that_coincide_are_all_seen(names):
    figure = Figure((3, 0.3), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    styles = styles_of(names)
    for style in styles.values():
        ax.plot([0, 1], [0, 0], **style.line)
    FigureCanvasAgg(figure).draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    for style in styles.values():
        seen = (np.abs(pixels - to_rgb(style.color)).max(axis=2) < 0.05).any(axis=0)
        assert seen.mean() > 0.1, style


def test_cell_specificity_of_data_and_results(small, result):
    ax = kx.pl.cell_specificity(small, highlight="drug3").axes[0]
    values = kx.metrics.cell_specificity(small)["cell_specificity"]
    assert sum(bar.get_height() for bar in ax.patches) == values.notna().sum()
    assert ax.lines[0].get_xdata()[0] == values["drug3"]
    assert legend_texts(ax) == [f"drug3: {values['drug3']:.2f}"]
    assert legend_texts(kx.pl.cell_specificity(result, highlight="drug3").axes[0])[:4] == ["measured", *METHODS]
    ax = kx.pl.cell_specificity(result).axes[0]
    assert legend_texts(ax) == ["measured", *METHODS]
    for line, column in zip(ax.lines, ["measured", *METHODS], strict=True):
        np.testing.assert_array_equal(line.get_xdata()[1:], result.cell_specificity[column].dropna().sort_values())


def test_highlighted_treatments_do_not_look_like_methods(result):
    table = result.cell_specificity.copy()
    without, *others = table.index[table["measured"].notna()][:7]
    table.loc[without] = NAN
    values = table["measured"]
    ax = kx.pl.cell_specificity(replace(result, cell_specificity=table), highlight=[without, *others]).axes[0]
    assert legend_texts(ax)[4:] == [f"{name}: {values[name]:.2f}" for name in others]
    lines = ax.lines[4:]
    assert {to_hex(line.get_color()) for line in lines}.isdisjoint([color.lower() for color in COLORS])
    assert len({line.get_marker() for line in lines} - {"None"}) == len({line.get_ydata()[1] for line in lines}) == 6


@pytest.mark.parametrize(
    ("shift", "low", "high"), [(0.0, 0.0, 1.0), (5.0, 5.0, 6.0), (-0.5, -0.5, 0.5), (-3.0, -3.0, -2.0)]
)
def test_distributions_fill_their_panels(shift, low, high):
    truth = shift + np.linspace(0, 1, 2000).reshape(20, 2, 50)
    figure = kx.pl.prediction_distributions(truth, {"m": truth.mean() + 0.5 * (truth - truth.mean())})
    for ax in figure.axes:
        edges = ax.patches[0].get_data().edges
        np.testing.assert_allclose(edges[[0, -1]], [low, high], atol=2e-3)
    beyond = kx.pl.prediction_distributions(truth, {"m": truth - 0.25}).axes[0].patches[0].get_data().edges
    assert beyond[0] == pytest.approx(max(low - 0.25, -np.abs(truth).max()), abs=2e-3)  # values below the truth's
    same = kx.pl.prediction_distributions(np.full((2, 2, 2), shift), {"m": np.full((2, 2, 2), shift)})
    assert all(patch.get_data().values.sum() == 4 for ax in same.axes for patch in ax.patches)


def test_distributions_say_what_they_leave_out():
    truth = np.random.default_rng(0).normal(size=(50, 45, 10))

    def title(figure):
        (legend,) = [ax.get_legend() for ax in figure.axes if ax.get_legend() is not None]
        return legend.get_title().get_text()

    figure = kx.pl.prediction_distributions(truth, {"m": truth})
    assert len(figure.axes) == 40
    assert title(figure) == "40 of 45 contexts,\nthose with the most entries\nlast bins: all values beyond"
    assert_readable(figure)
    within = np.clip(truth[:, :3], -2, 2)
    assert not title(kx.pl.prediction_distributions(within, {"m": within}))


@pytest.mark.parametrize(("n", "n_bins"), [(2, 8), (100, 20), (10_000, 60)])
def test_bins_of_distributions_grow_with_the_entries(n, n_bins):
    truth = np.random.default_rng(0).normal(size=(n, 2, 1))
    figure = kx.pl.prediction_distributions(truth, {"m": truth})
    assert len(figure.axes[0].patches[0].get_data().values) == n_bins


def test_long_names_of_methods_are_cut_in_every_legend(small):
    methods = {f"a method with quite a long name, number {i}, of many": "mean_1d" for i in range(2)}
    found = kx.metrics.cross_validate(small, methods=methods, n_folds=3)
    for draw in (kx.pl.best_method, kx.pl.prediction_distributions, kx.pl.deg_roc, kx.pl.cell_specificity):
        texts = [text for ax in draw(found).axes if ax.get_legend() is not None for text in legend_texts(ax)]
        cut = [text for text in texts if "…" in text]
        assert len(set(cut)) == 2
        assert max(map(len, cut)) <= 30 + len(" (100%)")


def test_a_method_without_predictions_is_left_out():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=30)
    found = kx.metrics.cross_validate(mdata, methods=["falrtc", "mean_1d"], split="cold_start_treatment", n_folds=4)
    assert legend_texts(kx.pl.cell_specificity(found).axes[0]) == ["measured", "mean_1d"]
    panels = kx.pl.prediction_distributions(found).axes
    (names,) = (legend_texts(ax) for ax in panels if ax.get_legend() is not None)
    assert names == ["truth", "mean_1d"]
    assert_readable(kx.pl.cell_specificity(found, methods="falrtc"))
    with pytest.raises(ValueError, match="nothing to compare"):
        kx.pl.prediction_distributions(found, "falrtc")


def test_names_that_begin_with_an_underscore_are_in_legends():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=30)
    found = kx.metrics.cross_validate(mdata, methods={"_a": "mean_1d", "b": "mean_2d"}, n_folds=2)
    (shown,) = (legend_texts(ax) for ax in kx.pl.deg_roc(found, top=0.1).figure.axes if ax.get_legend() is not None)
    assert [name.split()[0] for name in shown] == ["_a", "b"]


def test_treatment_profiles_are_in_one_order(result):
    treatment = most_held_out(result)
    figure = kx.pl.treatment_profiles(result, treatment, n_genes=12)
    panels = figure.axes[:4]
    assert [ax.get_title() for ax in panels] == ["measured", *METHODS]
    contexts = [text.get_text() for text in panels[0].get_xticklabels()]
    genes = [text.get_text() for text in panels[0].get_yticklabels()]
    rows = [f"{treatment}:{context}" for context in contexts]
    for ax in panels:
        shown = result.profiles[rows, genes]
        expected = shown.X if ax.get_title() == "measured" else shown.layers[ax.get_title()]
        np.testing.assert_array_equal(np.asarray(ax.collections[0].get_array()).reshape(12, -1), expected.T)
        assert ax.collections[0].get_clim() == panels[0].collections[0].get_clim()
    low, high = panels[0].collections[0].get_clim()
    assert low == -high
    assert figure.axes[-1].get_ylabel() == "value"
    assert panels[0].get_ylabel().replace("\n", " ") == f"{treatment}: 12 of 30 genes"
    mine = result.profiles[result.profiles.obs["treatment"] == treatment]
    largest = mine.var_names[np.argsort(-np.abs(mine.X).mean(axis=0))[:12]]
    assert set(genes) == set(largest)


def test_how_genes_were_chosen_stands_where_their_names_do_not(large_result):
    treatment = most_held_out(large_result)
    label, all_genes = (
        kx.pl.treatment_profiles(large_result, treatment, n_genes=n).axes[0].get_ylabel().replace("\n", " ")
        for n in (65, 100)
    )
    assert label == (
        f"{treatment}: 65 of 70 genes, those of the largest mean absolute measured value; the largest are named"
    )
    assert all_genes == f"{treatment}: 70 of 70 genes; the largest are named"


def test_of_many_genes_the_largest_are_named(large_result):
    treatment = most_held_out(large_result)
    ax = kx.pl.treatment_profiles(large_result, treatment, n_genes=70).axes[0]
    mine = large_result.profiles[large_result.profiles.obs["treatment"] == treatment]
    size = pd.Series(np.nanmean(np.abs(mine.X), axis=0), mine.var_names)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert size.idxmax() in labels
    assert 10 < len(labels) < 60
    assert size[labels].mean() > size.mean()


def test_one_order_of_contexts_in_all_figures(result):
    """Those with the most measured treatments first."""
    treatment = most_held_out(result)
    maps = kx.pl.best_method(result).axes[0]
    order = [text.get_text().split(" (")[0] for text in maps.get_xticklabels()]
    counts = result.profiles.obs.groupby("context", observed=True)["n_treatments"].first()[order]
    assert counts.is_monotonic_decreasing
    mine = [text.get_text() for text in kx.pl.treatment_profiles(result, treatment).axes[0].get_xticklabels()]
    assert mine == [context for context in order if context in mine]
    panels = [ax.get_title() for ax in kx.pl.prediction_distributions(result).axes if ax.get_title()]
    assert panels == order


def test_every_second_of_many_treatments_is_named():
    ax = kx.pl.measured_fibers(held_in(75, 3)).axes[0]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[0] == "0 (3)"
    assert len(labels) == 38
    assert ax.get_ylabel() == "treatments (number of contexts), 1 in 2 named"
    assert_readable(ax.figure)


# What the colour-blind see of linear RGB, after Machado et al. (IEEE TVCG 2009), at full severity
VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colors: list[str], vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of colours as they are seen."""
    c = np.array([to_rgb(color) for color in colors])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(vision), 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISION)
def test_colors_can_be_told_apart(vision):
    seen = lab([*COLORS, "black", "#E6E6E6"], VISION[vision])
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15  # 2.3 can just be noticed


@pytest.mark.parametrize("vision", VISION)
def test_fields_of_maps_can_be_told_apart(vision):
    colors = [*COLORS, _best_method._TIE, _best_method._UNDEFINED, _best_method._NOT_HELD_OUT]
    seen = lab(colors, VISION[vision])
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_methods_have_markers_where_fields_have_room(result, large_result):
    ax = kx.pl.best_method(result).axes[0]
    best = result.fibers.idxmax(axis=1)
    markers = {line.get_marker(): len(line.get_xdata()) for line in ax.lines}
    assert markers == {style.marker: (best == name).sum() for name, style in styles_of(METHODS).items()}
    (line,) = (line for line in ax.lines if line.get_marker() == styles_of(METHODS)["dnpp"].marker)
    rows = [text.get_text().split(" ")[0] for text in ax.get_yticklabels()]
    columns = [text.get_text().split(" ")[0] for text in ax.get_xticklabels()]
    marked = {f"{rows[int(y)]}:{columns[int(x)]}" for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert marked == set(best.index[best == "dnpp"])
    assert not kx.pl.best_method(large_result).axes[0].lines


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_names_fit_the_axes_of_the_user(layout):
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout=layout)
    kx.pl.measured_fibers(held_in(55, 6), ax=axes[0])
    kx.pl.measured_fibers(held_in(6, 55), ax=axes[1])
    assert axes[0].get_ylabel().replace("\n", " ") == "55 treatments, by their number of contexts"
    assert axes[1].get_xlabel().replace("\n", " ") == "55 contexts, by their number of treatments"
    assert axes[1].get_yticklabels()[0].get_text().endswith("(55)")
    figure.draw_without_rendering()
    for axis, end in ((axes[0].yaxis, "y"), (axes[1].xaxis, "x")):
        boxes = sorted(getattr(text.get_window_extent(), f"{end}0") for text in axis.get_ticklabels())
        assert np.diff(boxes).min() > 8
    plt.close(figure)


@pytest.mark.parametrize("shape", [(60, 60), (61, 61), (200, 200), (200, 20)])
def test_maps_do_not_grow_without_end(shape):
    assert 8 < max(kx.pl.measured_fibers(held_in(*shape)).get_size_inches()) < 14


def with_factors(n_contexts: int) -> MuData:
    """What a completion by factors leaves in a tensor."""
    with tensors.without_pulling():
        mdata = MuData({f"context {c}": AnnData(np.ones((3, 4))) for c in range(n_contexts)}, axis=-1)
    for adata in mdata.mod.values():
        adata.obsm["X_completion"], adata.varm["completion"] = np.ones((3, 5)), np.ones((4, 5))
    factors = np.random.default_rng(0).normal(size=(n_contexts, 5))
    mdata.uns["completion"] = {
        "method": "cp",
        "params": {},
        "context_factors": factors,
        "contexts": np.array(list(mdata.mod)),
    }
    return mdata


@pytest.mark.parametrize(("size", "layout"), [(None, None), ((5, 4), None), ((5, 4), "constrained")])
def test_contexts_are_named_as_far_as_there_is_room(size, layout):
    ax = None if size is None else plt.subplots(figsize=size, layout=layout)[1]
    figure = kx.pl.context_factors(with_factors(200 if size is None else 60), ax=ax)
    assert max(figure.get_size_inches()) < 12
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in zip(boxes, boxes[1:], strict=False))
    n, named = (200, 4) if size is None else (60, int(ax.get_yticks()[1] - ax.get_yticks()[0]))
    assert ax.get_ylabel() == f"{n} contexts, 1 in {named} named"
    assert named > 1
    plt.close("all")


def test_profiles_of_many_contexts_and_of_one_gene(result, large_result):
    for found in (result, large_result):
        figure = kx.pl.treatment_profiles(found, most_held_out(found), n_genes=1)
        assert_readable(figure)
        assert max(figure.get_size_inches()) < 14
    assert "contexts, 1 in" in figure.axes[0].get_xlabel().replace("\n", " ")


def test_units_and_kinds_of_bars_are_named(result, curve):
    assert kx.pl.density_curve(curve).axes[0].get_legend().get_title().get_text() == "mean ± 1 SD of repeats"
    bar = kx.pl.predicted_against_true(result).axes[1]
    assert bar.get_ylabel() == "number of values"
    sizes = {tick.label2.get_size() for tick in [*bar.yaxis.get_major_ticks(), *bar.yaxis.get_minor_ticks()]}
    assert sizes == {8.0}


@pytest.mark.parametrize(("decay", "plain"), [(0.02, True), (0.2, False)])
def test_losses_within_a_decade_have_plain_numbers(decay, plain):
    mdata = with_factors(2)
    loss = np.exp(-decay * np.arange(30))
    mdata.uns["completion"] |= {"objective": loss, "held_out_loss": 0.9 * loss, "chosen": {"n_best": 30}}
    figure = kx.pl.training(mdata)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    assert ax.get_ylabel() == "loss (scaled values squared)"
    low, high = ax.get_ylim()
    texts = [t.label1.get_text() for t in ax.yaxis.get_major_ticks() if low <= t.get_loc() <= high]
    assert ("mathdefault" not in "".join(texts)) == plain
    assert len(texts) >= 2


FIGURES = {
    "best_method": lambda f, **k: kx.pl.best_method(f("result"), **k),
    "predicted_against_true": lambda f, **k: kx.pl.predicted_against_true(f("result"), **k),
    "deg_roc": lambda f, **k: kx.pl.deg_roc(f("result"), **k),
    "cell_specificity": lambda f, **k: kx.pl.cell_specificity(f("result"), **k),
    "density_curve": lambda f, **k: kx.pl.density_curve(f("curve"), **k),
    "measured_fibers": lambda f, **k: kx.pl.measured_fibers(f("small"), **k),
    "treatment_profiles": lambda f, **k: kx.pl.treatment_profiles(f("result"), most_held_out(f("result")), **k),
}


@pytest.mark.parametrize("name", FIGURES)
def test_axes_save_and_show(request, name, tmp_path, monkeypatch):
    draw = FIGURES[name]
    plt.close("all")
    figure = draw(request.getfixturevalue, save=tmp_path / "figure.png")
    assert isinstance(figure, Figure)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert not plt.get_fignums()
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.get_fignums()))
    figure = draw(request.getfixturevalue, show=True)
    assert shown == [[figure.number]]
    plt.close(figure)
    if "ax" in inspect.signature(getattr(kx.pl, name)).parameters:
        figure, axes = plt.subplots(1, 2)
        size = figure.get_size_inches().copy()
        assert draw(request.getfixturevalue, ax=axes[1]) is figure
        np.testing.assert_array_equal(figure.get_size_inches(), size)
        assert not axes[0].has_data()
        plt.close(figure)


def test_what_is_refused(small, result, large_result):
    with pytest.raises(KeyError, match="magic"):
        kx.pl.predicted_against_true(result, method="magic")
    with pytest.raises(KeyError, match="no treatment 'nothing'. There are drug0, drug1, drug2, drug3, drug4, …"):
        kx.pl.cell_specificity(small, highlight=["nothing"])
    with pytest.raises(ValueError, match="At most 7 treatments can be pointed out, found 8"):
        kx.pl.cell_specificity(small, highlight=[f"drug{i}" for i in range(8)])
    with pytest.raises(KeyError, match="no treatment 'drug99'. Did you mean 'drug9' or"):
        kx.pl.treatment_profiles(result, "drug99")
    with pytest.raises(KeyError, match="magic"):
        kx.pl.treatment_profiles(result, "drug1", methods="magic")
    with pytest.raises(ValueError, match="`top` must lie between 0 and 1"):
        kx.pl.deg_roc(result, top=2)
    many = kx.metrics.cross_validate(small, methods=dict.fromkeys("abcdefgh", "mean_1d"), n_folds=3)
    too_many = "8 methods are too many to tell apart by colour; compare at most 7, named with "
    rows = [(method, 0.2, 0, 0.5, 0.0) for method in "abcdefgh"]
    long = DensityCurve(pd.DataFrame(rows, columns=["method", "density", "repeat", "pct", "unpredicted"]), {})
    for draw in (kx.pl.best_method, kx.pl.deg_roc, kx.pl.cell_specificity, kx.pl.density_curve):
        shown = long if draw is kx.pl.density_curve else many
        with pytest.raises(ValueError, match=f"{too_many}`methods=`"):
            draw(shown)
        with pytest.raises(KeyError, match="no method 'magic'. There are a, b, c, d, e, …"):
            draw(shown, methods=["magic"])
        with pytest.raises(ValueError, match="No method was named"):
            draw(shown, methods=[])
    with pytest.raises(ValueError, match=f"{too_many}`predicted=`"):
        kx.pl.prediction_distributions(many)
    with pytest.raises(ValueError, match="`methods` are those of a cross-validation"):
        kx.pl.cell_specificity(small, methods="mean_1d")


OF_CROSS_VALIDATIONS = [kx.pl.best_method, kx.pl.deg_roc, kx.pl.predicted_against_true, kx.pl.treatment_profiles]


@pytest.mark.parametrize("draw", OF_CROSS_VALIDATIONS)
def test_other_objects_are_refused(small, curve, draw):
    more = ("drug1",) if draw is kx.pl.treatment_profiles else ()
    for wrong, name in ((small, "MuData"), (curve, "DensityCurve"), ("x", "str"), (CrossValidation, "the class")):
        with pytest.raises(TypeError, match=f"the result of kx.metrics.cross_validate, found {name}"):
            draw(wrong, *more)


def test_a_density_curve_is_no_cross_validation(result):
    with pytest.raises(TypeError, match="the result of kx.metrics.density_curve, found CrossValidation"):
        kx.pl.density_curve(result)


def test_some_of_the_methods(result, curve):
    """Best among those that are compared, and drawn alone."""
    chosen = ["mean_1d", "dnpp"]
    best = kx.pl.best_method(result, methods=chosen).axes[0]
    winner = result.fibers[chosen].dropna(how="all").idxmax(axis=1)
    expected = [f"{name} ({(winner == name).mean():.0%})" for name in chosen]
    assert legend_texts(best)[:2] == expected
    assert [text.split()[0] for text in legend_texts(kx.pl.deg_roc(result, methods=chosen).axes[0])] == chosen
    specificity = kx.pl.cell_specificity(result, methods=chosen).axes[0]
    assert legend_texts(specificity) == ["measured", *chosen]
    drawn = specificity.lines[1].get_xdata()[1:]
    np.testing.assert_array_equal(drawn, result.cell_specificity[chosen[0]].dropna().sort_values())
    density = kx.pl.density_curve(curve, methods=chosen).axes[0]
    assert legend_texts(density) == chosen
    drawn = density.containers[0][0].get_ydata()
    np.testing.assert_array_equal(drawn, curve.summary["mean"][chosen[0]])


def test_distributions_of_a_cross_validation(small, result):
    """The same panels as of the arrays, with the names that these have, in the order of the other figures."""
    truth, predicted = kx.get.array(result), {m: kx.get.array(result, layer=m) for m in ["dnpp", "mean_1d"]}
    figures = [
        kx.pl.prediction_distributions(result, ["dnpp", "mean_1d"]),
        kx.pl.prediction_distributions(np.asarray(truth), predicted, contexts=list(small.mod)),
    ]
    steps = [{ax.get_title(): [p.get_data().values.tolist() for p in ax.patches] for ax in f.axes} for f in figures]
    assert steps[0] == steps[1]
    assert list(steps[1]) == list(small.mod)
    assert len(kx.pl.prediction_distributions(result).axes[0].patches) == 1 + len(METHODS)
    for wrong in (small, small["line0"]):
        with pytest.raises(TypeError, match=f"`truth` must be an array.*found {type(wrong).__name__}.*kx.get.array"):
            kx.pl.prediction_distributions(wrong, {"a": 1})
    with pytest.raises(TypeError, match="mapping from names of methods to arrays, found ndarray"):
        kx.pl.prediction_distributions(np.ones((2, 2, 2)), np.ones((2, 2, 2)))


def test_a_method_that_is_unable_to_predict(small):
    found = kx.metrics.cross_validate(small, methods=["falrtc"], split="cold_start_treatment", n_folds=2)
    with pytest.raises(ValueError, match="falrtc predicted none of the held-out fibers"):
        kx.pl.predicted_against_true(found)
    with pytest.raises(ValueError, match="No fiber has a correlation"):
        kx.pl.best_method(found)
    with pytest.raises(ValueError, match="no method predicted anything"):
        kx.pl.deg_roc(found)
    found = kx.metrics.cross_validate(small, methods=["falrtc", "dnpp"], split="cold_start_treatment", n_folds=2)
    assert [text[:4] for text in legend_texts(kx.pl.deg_roc(found).axes[0])] == ["dnpp"]
    with_gaps = kx.pl.treatment_profiles(found, most_held_out(found)).axes[1]
    assert np.ma.getmaskarray(with_gaps.collections[0].get_array()).all()
    assert to_hex(with_gaps.get_facecolor()) == "#d9d9d9"
