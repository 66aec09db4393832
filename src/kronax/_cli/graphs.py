"""The main job on one data set, from the matrix to clusters, gene modules, figures and a report."""

import argparse
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax import __version__, get, metrics, pl, tl
from kronax._cli import files, multiplied, named_modules, names
from kronax._cli.refusals import InputError, refused
from kronax._cli.report import aligned, next_lines
from kronax._cli.results import Results
from kronax._cli.terminal import in_code, note
from kronax._data import batches, keys, objects, selection
from kronax._data.chunks import is_dask, read_any
from kronax._data.matrix import Counts, place
from kronax._data.modules import MOST_GROUPS, categorical, gene_names, noise_among
from kronax._logging import logger
from kronax.pl._cell_panels import cell_panels

CLUSTERS, UMAP = keys.QUICKSTART_CLUSTERS, keys.QUICKSTART_UMAP
RESOLUTIONS = [step / 10 for step in range(1, 21)]
SIGNIFICANT = 0.05  # q value of the gene edges that the report counts
_BYTES_PER_ROW = 200  # of a table of edges or genes
_SAMPLE = 2_000  # cells of a matrix that is not in memory, which show whether it holds counts
MOST_COMPARED = 20_000  # cells, beyond which forty clusterings and a second graph take longer than the work itself
EXAMPLE, EXAMPLE_LABEL = "pbmc68k_reduced, which comes with scanpy", "bulk_labels"
_BATCHES = (
    r"(?i)^(.*[_. ])?(batch|sample|donor|library|lane|plate|patient|subject|individual|replicate|chemistry|dataset|"
    r"experiment|orig[_.]ident)(e?s)?([_. ]?(id|name|key|label|no))?$"
)


@dataclass(frozen=True)
class Chosen:
    """The matrix that the graphs are learnt from, with the chosen genes.

    Attributes
    ----------
    adata
        Cells × genes.
    layer
        Where the matrix stands; None for X.
    logs
        The same cells and genes with logarithms of normalised values.
    n_genes
        Number of genes before the choice.
    n_rare
        Number of genes in too few cells.
    n_entries
        Number of values other than zero, of the chosen genes.
    batch
        Column of obs with the batches; None without.
    """

    adata: AnnData
    layer: str | None
    logs: AnnData
    n_genes: int
    n_rare: int
    n_entries: int
    batch: str | None = None


def run(args: argparse.Namespace, results: Results) -> None:
    """Read, learn, write, report and draw."""
    adata = example() if args.file is None else files.read_cells(args.file, lazily=args.out_of_core)
    label = EXAMPLE_LABEL if args.file is None else args.label
    with files.reading(args.file):
        adata = with_matrix(adata, args.layer, raw=args.raw)
        counts = check(adata, args.layer, label, args.gene_symbols, args.batch)
    label, symbols, batch = clear_names(adata, label, args.gene_symbols, args.batch)
    if args.file is not None:
        files.require_writable(adata, args.file, results.beside)
    with files.reading(args.file), refused():
        chosen = choose(adata, counts, args.layer, args.n_top_genes, args.min_cells, batch)
    keep_all_genes(chosen, adata)
    del adata
    results.require_room(_n_bytes(chosen, args))
    with files.near(chosen.adata, args.layer, results.beside), _quiet_scanpy():
        seconds = learn(chosen, results, args.n_neighbors, args.resolution, symbols)
        logger.info("writing")
        name = "quickstart" if args.file is None else args.file.stem
        results.write_first(f"{name}.h5ad", lambda path: files.write_h5ad(chosen.adata, path))
        agreement = None
        if label is not None and chosen.adata.n_obs <= MOST_COMPARED:
            with results.extra(f"a comparison with {label!r}"):
                agreement = compare(chosen, label, args.n_neighbors, args.resolution)
        more = [
            mixed(chosen, results, label),
            under_factors(chosen, results, args.n_neighbors, args.resolution),
            named(chosen, results, label, symbols),
        ]
        print(f"\nkronax {__version__} on {args.file or EXAMPLE}\n")
        print(report(chosen, seconds, args, label, agreement, more))
        draw(chosen.adata, results, label, symbols)
        tabulate(chosen.adata, results, symbols)
    print(f"\nWritten to {results.folder}: {', '.join(results.names)}.")
    print(following(chosen.adata, results.folder / results.names[0], args.layer, symbols))
    if args.file is None:
        print("Your own data: python -m kronax FILE.h5ad --layer counts --label OBS_COLUMN")


