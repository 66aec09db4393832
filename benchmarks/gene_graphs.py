"""How well are the edges of known graphs recovered? See README.md.

Simulated Kronecker-sum Gaussians on Barabási–Albert trees and on blocks, whose rows and columns are multiplied by χ²
noise; and, with ``--grn DIR``, gene networks that were simulated with SERGIO. All pairs are ranked by the absolute value of the
estimate. Of the precision–recall curve two areas are given: by steps, which is the average precision, and by trapezoids, as in
the literature on these graphs. They differ where many pairs are equal, such as the zeros of a sparse estimate: trapezoids draw a
straight line there.
"""

import argparse
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import peers
from anndata import AnnData
from report import header, progress, table
from scipy import sparse
from sklearn.covariance import GraphicalLassoCV, LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import auc

import kronax as kx
from kronax.solvers.gaussian.simulate import noise_scales

RIDGE = 0.1
WEAK = 0.001  # strength of a ridge that trusts the smallest eigenvalues


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("WARNING")
    print(header())
    for graph in args.graphs:
        rows = {name: [] for name in AREAS}
        for signs in ("positive", "random"):
            for noise in (0.0, 0.5, 1.0):
                progress(f"{graph}, {signs} signs, noise strength {noise:g}")
                drawn = [recovered(args.shape, graph, signs, noise, seed) for seed in range(args.seeds)]
                for name, areas in zip(AREAS, np.mean(drawn, axis=0), strict=True):
                    rows[name].append([signs, f"{noise:g}", *(f"{area:.4f}" for area in areas)])
        for name, found in rows.items():
            title = f"{name}, {TITLES[graph]}, {args.shape[0]} × {args.shape[1]}, mean of both graphs"
            columns = ["signs", "noise strength", *METHODS]
            print("\n" + table(title, columns, found, markdown=args.markdown), flush=True)
    if args.grn:
        print("\n" + network_table(args.grn, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(200, 201), help="rows and columns (default: 200 201)")
    parser.add_argument("--seeds", type=int, default=5, help="matrices drawn per line (default: 5)")
    parser.add_argument("--graphs", nargs="*", choices=list(TITLES), default=list(TITLES), help="what to simulate")
    parser.add_argument("--grn", type=Path, help="folder of .h5ad files and one .csv of regulator, target")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


# Simulated Gaussians

TITLES = {"barabasi_albert": "Barabási–Albert trees", "block": "complete graphs of 10 vertices"}
METHODS = [
    "kronax, shrinkage",
    "kronax, l1",
    "kronax, weak ridge",
    "−ZZᵀ, −ZᵀZ after scaling",
    "−XXᵀ, −XᵀX",
]
METHODS += ["GmGM"] * peers.has_gmgm()
Pair = tuple[np.ndarray, np.ndarray]


def recovered(shape: tuple[int, int], graph: str, signs: str, noise: float, seed: int) -> list[list[float]]:
    """Draw a matrix and give both areas of every method."""
    adata = kx.datasets.kronecker_sum(*shape, graph=graph, signs=signs, noise=noise, random_state=seed)
    x = adata.X
    scaled = x.copy()
    for axis in (1, 0) * 200:
        scaled /= np.sqrt(np.mean(scaled**2, axis=axis, keepdims=True))
    estimates = [
        fitted(adata, "shrinkage"),
        fitted(adata, "l1"),
        fitted(adata, "ridge", strength=WEAK),
        (scaled @ scaled.T, scaled.T @ scaled),
        (x @ x.T, x.T @ x),
    ]
    if peers.has_gmgm():
        estimates.append(peers.gmgm(x))
    truth = adata.obsp["truth"], adata.varp["truth"]
    return [
        [np.mean([area(e, t) for e, t in zip(pair, truth, strict=True)]) for pair in estimates]
        for area in AREAS.values()
    ]


def by_steps(estimate: np.ndarray, truth: sparse.csr_matrix) -> float:
    return kx.metrics.edge_average_precision(estimate, truth=truth)


def by_trapezoids(estimate: np.ndarray, truth: sparse.csr_matrix) -> float:
    curve = kx.metrics.edge_precision_recall(estimate, truth=truth)
    return auc(np.append(0.0, curve["recall"]), np.append(1.0, curve["precision"]))


AREAS = {"Average precision": by_steps, "Area by trapezoids": by_trapezoids}


def fitted(
    adata: AnnData, penalty: str, *, strength: float | None = None, center: bool = False, joint: bool = False
) -> Pair:
    """Estimate both precision matrices, complete."""
    options = {"penalty": penalty, "strength": strength, "center": center, "joint": joint}
    found = kx.tl.med_magma(adata, n_neighbors=None, **options, copy=True)
    return found.obsp["med_magma_precision"].toarray(), found.varp["med_magma_precision"].toarray()


# Gene networks


def network_table(folder: Path, *, markdown: bool) -> str:
    """Compare the gene precision with what is done on log-normalised values, with noise and without."""
    (edge_list,) = folder.glob("*.csv")
    edges = np.loadtxt(edge_list, delimiter=",", dtype=int)
    rows = []
    for file in sorted(folder.glob("*.h5ad")):
        clean = ad.read_h5ad(file)
        truth = undirected(edges, clean.n_vars)
        for noise in (0.0, 1.0):
            noisy = with_noise(clean, noise)
            row = [file.stem, f"{noise:g}"]
            for name, method in NETWORKS.items():
                score = kx.metrics.edge_average_precision(method(noisy), truth=truth)
                progress(f"{file.stem}, noise {noise:g}, {name}: {score:.4f}")
                row.append(f"{score:.4f}")
            rows.append(row)
    share = truth.nnz / (truth.shape[0] * (truth.shape[0] - 1))
    title = f"Average precision of undirected edges; {share:.4f} of the pairs are edges"
    columns = ["", "σ of log-noise", *NETWORKS]
    return table(title, columns, rows, markdown=markdown)


def undirected(edges: np.ndarray, n: int) -> sparse.csr_array:
    """Connect regulators and targets; a gene that regulates itself has no edge for it."""
    edges = edges[edges[:, 0] != edges[:, 1]]
    directed = sparse.csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return ((directed + directed.T) > 0).astype(float)


def with_noise(clean: AnnData, strength: float) -> AnnData:
    """Multiply cells and genes by log-normal scales."""
    rng = np.random.default_rng(0)
    r, c = (noise_scales(n, strength, "lognormal", rng) for n in clean.shape)
    noisy = clean.copy()
    noisy.X = sparse.csr_matrix(sparse.diags_array(r) @ clean.X.astype(np.float64) @ sparse.diags_array(c))
    return noisy


def standard_logs(adata: AnnData) -> np.ndarray:
    """Return log-normalised values, every gene with mean 0 and variance 1."""
    values = peers.log_normalized(adata).to_df().to_numpy(dtype=np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def kronax_apart(adata: AnnData) -> np.ndarray:
    return fitted(adata, "shrinkage", center=True)[1]


def kronax_joint(adata: AnnData) -> np.ndarray:
    psi, phi = fitted(adata, "shrinkage", center=True, joint=True)
    return partial_correlation(phi + np.diag(psi).mean() * np.eye(len(phi)))


def correlation(adata: AnnData) -> np.ndarray:
    return np.corrcoef(standard_logs(adata).T)


def ridge(adata: AnnData) -> np.ndarray:
    return partial_correlation(np.linalg.inv(correlation(adata) + RIDGE * np.eye(adata.n_vars)))


def ledoit_wolf(adata: AnnData) -> np.ndarray:
    return partial_correlation(LedoitWolf().fit(standard_logs(adata)).precision_)


def graphical_lasso(adata: AnnData) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # its solver fails at some penalties
        return partial_correlation(GraphicalLassoCV().fit(standard_logs(adata)).precision_)


def gmgm(adata: AnnData) -> np.ndarray:
    return peers.gmgm(standard_logs(adata))[1]


def partial_correlation(precision: np.ndarray) -> np.ndarray:
    """Compute partial correlations, exactly symmetric."""
    size = np.sqrt(np.diag(precision))
    found = -precision / np.outer(size, size)
    return 0.5 * (found + found.T)


NETWORKS: dict[str, Callable[[AnnData], np.ndarray]] = {
    "kronax": kronax_apart,
    "kronax, joint": kronax_joint,
    "correlation": correlation,
    f"partial correlation, ridge {RIDGE:g}": ridge,
    "partial correlation, Ledoit–Wolf": ledoit_wolf,
    "GraphicalLassoCV": graphical_lasso,
}
if peers.has_gmgm():
    NETWORKS["GmGM"] = gmgm

if __name__ == "__main__":
    main()
