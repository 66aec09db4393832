"""The main job on one data set, from the matrix to clusters, gene modules, figures and a report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax import pl, tl
from kronax._cli.output import InputError, told_to_the_user
from kronax._data import keys, objects
from kronax._data.matrix import read_counts
from kronax._data.modules import MOST_GROUPS
from kronax._logging import logger
from kronax.pl._figure import shrink_wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

CLUSTERS, UMAP = keys.QUICKSTART_CLUSTERS, keys.QUICKSTART_UMAP
RESOLUTIONS = [step / 10 for step in range(1, 21)]
MOST_COMPARED = 20_000  # cells, beyond which forty clusterings and a second graph take longer than the work itself
_PANEL, _GAP = 3.6, 0.3  # side of a UMAP and what is free beside its legend, inches
_LARGEST_LOGARITHM = 50  # no count has a logarithm beyond: larger values are counts, whole or not


@dataclass(frozen=True)
class Agreement:
    """Adjusted mutual information of clusters and labels, by resolution: `RESOLUTIONS` and the one asked for."""

    med_magma: dict[float, float]
    neighbors: dict[float, float]


@dataclass(frozen=True)
class Result:
    """What the report tells."""

    adata: AnnData
    n_entries: int
    seconds: float
    resolution: float
    label: str | None
    agreement: Agreement | None
    gene_symbols: str | None = None
    has_modules: bool = True


def example() -> AnnData:
    """Give the data set that comes with scanpy: 700 blood cells × 765 genes, log-normalised, with experts' labels."""
    import scanpy as sc

    reduced = sc.datasets.pbmc68k_reduced()
    label = "bulk_labels"
    colours = {f"{label}_colors": reduced.uns[f"{label}_colors"]}
    return AnnData(reduced.raw.X, obs=reduced.obs[[label]], var=reduced.raw.var, uns=colours)


def check(adata: AnnData, layer: str | None, label: str | None, gene_symbols: str | None = None) -> None:
    """Require a matrix that can be used, labels that can be drawn and a column of gene names, if one is named."""
    with told_to_the_user():
        if layer is not None:
            hint = "" if adata.X is None else "The matrix may be in X: leave --layer out."
            objects.key_in(layer, adata.layers, "adata.layers", hint)
        values = read_counts(adata, layer).matrix.data
        if label is not None:
            objects.key_in(label, adata.obs, "adata.obs")
        if gene_symbols is not None:
            objects.key_in(gene_symbols, adata.var, "adata.var")
    if (values < 0).any():
        msg = "The matrix has negative values. Name a layer of counts or log-normalised values with --layer."
        raise InputError(msg)
    if label is not None and not 2 <= (n_labels := adata.obs[label].nunique()) <= MOST_GROUPS:
        msg = f"`adata.obs[{label!r}]` has {n_labels} distinct values; labels have from 2 to {MOST_GROUPS}."
        raise InputError(msg)


def run(
    adata: AnnData,
    *,
    layer: str | None,
    label: str | None,
    n_top_genes: int,
    n_neighbors: int,
    resolution: float,
    gene_symbols: str | None = None,
) -> Result:
    """Learn the graphs, and from them clusters, a UMAP and gene modules; compare with labels if there are any."""
    import scanpy as sc

    logs = log_normalised(adata, layer)
    if adata.n_vars > n_top_genes:
        chosen = highly_variable(logs, n_top_genes)
        adata, logs = adata[:, chosen].copy(), logs[:, chosen].copy()
    with quiet(sc):
        with told_to_the_user():
            start = time.perf_counter()
            tl.med_magma(adata, layer=layer, n_neighbors=n_neighbors)
            seconds = time.perf_counter() - start
            has_modules = adata.varp[adata.uns[keys.MED_MAGMA]["connectivities_key"]].nnz > 0
            if has_modules:
                logger.info("gene modules")
                tl.gene_modules(adata)
            else:
                logger.info("gene modules were not found: the gene graph has no edges")
        logger.info("clusters")
        leiden(adata, keys.MED_MAGMA, resolution, CLUSTERS)
        logger.info("UMAP")
        sc.tl.umap(adata, neighbors_key=keys.MED_MAGMA, key_added=UMAP)
        compares = label is not None and adata.n_obs <= MOST_COMPARED
        agreement = compare(adata, logs, label, n_neighbors, resolution) if compares else None
    values = matrix(adata, layer)
    n_entries = values.count_nonzero() if sparse.issparse(values) else np.count_nonzero(values)
    return Result(adata, int(n_entries), seconds, resolution, label, agreement, gene_symbols, has_modules)