def example() -> AnnData:
    """Return the data set that comes with scanpy: 700 blood cells × 765 genes, log-normalised, with experts' labels."""
    import scanpy as sc

    reduced = sc.datasets.pbmc68k_reduced()
    colours = {f"{EXAMPLE_LABEL}_colors": reduced.uns[f"{EXAMPLE_LABEL}_colors"]}
    return AnnData(reduced.raw.X, obs=reduced.obs[[EXAMPLE_LABEL]], var=reduced.raw.var, uns=colours)


# What is read, and whether it can be used


def with_matrix(adata: AnnData, layer: str | None, *, raw: bool) -> AnnData:
    """Replace X by raw, with its genes: on request, or if X cannot be used and only raw can be meant."""
    if raw:
        if adata.raw is None:
            msg = "The file has no raw; leave --raw out."
            raise InputError(msg)
        return adata.raw.to_adata()
    if layer is not None or adata.raw is None or not (fault := _fault(adata.X)) or _fault(adata.raw.X):
        return adata
    if layers := sorted(key for key, values in adata.layers.items() if key and not _fault(values)):
        msg = f"X {fault}. Name one of the layers {layers} with --layer, or take raw, with its own genes, by --raw."
        raise InputError(msg)
    note(f"X {fault}: the values and the {adata.raw.n_vars:,} genes of raw are used in its place, as with --raw.")
    return adata.raw.to_adata()


def _fault(values: Any) -> str:
    """Return why a matrix holds neither counts nor logarithms of them; empty if it may."""
    if values is None:
        return "is missing"
    if not np.issubdtype(values.dtype, np.number):
        return ""
    if np.isnan(lowest := _lowest(values)):
        return "has missing values"
    return "has negative values, as scaled ones are" if lowest < 0 else ""


def _lowest(values: Any) -> float:
    """Return the smallest stored value, NaN if one is NaN, 0 if there is none."""
    if is_dask(values):
        import dask

        return np.min(dask.compute(*map(dask.delayed(_lowest), values.to_delayed().ravel())))
    entries = values.data if sparse.issparse(values) else np.asarray(values)
    return entries.min() if entries.size else 0.0


def check(
    adata: AnnData, layer: str | None, label: str | None, gene_symbols: str | None = None, batch: str | None = None
) -> Counts:
    """Require a matrix that can be used, labels that can be drawn, and columns of gene names and batches; return the matrix."""
    with refused():
        if layer is not None:
            hints = ["The matrix may be in X: leave --layer out."] * (adata.X is not None)
            hints += ["raw is read with --raw."] * (adata.raw is not None)
            objects.key_in(layer, adata.layers, "adata.layers", " ".join(hints))
        if layer is None and adata.X is None:
            msg = f"The file has no X. Name one of the layers {sorted(map(str, adata.layers))} with --layer."
            raise ValueError(msg)
        for column in (label, batch):
            if column is not None:
                objects.key_in(column, adata.obs, "adata.obs")
        if gene_symbols is not None:
            objects.key_in(gene_symbols, adata.var, "adata.var")
        _require_by_cells(adata, layer)
        counts = read_any(adata, layer, n_sampled=_SAMPLE)
        batches.read_one(adata, batch, counts)
    if counts.n_negative:
        raw = ""
        if adata.raw is not None:
            fault = _fault(adata.raw.X)
            raw = f"; raw {fault}, too" if fault else ", or take raw, with its own genes, by --raw"
        msg = f"The matrix has negative values. Name a layer of counts or log-normalised values with --layer{raw}."
        raise InputError(msg)
    if label is not None and not 2 <= (n_labels := adata.obs[label].nunique()) <= MOST_GROUPS:
        msg = f"`adata.obs[{label!r}]` has {n_labels} distinct values; labels have from 2 to {MOST_GROUPS}."
        raise InputError(msg)
    return counts


