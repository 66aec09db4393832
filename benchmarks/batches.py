"""Do cell graphs join batches and keep labels apart? See README.md.

For every ``*.h5ad`` in a folder (raw counts in ``X``, ``obs["label"]`` and ``obs["batch"]``): scanpy's neighbours, alone and after
Harmony, BBKNN and ComBat, and kronax without batches, with them, and with Harmony on its coordinates.
"""

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import peers
import scanpy as sc
from anndata import AnnData
from cell_graphs import AT_ONE, BEST, RESOLUTIONS, read
from report import header, progress, table
from scipy import sparse

import kronax as kx

ASSORTATIVITY, MIXING, MIXING_OF_ALL, CONNECTIVITY = (
    "Nominal assortativity of the labels",
    "Mixing of batches, among neighbours with the same label (1: as by chance)",
    "Mixing of batches, among all neighbours (1: as by chance)",
    "Connectivity of the labels",
)
MEASURES = (BEST, AT_ONE, ASSORTATIVITY, MIXING, MIXING_OF_ALL, CONNECTIVITY)
LABEL, BATCH = "label", "batch"
Graph = sparse.csr_matrix


def main() -> None:
    args = arguments()
    files = sorted(args.data.glob("*.h5ad"))
    if not files:
        msg = f"There is no .h5ad file in {args.data}."
        raise SystemExit(msg)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        counts = read(file)
        if args.plates:
            counts.obs[BATCH] = plates(counts.n_obs, args.plates)
        counts.obs[BATCH] = counts.obs[BATCH].astype(str).astype("category")
        progress(f"{file.stem}: {counts.n_obs} cells, {counts.obs[BATCH].nunique()} batches")
        scores[file.stem] = row = {}
        for name, method in METHODS.items():
            graph = method(*variable(counts))
            if graph is not None:
                row[name] = score(graph, counts.obs, args.resolution_seeds)
                progress(f"  {name}: " + ", ".join(f"{value:.3f}" for value in row[name].values()))
    print(header())
    for measure in MEASURES:
        values = pd.DataFrame(
            {name: {method: found[measure] for method, found in row.items()} for name, row in scores.items()}
        )
        values["mean"] = values.mean(axis=1)
        rows = [[name, *(f"{value:.3f}" for value in column)] for name, column in values.items()]
        print("\n" + table(measure, ["", *values.index], rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .h5ad files")
    parser.add_argument(
        "--plates",
        type=int,
        metavar="CELLS",
        help="deal the cells out at random to batches of so many, which do not differ",
    )
    parser.add_argument(
        "--resolution-seeds", type=int, default=1, metavar="K", help="Leiden runs per resolution, averaged (default: 1)"
    )
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def plates(n: int, size: int) -> np.ndarray:
    """Name a batch for every cell, at random."""
    return np.random.default_rng(peers.SEED).permuted(np.arange(n) % max(2, round(n / size))).astype(str)


def variable(counts: AnnData) -> tuple[AnnData, AnnData]:
    """Return counts and log-normalised values of 2,000 genes that are variable within batches."""
    logs = peers.log_normalized(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = sc.pp.highly_variable_genes(
            logs, n_top_genes=min(peers.N_GENES, logs.n_vars), batch_key=BATCH, inplace=False
        )["highly_variable"].to_numpy()
    return counts[:, chosen].copy(), logs[:, chosen].copy()


# The graphs


def installed(name: str) -> bool:
    """Tell whether a package is there, and say so if it is not."""
    if importlib.util.find_spec(name):
        return True
    progress(f"  {name} is not installed: pip install {name}")
    return False


def scanpy_neighbors(counts: AnnData, logs: AnnData) -> Graph:
    peers.scanpy_graph(logs)
    return logs.obsp["connectivities"]


def harmony(coordinates: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """Correct coordinates; of harmonypy before 2.0 they are transposed."""
    import harmonypy

    found = np.asarray(
        harmonypy.run_harmony(
            np.asarray(coordinates, np.float64), obs, BATCH, verbose=False, random_state=peers.SEED
        ).Z_corr
    )
    return found if len(found) == len(obs) else found.T


def scanpy_harmony(counts: AnnData, logs: AnnData) -> Graph | None:
    if not installed("harmonypy"):
        return None
    sc.pp.pca(logs)
    logs.obsm["X_harmony"] = harmony(logs.obsm["X_pca"], logs.obs)
    sc.pp.neighbors(logs, use_rep="X_harmony")
    return logs.obsp["connectivities"]


def bbknn(counts: AnnData, logs: AnnData) -> Graph | None:
    if not installed("bbknn"):
        return None
    from bbknn import bbknn as balanced

    sc.pp.pca(logs)
    balanced(logs, batch_key=BATCH)
    return logs.obsp["connectivities"]


def combat(counts: AnnData, logs: AnnData) -> Graph:
    logs.X = logs.X.toarray()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.combat(logs, key=BATCH)
    return scanpy_neighbors(counts, logs)


def kronax(counts: AnnData, logs: AnnData, **arguments: str) -> Graph:
    kx.tl.med_magma(counts, graphs="cells", **arguments)
    return counts.obsp["med_magma_connectivities"]


def kronax_pooled(counts: AnnData, logs: AnnData) -> Graph:
    return kronax(counts, logs, batch_key=BATCH)


def kronax_separate(counts: AnnData, logs: AnnData) -> Graph:
    return kronax(counts, logs, batch_key=BATCH, batch_scales="separate")


def kronax_harmony(counts: AnnData, logs: AnnData, **arguments: str) -> Graph | None:
    if not installed("harmonypy"):
        return None
    kronax(counts, logs, **arguments)
    counts.obsm["X_harmony"] = harmony(counts.obsm["X_med_magma"], counts.obs)
    kx.pp.neighbors(counts, use_rep="X_harmony", key_added="harmony")
    return counts.obsp["harmony_connectivities"]


def kronax_pooled_harmony(counts: AnnData, logs: AnnData) -> Graph | None:
    return kronax_harmony(counts, logs, batch_key=BATCH)


METHODS: dict[str, Callable[[AnnData, AnnData], Graph | None]] = {
    "scanpy": scanpy_neighbors,
    "Harmony": scanpy_harmony,
    "BBKNN": bbknn,
    "ComBat": combat,
    "kronax": kronax,
    "kronax, batch_key": kronax_pooled,
    "kronax, separate scales": kronax_separate,
    "kronax, Harmony": kronax_harmony,
    "kronax, batch_key, Harmony": kronax_pooled_harmony,
}


# The measures


def score(graph: Graph, obs: pd.DataFrame, n_seeds: int) -> dict[str, float]:
    """Compare a graph with labels and batches; with several seeds, AMI is the mean over them."""
    labels, batches = obs[LABEL].astype(str).to_numpy(), obs[BATCH].astype(str).to_numpy()
    sweep = kx.metrics.ami_sweep(graph, labels=labels, resolutions=RESOLUTIONS, n_seeds=n_seeds)
    ami = sweep.pivot(index="seed", columns="resolution", values="ami")
    return {
        BEST: float(ami.max(axis=1).mean()),
        AT_ONE: float(ami[1.0].mean()),
        ASSORTATIVITY: kx.metrics.assortativity(graph, labels=labels),
        MIXING: kx.metrics.batch_mixing(graph, label_key=labels, batch_key=batches),
        MIXING_OF_ALL: mixing_of_all(graph, labels, batches),
        CONNECTIVITY: connectivity(graph, labels),
    }


def mixing_of_all(graph: Graph, labels: np.ndarray, batches: np.ndarray) -> float:
    """Divide the share of a cell's neighbours from other batches by the share expected among the cells of its label."""
    pairs = sparse.coo_array(graph > 0)
    row, col = pairs.coords
    n = len(labels)
    degree = np.bincount(row, minlength=n)
    from_others = np.bincount(row, batches[row] != batches[col], minlength=n)
    both = pd.crosstab(labels, batches)
    of_label = both.sum(axis=1).loc[labels].to_numpy()
    expected = (
        of_label - both.to_numpy()[both.index.get_indexer(labels), both.columns.get_indexer(batches)]
    ) / np.maximum(1, of_label - 1)
    there = (degree > 0) & (expected > 0)
    return float((from_others[there] / degree[there]).mean() / expected[there].mean())


def connectivity(graph: Graph, labels: np.ndarray) -> float:
    """Measure the connectivity of the labels by scib-metrics, if it is installed, and else by kronax; both are the same."""
    if importlib.util.find_spec("scib_metrics") is None:
        return kx.metrics.graph_connectivity(graph, label_key=labels)
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    graph = sparse.csr_matrix(graph)
    k = int(np.diff(graph.indptr).max())
    indices = np.repeat(np.arange(graph.shape[0])[:, None], k, axis=1)  # rows are filled up with the cell itself
    distances = np.zeros(indices.shape)
    for i, (start, stop) in enumerate(zip(graph.indptr[:-1], graph.indptr[1:], strict=True)):
        indices[i, : stop - start] = graph.indices[start:stop]
        distances[i, : stop - start] = 1.0
    return float(scib_metrics.graph_connectivity(NeighborsResults(indices=indices, distances=distances), labels))


if __name__ == "__main__":
    main()
