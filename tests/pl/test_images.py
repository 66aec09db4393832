"""Every figure of kx.pl beside a stored picture of it, without its texts.

After a wanted change, draw the pictures anew with ``python tests/pl/test_images.py``, and look at them.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from mudata import MuData
from scipy import sparse

import kronax as kx
from kronax._data import tensor as tensors
from kronax.metrics import DensityCurve
from kronax.pl import _network_layout

pytestmark = pytest.mark.pictures
PICTURES = Path(__file__).with_name("images")
DPI = 60
BOX = (1.6, 1.2)  # inches of every axes, such that fields of heat maps are whole pixels ...
GAP = 0.1
ASIDE = 0.4 / DPI  # ... whose edges are not where colours are read, or rounding would decide

# Root mean square over all values from 0 to 255. matplotlib 3.9 and 3.11 draw the same pixels; what is left is for the
# smoothing of lines elsewhere. Error bars or the lines between groups that are missing make it 2, all else much more.
TOLERANCE = 1.0


def graph_of(n: int) -> sparse.csr_array:
    """A signed precision matrix: neighbours on a ring go together, those opposite exclude each other."""
    step = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    step = np.minimum(step, n - step)
    weights = np.where(step == 1, -0.4, 0.0) + np.where(step == n // 2, 0.2, 0.0)
    weights[0, 1] = weights[1, 0] = -0.8
    return sparse.csr_array(weights + np.eye(n))


@cache
def annotated() -> AnnData:
    """Cells of three groups and genes of three modules, each raised in one group; and what kx.tl would have written."""
    group, module = np.arange(24) % 3, np.arange(12) // 4
    counts = 1 + 4 * (group[:, None] == module) + 2 * ((group[:, None] + 1) % 3 == module)
    adata = ad.AnnData(counts.astype(float))
    adata.obs["group"] = pd.Categorical([f"group {i}" for i in group])
    adata.uns["group_colors"] = ["#0072B2", "#E69F00", "#009E73"]
    adata.var["gene_module"] = pd.Categorical(module.astype(str))
    adata.uns["gene_module"] = {"params": {"neighbors_key": "med_magma"}}
    same = group[:, None] == group
    adata.obsp["p"] = sparse.csr_array(np.where(same, -0.3, 0.1 * (group[:, None] + group == 1)) + np.eye(24))
    adata.obs["batch"] = pd.Categorical(["one", "one", "one", "two", "two", "two"] * 3 + ["three"] * 5 + ["one"])
    near = np.abs(np.subtract.outer(np.arange(24), np.arange(24))) <= 6
    adata.obsp["c"] = sparse.csr_array((same & near & ~np.eye(24, dtype=bool)).astype(float))
    adata.varp["p"] = sparse.block_diag([graph_of(8), np.eye(4)], format="csr")
    adata.varp["c"] = abs(adata.varp["p"])
    adata.uns["med_magma"] = {"precision_key": "p", "connectivities_key": "c"}
    shares = np.linspace(0, 0.6, 7)
    adata.uns["graph_robustness"] = {
        "shares": shares,
        "graph": shares * [[0.2], [0.3], [0.5]],
        "random": 0.5 + 0.2 * shares * [[1.0], [2.0], [2.5]],
        "params": {"measure": "vi"},
    }
    return adata


def values() -> np.ndarray:
    """Treatments × contexts × genes of a smooth function."""
    d, c, g = np.meshgrid(np.arange(12.0), np.arange(4.0), np.arange(16.0), indexing="ij")
    return np.sin(0.7 * d + 0.4 * g) + 0.6 * np.cos(1.1 * c * d + g)


@cache
def tensor() -> MuData:
    """A tensor with missing fibers, one measured in part, and the description of a completion by factors."""
    measured = values()
    treatment, context = np.meshgrid(np.arange(12), np.arange(4), indexing="ij")
    measured[(3 * treatment + 5 * context) % 7 < context] = np.nan
    measured[0, 0, :4] = np.nan
    with tensors.without_pulling():
        mdata = MuData({f"c{c}": AnnData(measured[:, c].copy()) for c in range(4)}, axis=-1)
    epochs = np.arange(1.0, 31.0)
    for adata in mdata.mod.values():
        adata.obsm["X_completion"] = np.ones((12, 5))
        adata.varm["completion"] = np.ones((16, 5))
    mdata.uns["completion"] = {
        "params": {},
        "method": "cp",
        "objective": 2.0 / epochs,
        "held_out_loss": 1.5 / epochs + (epochs / 40) ** 2,
        "chosen": {"n_best": 10},
        "context_factors": np.cos(np.outer([1.0, 2.0, 1.1, 2.1], np.arange(1.0, 6.0))),
        "contexts": np.array(["c0", "c1", "c2", "c3"]),
    }
    return mdata


@cache
def cross_validated():
    with tensors.without_pulling():
        whole = MuData({f"c{c}": AnnData(values()[:, c].copy()) for c in range(4)}, axis=-1)
    return kx.metrics.cross_validate(whole, methods=["mean_2d", "mean_1d"], n_folds=4)


def curve() -> DensityCurve:
    rows = [
        (method, density, repeat, top * density / (density + 0.2) + 0.02 * repeat, 0.0)
        for method, top in (("a", 0.9), ("b", 0.7))
        for density in (0.2, 0.4, 0.6)
        for repeat in range(3)
    ]
    return DensityCurve(pd.DataFrame(rows, columns=["method", "density", "repeat", "pct", "unpredicted"]), {})


def gene_network() -> Figure:
    """The genes on a circle: where forces place them is igraph's affair."""
    angle = 2 * np.pi * np.arange(8) / 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_network_layout, "_layout", lambda graph, *_: np.stack([np.cos(angle), np.sin(angle)], axis=1))
        adata = annotated().copy()
        adata.var["gene_module"] = pd.Categorical(["0"] * 8 + ["1"] * 4)
        return kx.pl.gene_network(adata, module="0")