def _require_by_cells(adata: AnnData, layer: str | None) -> None:
    """Require that a matrix that is not in memory can be read cell by cell."""
    found = selection.matrix(adata, layer)
    if is_dask(found) and found.numblocks[1] > 1:
        msg = (
            f"{place(layer)} is stored by genes (CSC), and can only be read whole: leave --out-of-core out, or write it as a "
            "CSR matrix."
        )
        raise ValueError(msg)


def clear_names(
    adata: AnnData, label: str | None, gene_symbols: str | None, batch: str | None
) -> tuple[str | None, str | None, str | None]:
    """Make room for our results; return the names that labels, names of genes and batches have from now on."""
    needed = ("obs", label), ("var", gene_symbols), ("obs", batch)
    moved = names.clear_for_graphs(adata, needed=set(needed))
    label, gene_symbols, batch = (moved.get(place, place)[1] for place in needed)
    return label, gene_symbols, batch


def choose(
    adata: AnnData, counts: Counts, layer: str | None, n_top_genes: int, min_cells: int, batch: str | None = None
) -> Chosen:
    """Leave out genes detected in few cells, and keep the others that vary most, within batches if there are any."""
    n_genes = adata.n_vars
    n_cells = selection.n_cells_detected(counts)
    enough = n_cells >= min_cells
    if enough.sum() < 2:
        msg = f"Only {enough.sum()} of {n_genes:,} genes have values in {min_cells} cells or more; name fewer with --min-cells."
        raise InputError(msg)
    adata, n_cells = (adata, n_cells) if enough.all() else (adata[:, enough].copy(), n_cells[enough])
    logs = selection.log_normalised(adata, layer, counts.sample)
    if adata.n_vars > n_top_genes:
        named = batches.read_one(adata, batch, counts)
        variable = selection.highly_variable(logs, n_top_genes, named and batches.large(named, counts))
        adata, logs, n_cells = adata[:, variable].copy(), logs[:, variable].copy(), n_cells[variable]
    if not counts.in_memory and adata.n_obs <= adata.n_vars:
        msg = (
            f"--out-of-core needs more cells than genes; {adata.n_obs:,} cells and {adata.n_vars:,} genes were chosen. Leave it "
            "out, or choose fewer genes with --n-top-genes."
        )
        raise InputError(msg)
    return Chosen(adata, layer, logs, n_genes, int((~enough).sum()), int(n_cells.sum()), batch)


def keep_all_genes(chosen: Chosen, adata: AnnData) -> None:
    """Keep the values of all genes, as they were read, in raw: marker genes are looked for among all.

    Not if none was left out, if the file has a raw of its own, or if the matrix stays in the file.
    """
    values = selection.matrix(adata, chosen.layer)
    if chosen.adata.n_vars < adata.n_vars and chosen.adata.raw is None and not is_dask(values):
        chosen.adata.raw = AnnData(values, obs=chosen.adata.obs[[]], var=adata.var)


def _n_bytes(chosen: Chosen, args: argparse.Namespace) -> int:
    """Add up the matrices of an object and of the results, not compressed."""
    adata = chosen.adata
    matrices = files.matrices(adata)
    lazy = [value for value in matrices if is_dask(value)]
    there = files.bytes_in_memory(value for value in matrices if not is_dask(value))
    if lazy:  # the file holds no more, and the one in use is kept twice for a while
        there += 2 * min(files.n_bytes(args.file), sum(value.nbytes for value in lazy))
    of_each = 3 * 2 * args.n_neighbors * 12 + 60 * 8  # three sparse matrices, and coordinates
    scales = adata.n_vars * 8 * (0 if chosen.batch is None else adata.obs[chosen.batch].nunique())
    tables = adata.n_vars * (args.n_neighbors + 1) * _BYTES_PER_ROW
    return there + sum(adata.shape) * of_each + scales + tables + 2**20  # and the overhead of any file


@contextmanager
def _quiet_scanpy() -> Iterator[None]:
    """Silence scanpy's remark that the graph is not its own."""
    import scanpy as sc

    before = sc.settings.verbosity
    sc.settings.verbosity = "error"
    try:
        yield
    finally:
        sc.settings.verbosity = before


# What is learnt