def matrix(adata: AnnData, layer: str | None) -> np.ndarray | sparse.spmatrix | sparse.sparray:
    """Give a layer, or X."""
    return adata.X if layer is None else adata.layers[layer]


def log_normalised(adata: AnnData, layer: str | None) -> AnnData:
    """Normalise the total of every cell and take logarithms, in a copy; leave values that are logarithms as they are."""
    import scanpy as sc

    values = matrix(adata, layer).astype(np.float32)
    logs = AnnData(values, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))
    entries = values.data if sparse.issparse(values) else values
    if (entries == np.rint(entries)).all() or entries.max() > _LARGEST_LOGARITHM:
        sc.pp.normalize_total(logs)
        sc.pp.log1p(logs)
    return logs


def highly_variable(logs: AnnData, n_top_genes: int) -> np.ndarray:
    """Choose genes as scanpy does by default: a mask."""
    import scanpy as sc

    return sc.pp.highly_variable_genes(logs, n_top_genes=n_top_genes, inplace=False)["highly_variable"].to_numpy()


@contextmanager
def quiet(sc) -> Iterator[None]:
    """Keep scanpy from remarking that the graph is not its own."""
    before = sc.settings.verbosity
    sc.settings.verbosity = "error"
    try:
        yield
    finally:
        sc.settings.verbosity = before


def leiden(adata: AnnData, neighbors_key: str, resolution: float, key_added: str) -> None:
    """Cluster cells, always in the same way."""
    import scanpy as sc

    sc.tl.leiden(
        adata,
        resolution=resolution,
        neighbors_key=neighbors_key,
        key_added=key_added,
        flavor="igraph",
        n_iterations=2,
        directed=False,
    )


def compare(adata: AnnData, logs: AnnData, label: str, n_neighbors: int, resolution: float) -> Agreement:
    """Measure how well clusters of our graph, and of scanpy's on principal components, agree with labels."""
    import scanpy as sc

    resolutions = list(dict.fromkeys([*RESOLUTIONS, resolution]))
    logger.info("comparison with %r: two graphs, each clustered at %d resolutions", label, len(resolutions))
    ours = AnnData(obs=pd.DataFrame(index=adata.obs_names))
    key = adata.uns[keys.MED_MAGMA]["connectivities_key"]
    ours.obsp[key] = adata.obsp[key]
    ours.uns[keys.MED_MAGMA] = adata.uns[keys.MED_MAGMA]
    sc.pp.pca(logs)
    sc.pp.neighbors(logs, n_neighbors=n_neighbors, transformer="sklearn")  # exact neighbours
    return Agreement(
        med_magma=agreement(ours, keys.MED_MAGMA, adata.obs[label], resolutions),
        neighbors=agreement(logs, "neighbors", adata.obs[label], resolutions),
    )


def agreement(
    adata: AnnData, neighbors_key: str, labels: pd.Series, resolutions: Sequence[float]
) -> dict[float, float]:
    """Give the adjusted mutual information of clusters and labels by resolution."""
    from sklearn.metrics import adjusted_mutual_info_score

    labelled = labels.notna().to_numpy()
    truth = labels[labelled].astype(str).to_numpy()
    scores = {}
    for resolution in resolutions:
        leiden(adata, neighbors_key, resolution, CLUSTERS)
        scores[resolution] = float(adjusted_mutual_info_score(truth, adata.obs[CLUSTERS].to_numpy()[labelled]))
    return scores


def report(result: Result) -> str:
    """Say in a few aligned lines what came out."""
    adata, fit = result.adata, result.adata.uns[keys.MED_MAGMA]
    share = result.n_entries / (adata.n_obs * adata.n_vars)
    one_step = fit["params"]["max_iter"] == 1
    goals = "matrix scaling and fit reached their goals" if one_step and fit["converged"] else fit["reason"]
    modules = (
        (f"{adata.var[keys.GENE_MODULE].nunique():,}", "Leiden, resolution 1")
        if result.has_modules
        else ("none", "the gene graph has no edges")
    )
    rows = [
        ("cells", f"{adata.n_obs:,}", ""),
        ("genes", f"{adata.n_vars:,}", ""),
        ("non-zeros", f"{result.n_entries:,}", f"{share:.0%} of all entries"),
        ("EM steps", f"{fit['n_iter']:,}", "matrix scaling and one fit, the default" if one_step else ""),
        ("converged", "yes" if fit["converged"] else "no", goals),
        ("seconds", f"{result.seconds:.1f}", "for both graphs, compilation included"),
        ("clusters", f"{adata.obs[CLUSTERS].nunique():,}", f"Leiden, resolution {result.resolution:g}"),
        ("gene modules", *modules),
    ]
    lines = [f"  {name:<14}{value:>12}   {remark}".rstrip() for name, value, remark in rows]
    if result.agreement is not None:
        lines += ["", *_agreement_lines(result.label, result.agreement, result.resolution)]
    elif result.label is not None:
        lines += ["", f"  Agreement with {result.label!r} is measured up to {MOST_COMPARED:,} cells."]
    return "\n".join(lines)


