"""How figures are made and handed over."""

import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from kronax.pl._canvas import hand_over
from kronax.pl._figure import new_figure, save_and_show, shrink_wrap
from kronax.pl._names import inches, name_fields, short, width


def test_a_notebook_learns_to_show_figures(monkeypatch):
    """Without pyplot's backend, IPython writes `<Figure size …>` instead of drawing."""
    loaded = []
    monkeypatch.setattr(plt, "draw_if_interactive", lambda: loaded.append(True))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    new_figure(show=False)
    assert not loaded
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    before = plt.get_fignums()
    new_figure(show=False)
    assert loaded
    assert plt.get_fignums() == before  # an open one would be shown twice


def test_options_are_those_of_the_figure():
    assert tuple(new_figure(show=False, figsize=(3, 2)).get_size_inches()) == (3, 2)


def test_save_is_the_name_of_a_file():
    with pytest.raises(TypeError, match=r"`save` must be the name of a file.*found True"):
        save_and_show(new_figure(show=False), save=True, show=False, return_fig=True)


def test_the_folder_of_a_file_is_made(tmp_path):
    figure = new_figure(show=False)
    assert save_and_show(figure, save=tmp_path / "a" / "b" / "x.png", show=False, return_fig=True) is figure
    assert save_and_show(figure, save=str(tmp_path / "a" / "b" / "x.pdf"), show=False, return_fig=False) is None
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"x.png", "x.pdf"}


@pytest.mark.parametrize(("setting", "dpi"), [("figure", 150), (80, 80)])
def test_dots_per_inch_are_those_of_the_user(tmp_path, setting, dpi):
    with matplotlib.rc_context({"savefig.dpi": setting}):
        save_and_show(new_figure(show=False, figsize=(2, 1)), save=tmp_path / "x.png", show=False, return_fig=False)
    assert imread(tmp_path / "x.png").shape[:2] == (dpi, 2 * dpi)


@pytest.mark.parametrize(("layout", "grows"), [(None, True), ("constrained", False)])
def test_labels_beyond_the_figure_of_a_user_are_saved(tmp_path, layout, grows):
    figure, ax = plt.subplots(figsize=(3, 2), layout=layout)
    ax.set_yticks([0.5], ["wider than what is left"])
    hand_over(figure, sized=False, save=tmp_path / "x.png", show=False, return_fig=False)
    assert (imread(tmp_path / "x.png").shape[1] > 450) == grows
    plt.close(figure)


def extent(figure, *resolutions) -> np.ndarray:
    """Width and height of all that is drawn, at any of the resolutions, in inches."""
    boxes = []
    for dpi in resolutions:
        figure.set_dpi(dpi)
        boxes.append(figure.get_tightbbox())
    return Bbox.union(boxes).size


@pytest.mark.parametrize(("rows", "size"), [(1, 8), (3, 5)])
def test_a_figure_is_as_large_as_its_content_at_every_resolution(rows, size):
    figure, axs = plt.subplots(rows, 4, figsize=(6, 5))
    for i, ax in enumerate(axs.flat):
        name = f"panel {i}: " + "illness, millimetres, AVAW, "[: 7 + 5 * (i % 5)]
        ax.set_xlabel(name, fontsize=size)
        ax.set_yticks([0.5], [name], fontsize=size, rotation=30 * (i % 3))
    measured, elsewhere = extent(figure, 72, 100, 150), extent(figure, 60, 120, 200, 300, 600)
    shrink_wrap(figure)
    np.testing.assert_allclose(figure.get_size_inches(), measured + 2 * 0.08, rtol=1e-12)
    assert (figure.get_size_inches() > elsewhere + 0.08).all()
    plt.close(figure)


@pytest.mark.parametrize("text", ["$", "$x$", "a$_{b$", "$\\foo$", "x$y$z$"])
def test_text_is_measured_as_it_is_drawn(text):
    figure, ax = plt.subplots(dpi=300)
    drawn = ax.text(0, 0, text, fontsize=8, parse_math=False).get_window_extent()
    assert width(text) == pytest.approx(drawn.width / 300, abs=0.03)
    assert width("") == 0
    plt.close(figure)


LONG = [f"effector memory CD{i}-positive, alpha-beta T cell" for i in (4, 8)]
MIDDLE, END = ["x" * 20 + y + "x" * 20 for y in "123"], ["y" * 50 + x for x in "12"]
# No single cut tells these apart
TWICE = [f"{'a' * 20}{i}{'b' * 20}{j}{'a' * 20}" for i in "12" for j in "12"]


@pytest.mark.parametrize("names", [LONG, MIDDLE, END, TWICE, [*LONG, *MIDDLE, *END, *TWICE, "short"]])
def test_different_names_have_different_labels(names):
    labels = short(names)
    assert len(set(labels)) == len(names)
    assert max((len(label) for label in labels if label not in TWICE), default=0) <= 30
    assert all(label[:7] == name[:7] for label, name in zip(labels, names, strict=True))


def test_names_that_no_cut_tells_apart_stay_whole():
    names = ["x" * 40, "x" * 41, "x" * 15 + "…" + "x" * 14]
    assert len(set(short(names))) == 3
    assert short(["x" * 40, "x" * 40]) == ["x" * 15 + "…" + "x" * 14] * 2


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_as_many_fields_are_named_as_fit(layout):
    figure, ax = plt.subplots(figsize=(4, 3), layout=layout)
    ax.set_xlim(0, 60)
    names = [f"name {i}" for i in range(60)]
    step = name_fields(ax, "x", names, rotation=90)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(boxes) == len(names[::step]) > 12
    assert all(one.x1 <= other.x0 for one, other in zip(boxes, boxes[1:], strict=False))
    plt.close(figure)


def test_axes_are_measured_in_the_shape_they_keep():
    figure, ax = plt.subplots(figsize=(4, 8))
    ax.set_aspect("equal")
    wide, high = inches(ax)
    assert wide == pytest.approx(high)
    plt.close(figure)