def learn(
    chosen: Chosen, results: Results, n_neighbors: int, resolution: float, gene_symbols: str | None = None
) -> float:
    """Learn the graphs, and from them gene modules, clusters and a UMAP; return the seconds that the graphs took."""
    import scanpy as sc

    adata = chosen.adata
    with refused(), _called(adata, gene_symbols):
        start = time.perf_counter()
        tl.med_magma(adata, layer=chosen.layer, batch_key=chosen.batch, n_neighbors=n_neighbors)
        seconds = time.perf_counter() - start
    if adata.varp[adata.uns[keys.MED_MAGMA]["connectivities_key"]].nnz:
        logger.info("gene modules")
        with results.extra("gene modules"):
            tl.gene_modules(adata)
    else:
        logger.info("gene modules were not found: the gene graph has no edges")
    logger.info("clusters")
    with results.extra("clusters"):
        sc.tl.leiden(
            adata,
            resolution=resolution,
            neighbors_key=keys.MED_MAGMA,
            key_added=CLUSTERS,
            flavor="igraph",
            n_iterations=2,
            directed=False,
        )
        adata.obs[CLUSTERS] = _of_connected(adata)
    logger.info("UMAP")
    with results.extra("a UMAP"):
        sc.tl.umap(adata, neighbors_key=keys.MED_MAGMA, key_added=UMAP)
    return seconds


@contextmanager
def _called(adata: AnnData, gene_symbols: str | None) -> Iterator[None]:
    """Call the genes as asked, in what is told meanwhile."""
    names = adata.var_names
    adata.var_names = gene_names(adata, gene_symbols)
    try:
        yield
    finally:
        adata.var_names = names


def _of_connected(adata: AnnData) -> pd.Categorical:
    """Return the clusters without those of cells that have no edge, each of which is a cluster of its own."""
    clusters = adata.obs[CLUSTERS].array.copy()
    clusters[~connected(adata)] = np.nan
    clusters = clusters.remove_unused_categories()
    return clusters.rename_categories([str(number) for number in range(len(clusters.categories))])


def connected(adata: AnnData) -> np.ndarray:
    """Mark the cells that have an edge; those without counts have none."""
    return adata.obsp[adata.uns[keys.MED_MAGMA]["connectivities_key"]].getnnz(axis=1) > 0


def compare(chosen: Chosen, label: str, n_neighbors: int, resolution: float) -> pd.DataFrame:
    """Measure how well clusters of our graph, and of scanpy's on principal components, agree with labels.

    Adjusted mutual information, resolutions (`RESOLUTIONS` and the one asked for) × the two graphs. Cells without counts
    are left out.
    """
    resolutions = list(dict.fromkeys([*RESOLUTIONS, resolution]))
    logger.info("comparison with %r: two graphs, each clustered at %d resolutions", label, len(resolutions))
    logs = chosen.logs.to_memory()
    multiplied.neighbours_on_components(logs, n_neighbors)
    labels = chosen.adata.obs[label].where(connected(chosen.adata))
    graphs = {keys.MED_MAGMA: chosen.adata, keys.SCANPY_DEFAULT: logs}
    return pd.DataFrame(
        {
            key: metrics.ami_sweep(graph, labels=labels, resolutions=resolutions, neighbors_key=key)["ami"].to_numpy()
            for key, graph in graphs.items()
        },
        index=resolutions,
    )


def mixed(chosen: Chosen, results: Results, label: str | None) -> list[str]:
    """Tell how much the batches differ, and how well the cell graph mixes them."""
    adata, batch = chosen.adata, chosen.batch
    if batch is None or len((fit := adata.uns[keys.MED_MAGMA])["batches"]) < 2:
        return []
    spread, matched = f"{fit['batch_spread'].max():.2f}", f"{fit['batch_matched'].min():.0%}"
    rows = [
        ("batches", f"{len(fit['batches']):,}", f"obs[{batch!r}]: every gene has a scale of its own in each"),
        ("spread", spread, "of log scales in the batch that differs most; 0: no more than chance"),
        ("matched", matched, "of the cells match other batches, in the batch where fewest do"),
    ]
    with results.extra("the mixing of batches"):
        rows.append(_mixing(adata, label, batch))
    return [
        aligned(rows),
        "  If batches stay apart: a graph of a corrected embedding, in Python, with harmonypy and kronax as kx:",
        f'    found = harmonypy.run_harmony(adata.obsm["X_med_magma"], adata.obs, {in_code(batch)})',
        '    adata.obsm["X_corrected"] = found.Z_corr  # harmonypy 2; transposed before',
        '    kx.pp.neighbors(adata, use_rep="X_corrected", key_added="corrected")',
    ]