def _agreement_lines(label: str, found: Agreement, asked: float) -> list[str]:
    rows = [
        (f"resolution {resolution:g}", *(scores[resolution] for scores in (found.med_magma, found.neighbors)), remark)
        for resolution, remark in {1.0: "", asked: "   the clusters in the file"}.items()
    ]
    best = [max(scores[resolution] for resolution in RESOLUTIONS) for scores in (found.med_magma, found.neighbors)]
    return [
        f"  Agreement with {label!r} (adjusted mutual information, 1 at most)",
        f"  {'':<16}{'med_magma':>10}{'PCA neighbours':>18}",
        *(
            f"  {name:<16}{ours:>10.3f}{theirs:>18.3f}{remark}"
            for name, ours, theirs, remark in (*rows, ("best", *best, ""))
        ),
        "  The same cells, genes and Leiden algorithm for both: PCA neighbours are sc.pp.pca and sc.pp.neighbors.",
        f"  Best: the largest over resolutions {RESOLUTIONS[0]}, {RESOLUTIONS[1]}, …, {RESOLUTIONS[-1]}, "
        "a choice that knows the labels.",
    ]


def umap_figure(result: Result) -> Figure:
    """Draw the UMAP of the cell graph, coloured by cluster and, if there are any, by label."""
    from matplotlib.figure import Figure

    adata = result.adata
    panels = {CLUSTERS: "clusters of the cell graph"}
    if result.label is not None:
        panels[result.label] = result.label
    figure = Figure((_PANEL, _PANEL))
    left = 0.0
    for column, title in panels.items():
        ax = figure.add_axes((left / _PANEL, 0, 1, 1))
        legend = _panel(ax, adata.obsm[UMAP], pd.Categorical(adata.obs[column]), adata.uns.get(f"{column}_colors"))
        ax.set_title(title, fontsize=10, parse_math=False)
        left += _PANEL + legend.get_window_extent().width / figure.dpi + _GAP
    shrink_wrap(figure)
    return figure


def _panel(ax: Axes, places: np.ndarray, groups: pd.Categorical, colours: Sequence[str] | None) -> Legend:
    """Draw cells in the colours of their groups, and the legend on the right."""
    from matplotlib.colors import to_rgba_array
    from matplotlib.lines import Line2D
    from scanpy.plotting import palettes

    names = [str(name) for name in groups.categories]
    if colours is None or len(colours) != len(names):
        colours = palettes.default_20 if len(names) <= 20 else palettes.default_102
    rgba = to_rgba_array([*(colours[i % len(colours)] for i in range(len(names))), "lightgrey"])
    mixed = np.random.default_rng(0).permutation(len(groups))  # no group lies upon the others
    ax.scatter(*places[mixed].T, c=rgba[groups.codes[mixed]], s=min(14, 30_000 / len(groups)), linewidths=0)
    ax.set_axis_off()
    dots = [Line2D([], [], linestyle="", marker="o", markersize=5, color=colour) for colour in rgba[:-1]]
    legend = ax.legend(
        dots,
        names,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=-(-len(names) // 20),
        frameon=False,
        fontsize=8,
        handletextpad=0.1,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend


def write(result: Result, folder: Path, name: str) -> list[str]:
    """Write the annotated data and the figures that can be drawn; give the names of the files."""
    names = [f"{name}.h5ad", "umap.png"]
    umap_figure(result).savefig(folder / names[1], dpi=150)
    groupby = CLUSTERS if result.label is None else result.label
    n_groups = result.adata.obs[groupby].nunique()
    if result.has_modules and n_groups <= MOST_GROUPS:
        names.append("gene_modules.png")
        pl.gene_modules(result.adata, groupby=groupby, gene_symbols=result.gene_symbols, save=folder / names[-1])
    else:
        reason = f"there are {n_groups} clusters" if result.has_modules else "there are no gene modules"
        logger.info("gene_modules.png is not drawn: %s", reason)
    result.adata.write_h5ad(folder / names[0], compression="gzip")
    return names