def screened() -> AnnData:
    """What kx.pp.effects would return: five effects, three of them sure, and one without replicates."""
    sure = {"acd": [0.2, 0.4, 0.5, 0.9, 0.8, np.nan], "p_value": [0.001, 0.01, 0.05, 0.5, 0.3, np.nan]}
    obs = pd.DataFrame({"effect_size": np.arange(6.0, 0.0, -1.0), **sure}, index=list("abcdef"))
    return ad.AnnData(np.zeros((6, 1)), obs=obs)


@cache
def following() -> MuData:
    """Profiles that were measured, are missing, and are to be measured next: as kx.tl would have written."""
    found = kx.datasets.drug_response(n_treatments=8, n_contexts=4, n_genes=5, missing=0.4)
    for c, adata in enumerate(found.mod.values()):
        place = np.where(~adata.obs["measured"] & (np.arange(8) % 4 == c), 1.0, np.nan)
        adata.obs["next_experiment"] = place
    return found


FIGURES: dict[str, Callable[[], Figure]] = {
    "batch_mixing": lambda: kx.pl.batch_mixing(annotated(), label_key="group", batch_key="batch"),
    "best_method": lambda: kx.pl.best_method(cross_validated()),
    "cell_specificity": lambda: kx.pl.cell_specificity(cross_validated()),
    "context_factors": lambda: kx.pl.context_factors(tensor()),
    "deg_roc": lambda: kx.pl.deg_roc(cross_validated(), top=0.1),
    "density_curve": lambda: kx.pl.density_curve(curve()),
    "effects": lambda: kx.pl.effects(screened(), n_labels=2),
    "gene_modules": lambda: kx.pl.gene_modules(annotated(), groupby="group"),
    "gene_network": gene_network,
    "graph_robustness": lambda: kx.pl.graph_robustness(annotated()),
    "measured_fibers": lambda: kx.pl.measured_fibers(tensor()),
    "next_experiments": lambda: kx.pl.next_experiments(following()),
    "precision": lambda: kx.pl.precision(annotated(), groupby="group"),
    "predicted_against_true": lambda: kx.pl.predicted_against_true(cross_validated(), method="mean_2d"),
    "prediction_distributions": lambda: kx.pl.prediction_distributions(
        values(), {"half": values() / 2, "shifted": values() + 0.5}
    ),
    "training": lambda: kx.pl.training(tensor()),
    "treatment_profiles": lambda: kx.pl.treatment_profiles(
        cross_validated(), cross_validated().profiles.obs["treatment"].cat.categories[5], n_genes=10
    ),
}