def _mixing(adata: AnnData, label: str | None, batch: str) -> tuple[str, str, str]:
    """Measure how well batches mix among cells with the same label; without labels, how far edges stay within them."""
    if label is None:
        found = metrics.assortativity(adata, labels=batch, neighbors_key=keys.MED_MAGMA)
        return "assortativity", f"{found:.2f}", "of batches: near 1, they are apart or hold other cells; --label tells"
    if adata.obs.groupby(label, observed=True)[batch].nunique().max() < 2:
        return "mixing", "none", f"no value of {label!r} is found in two batches"
    found = metrics.batch_mixing(adata, label_key=label, batch_key=batch)
    return "mixing", f"{found:.2f}", f"of batches among neighbours with the same {label!r}: 1 as by chance, 0 apart"


def under_factors(chosen: Chosen, results: Results, n_neighbors: int, resolution: float) -> list[str]:
    """Tell what is kept of both graphs when cells and genes are multiplied by random factors."""
    if chosen.adata.n_obs > multiplied.MOST_CELLS:
        return [f"  What random factors change is measured up to {multiplied.MOST_CELLS:,} cells."]
    logger.info("random factors: both graphs, before and after")
    with results.extra("a comparison under random factors"):
        kept = multiplied.kept_by_graphs(chosen.adata, chosen.layer, n_neighbors, resolution, chosen.batch)
        return multiplied.lines(kept, resolution)
    return []


def named(chosen: Chosen, results: Results, label: str | None, gene_symbols: str | None) -> list[str]:
    """Tell what the gene modules are."""
    if keys.GENE_MODULE not in chosen.adata.var:
        return []
    groupby = label or (CLUSTERS if CLUSTERS in chosen.adata.obs else None)
    with results.extra("names of the gene modules"):
        return named_modules.lines(chosen.adata, chosen.layer, groupby, gene_symbols)
    return []


# What is told


def report(
    chosen: Chosen,
    seconds: float,
    args: argparse.Namespace,
    label: str | None,
    agreement: pd.DataFrame | None,
    more: Sequence[list[str]] = (),
) -> str:
    """Return a summary of the results in a few aligned lines."""
    adata, fit = chosen.adata, chosen.adata.uns[keys.MED_MAGMA]
    one_step = fit["params"]["max_iter"] == 1
    goals = "matrix scaling and fit reached their goals" if one_step and fit["converged"] else fit["reason"]
    rows = [
        ("cells", f"{adata.n_obs:,}", ""),
        ("genes", f"{adata.n_vars:,}", _choice_of_genes(chosen, args.min_cells)),
        ("non-zeros", f"{chosen.n_entries:,}", f"{chosen.n_entries / np.prod(adata.shape):.0%} of all entries"),
        ("EM steps", f"{fit['n_iter']:,}", "matrix scaling and one fit, the default" if one_step else ""),
        ("converged", "yes" if fit["converged"] else "no", goals),
        ("seconds", f"{seconds:.1f}", "for both graphs, compilation included"),
        ("clusters", *_n_groups(adata.obs, CLUSTERS, f"Leiden, resolution {args.resolution:g}{_in_none(adata)}")),
        ("gene edges", *_n_significant(adata)),
        ("gene modules", *_n_groups(adata.var, keys.GENE_MODULE, f"Leiden, resolution 1{_of_noise(adata)}")),
    ]
    lines = [aligned(rows)]
    if chosen.batch is None and (column := batch_column(adata.obs, label)):
        lines += ["", *_about_batches(adata.obs, column)]
    if agreement is not None:
        lines += ["", *_about_agreement(label, agreement, args.resolution)]
    elif label is not None and adata.n_obs > MOST_COMPARED:
        lines += ["", f"  Agreement with {label!r} is measured up to {MOST_COMPARED:,} cells."]
    for section in filter(None, more):
        lines += ["", *section]
    return "\n".join(lines)