def draw(name: str, file: Path) -> None:
    """Draw a figure without its texts, whose shapes depend on the version of matplotlib, its axes in one row."""
    with style.context("default"):
        figure = FIGURES[name]()
        figure.set_layout_engine("none")
        for ax in figure.axes:
            if (legend := ax.get_legend()) is not None:
                legend.remove()
        for text in figure.findobj(Text):
            text.set_visible(False)
        n = len(figure.axes)
        size = np.array([n * (BOX[0] + GAP) + GAP, BOX[1] + 2 * GAP])
        figure.set_size_inches(size)
        for i, ax in enumerate(figure.axes):
            ax.set_position((*((ASIDE + GAP + i * (BOX[0] + GAP), ASIDE + GAP) / size), *(BOX / size)))
        figure.savefig(file, dpi=DPI, facecolor="white", metadata={"Software": None})


def test_every_figure_has_a_picture():
    assert set(FIGURES) == set(kx.pl.__all__)
    assert {file.stem for file in PICTURES.glob("*.png")} == set(FIGURES)


def differs(name: str, folder: Path) -> str | None:
    found, expected = folder / f"{name}.png", folder / f"{name}-expected.png"
    draw(name, found)
    expected.write_bytes((PICTURES / f"{name}.png").read_bytes())  # beside it, where the difference may be written
    return compare_images(expected, found, tol=TOLERANCE)


@pytest.mark.parametrize("name", FIGURES)
def test_is_saved_and_not_returned(name, tmp_path, monkeypatch):
    file = tmp_path / "figure.svg"
    monkeypatch.setattr(kx.pl, name, partial(getattr(kx.pl, name), save=file, return_fig=False))
    assert FIGURES[name]() is None
    assert file.stat().st_size > 0


@pytest.mark.parametrize("name", FIGURES)
def test_looks_as_stored(name, tmp_path):
    assert differs(name, tmp_path) is None


def is_map(ax: Axes) -> bool:
    """Fields, or a colour bar, which has them too."""
    return any(isinstance(artist, QuadMesh | AxesImage | PolyCollection) for artist in ax.get_children())


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "graph_robustness"])  # whose bands are polygons
def test_maps_have_no_grid_under_the_style_of_scanpy(name):
    with matplotlib.rc_context():
        sc.set_figure_params()
        assert matplotlib.rcParams["axes.grid"]
        figure = FIGURES[name]()
        figure.draw_without_rendering()
    for ax in filter(is_map, figure.axes):
        assert not any(line.get_visible() for line in [*ax.get_xgridlines(), *ax.get_ygridlines()])


@pytest.mark.parametrize("name", FIGURES)
def test_legends_show_their_dashes_under_the_style_of_scanpy(name):
    with matplotlib.rc_context():
        sc.set_figure_params()
        assert matplotlib.rcParams["legend.handlelength"] < 1
        figure = FIGURES[name]()
    assert all(ax.get_legend().handlelength >= 2 for ax in figure.axes if ax.get_legend() is not None)


def test_names_and_truth_are_seen_in_the_dark():
    with style.context("dark_background"):
        (network,) = FIGURES["gene_network"]().axes
        (specificity,) = FIGURES["cell_specificity"]().axes
    for ax, artists in ((network, [*network.texts, *network.lines]), (specificity, specificity.lines[:1])):
        assert np.mean(to_rgb(ax.get_facecolor())) < 0.5
        assert all(np.mean(to_rgb(artist.get_color())) > 0.5 for artist in artists)


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"prediction_distributions", "treatment_profiles"}))
def test_axes_of_subfigures(name, tmp_path, monkeypatch):
    file = tmp_path / "figure.png"
    figure = plt.figure(figsize=(9, 4), layout="constrained")
    ax = figure.subfigures(1, 2)[1].subplots()
    monkeypatch.setattr(kx.pl, name, partial(getattr(kx.pl, name), ax=ax, save=file))
    assert FIGURES[name]() is figure
    assert file.stat().st_size > 0
    plt.close(figure)


def test_other_colours_are_noticed(tmp_path, monkeypatch):
    original = Axes.pcolormesh

    def reversed_(*args, cmap, **kwargs):
        return original(*args, cmap=cmap.reversed(), **kwargs)

    monkeypatch.setattr(Axes, "pcolormesh", reversed_)
    assert "RMS Value" in differs("gene_modules", tmp_path)


def test_missing_edges_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(Axes, "add_collection", lambda *_: None)
    assert "RMS Value" in differs("gene_network", tmp_path)


if __name__ == "__main__":
    matplotlib.use("agg")
    for name in FIGURES:
        draw(name, PICTURES / f"{name}.png")