def _choice_of_genes(chosen: Chosen, min_cells: int) -> str:
    n_frequent = chosen.n_genes - chosen.n_rare
    remarks = [f"the most variable of {n_frequent:,}"] if chosen.adata.n_vars < n_frequent else []
    if chosen.n_rare:
        few = "no cell" if min_cells == 1 else f"fewer than {min_cells} cells"
        remarks.append(f"{chosen.n_rare:,} with values in {few} left out")
    return "; ".join(remarks)


def _n_groups(table: pd.DataFrame, column: str, how: str) -> tuple[str, str]:
    if column in table:
        return f"{table[column].nunique():,}", how
    return "none", "the gene graph has no edges" if column == keys.GENE_MODULE else ""


def _n_significant(adata: AnnData) -> tuple[str, str]:
    """Count the edges between genes that are more than noise."""
    q_values = adata.varp[adata.uns[keys.MED_MAGMA]["q_value_key"]]
    n_edges = q_values.nnz // 2
    if not n_edges:
        return "none", ""
    n = int((q_values.data <= SIGNIFICANT).sum()) // 2
    return f"{n:,}", f"more than noise (q ≤ {SIGNIFICANT:g}), of {n_edges:,} between nearest neighbours"


def _of_noise(adata: AnnData) -> str:
    """Count the gene modules that are no more than noise may form."""
    if keys.GENE_MODULE not in adata.var:
        return ""
    n = len(_noise(adata))
    return f"; {n:,} {'is' if n == 1 else 'are'} no more than noise may form" if n else ""


def _noise(adata: AnnData) -> set[str]:
    return noise_among(adata, keys.GENE_MODULE, categorical(adata.var[keys.GENE_MODULE], keys.GENE_MODULE))


def _largest(adata: AnnData) -> str:
    """Name the largest gene module that is not noise, or of all if they are noise."""
    noise, modules = _noise(adata), adata.var[keys.GENE_MODULE].cat.categories
    return next((module for module in modules if module not in noise), modules[0])


def _what_is_largest(adata: AnnData) -> str:
    """Say of which modules it is the largest."""
    n_noise, n_modules = len(_noise(adata)), len(adata.var[keys.GENE_MODULE].cat.categories)
    more = ", which is noise, as all are" if n_noise == n_modules else " that is not noise"
    return "the largest module" + (more if n_noise else "")


def _in_none(adata: AnnData) -> str:
    """Count the cells that are in no cluster."""
    n = int((~connected(adata)).sum())
    return f"; {n:,} cell{'s are' if n > 1 else ' is'} in none, without counts" if n else ""


def batch_column(obs: pd.DataFrame, label: str | None) -> str | None:
    """Name a column that looks like batches: by its name, and with at least two cells for every value."""
    named = obs.columns[obs.columns.astype(str).str.match(_BATCHES)]
    return next((key for key in named if key != label and 2 <= obs[key].nunique() <= len(obs) / 2), None)


def _about_batches(obs: pd.DataFrame, column: str) -> list[str]:
    return [
        f"  Batches? obs[{column!r}] has {obs[column].nunique():,} values. If clusters follow them, run it again with",
        f"  --batch {shlex.quote(column)}: every gene then has a scale of its own in each.",
    ]


def _about_agreement(label: str, found: pd.DataFrame, asked: float) -> list[str]:
    rows = {f"resolution {resolution:g}": found.loc[resolution] for resolution in dict.fromkeys([1.0, asked])}
    rows["best"] = found.loc[RESOLUTIONS].max()
    return [
        f"  Agreement with {label!r} (adjusted mutual information, 1 at most)",
        f"  {'':<16}{'med_magma':>10}{'PCA neighbours':>18}",
        *(
            f"  {name:<16}{row.iloc[0]:>10.3f}{row.iloc[1]:>18.3f}"
            + "   the clusters in the file" * (name == f"resolution {asked:g}")
            for name, row in rows.items()
        ),
        "  The same cells, genes and Leiden algorithm for both: PCA neighbours are sc.pp.pca and sc.pp.neighbors.",
        f"  Best: the largest over resolutions {RESOLUTIONS[0]}, {RESOLUTIONS[1]}, …, {RESOLUTIONS[-1]}, "
        "a choice that knows the labels.",
    ]


def draw(adata: AnnData, results: Results, label: str | None, gene_symbols: str | None) -> None:
    """Draw what can be drawn."""
    titles = {CLUSTERS: "clusters of the cell graph"} if CLUSTERS in adata.obs else {}
    titles |= {} if label is None else {label: label}
    if UMAP in adata.obsm and titles:
        results.add("umap.png", lambda path: cell_panels(adata, UMAP, titles).savefig(path, dpi=150))
    groupby = label or CLUSTERS
    if keys.GENE_MODULE not in adata.var or groupby not in adata.obs:
        logger.info("gene_modules.png is not drawn: there are no gene modules or no clusters")
    else:
        results.add(
            "gene_modules.png",
            lambda path: pl.gene_modules(adata, groupby=groupby, gene_symbols=gene_symbols, save=path),
        )


def tabulate(adata: AnnData, results: Results, gene_symbols: str | None) -> None:
    """Write the gene graph and the gene modules as tables."""
    if not adata.varp[adata.uns[keys.MED_MAGMA]["connectivities_key"]].nnz:
        return
    _add_table(results, "edges.csv", lambda: get.edges(adata, gene_symbols=gene_symbols))
    if keys.GENE_MODULE in adata.var:
        _add_table(results, "genes.csv", lambda: get.modules(adata, gene_symbols=gene_symbols))


def _add_table(results: Results, name: str, table: Callable[[], pd.DataFrame]) -> None:
    results.add(name, lambda path: table().to_csv(path, index=False, float_format="%.6g"))


def following(adata: AnnData, path: Path, layer: str | None = None, gene_symbols: str | None = None) -> str:
    """Return lines of Python that continue from the file and run as they are."""
    lines = ["import scanpy as sc", f"adata = sc.read_h5ad({in_code(path.as_posix())})"]
    if CLUSTERS in adata.obs:
        if UMAP in adata.obsm:
            lines.append(f'sc.pl.embedding(adata, "{UMAP}", color="{CLUSTERS}")')
        if adata.obs[CLUSTERS].notna().all() and _between_clusters(adata):
            lines.append(f'sc.tl.paga(adata, groups="{CLUSTERS}", neighbors_key="{keys.MED_MAGMA}")')
    column = "" if gene_symbols is None else f"[{in_code(gene_symbols)}]"
    if keys.GENE_MODULE in adata.var:
        of_genes = f"adata.var{column}" if column else "adata.var_names"
        largest = f'adata.var["{keys.GENE_MODULE}"] == "{_largest(adata)}"'
        lines.append(f"print(*{of_genes}[{largest}])  # {_what_is_largest(adata)}")
    return next_lines([*lines, *_markers(adata, layer, gene_symbols)])


def _between_clusters(adata: AnnData) -> bool:
    """Return whether an edge joins two clusters; scanpy's PAGA needs one."""
    edges = adata.obsp[adata.uns[keys.MED_MAGMA]["connectivities_key"]].tocoo()
    clusters = adata.obs[CLUSTERS].to_numpy()
    return bool((clusters[edges.row] != clusters[edges.col]).any())


def _markers(adata: AnnData, layer: str | None, gene_symbols: str | None) -> list[str]:
    """Return lines that find marker genes of the clusters, among all genes if they are in raw, by logarithms."""
    values = selection.matrix(adata, layer) if adata.raw is None else adata.raw.X
    sizes = adata.obs[CLUSTERS].value_counts() if CLUSTERS in adata.obs else []
    if len(sizes) < 2 or min(sizes) < 2 or is_dask(values) or _fault(values):  # scanpy refuses these
        return []
    if adata.raw is not None:
        lines = ["markers = adata.raw.to_adata()  # all genes"]
    else:
        lines = ["markers = adata.copy()"]
        lines += [] if layer is None else [f"markers.X = markers.layers[{in_code(layer)}].copy()"]
    if not selection.are_logarithms(values):
        lines += ["sc.pp.normalize_total(markers)", "sc.pp.log1p(markers)"]
    named = "" if gene_symbols is None else f", gene_symbols={in_code(gene_symbols)}"
    return [
        *lines,
        f'sc.tl.rank_genes_groups(markers, "{CLUSTERS}", method="wilcoxon")',
        f"sc.pl.rank_genes_groups(markers, n_genes=10{named})",
    ]
