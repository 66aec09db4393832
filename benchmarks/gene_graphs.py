"""How well are the edges of known graphs recovered? See README.md.

Simulated Kronecker-sum Gaussians on Barabási–Albert trees and on blocks, whose rows and columns are multiplied by χ²
noise; and, with ``--grn DIR``, gene networks that were simulated with SERGIO. The average precision, which is the area under
the precision–recall curve, ranks all pairs by the absolute value of the estimate.
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

import kronax as kx
from kronax.solvers import m_step
from kronax.solvers.simulate import noise_scales

RIDGE = 0.1


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("WARNING")
    print(header())
    for graph in args.graphs:
        rows = []
        for signs in ("positive", "random"):
            for noise in (0.0, 0.5, 1.0):
                progress(f"{graph}, {signs} signs, noise strength {noise:g}")
                areas = [recovered(args.shape, graph, signs, noise, seed, args.penalty) for seed in range(args.seeds)]
                rows.append([signs, f"{noise:g}", *(f"{area:.4f}" for area in np.mean(areas, axis=0))])
        columns = ["signs", "noise strength", f"kronax ({args.penalty})", *OTHERS]
        title = f"Average precision, {TITLES[graph]}, {args.shape[0]} × {args.shape[1]}, mean of both graphs"
        print("\n" + table(title, columns, rows, markdown=args.markdown), flush=True)
    if args.grn:
        print("\n" + network_table(args.grn, args.penalty, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(200, 201), help="rows and columns (default: 200 201)")
    parser.add_argument("--seeds", type=int, default=5, help="matrices drawn per line (default: 5)")
    parser.add_argument("--penalty", default="shrinkage", help="of kx.tl.med_magma (default: shrinkage)")
    parser.add_argument("--graphs", nargs="*", choices=list(TITLES), default=list(TITLES), help="what to simulate")
    parser.add_argument("--grn", type=Path, help="folder of .h5ad files and one .csv of regulator, target")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


# Simulated Gaussians

TITLES = {"barabasi_albert": "Barabási–Albert trees", "block": "complete graphs of 10 vertices"}
OTHERS = ["kronax, closed form only", "−ZZᵀ, −ZᵀZ after scaling", "−XXᵀ, −XᵀX"] + ["GmGM"] * peers.has_gmgm()
Pair = tuple[np.ndarray, np.ndarray]


def recovered(shape: tuple[int, int], graph: str, signs: str, noise: float, seed: int, penalty: str) -> list[float]:
    """Draw a matrix and give the average precision of every method."""
    adata = kx.datasets.kronecker_sum(*shape, graph=graph, signs=signs, noise=noise, random_state=seed)
    x = adata.X
    scaled = x.copy()
    for axis in (1, 0) * 200:
        scaled /= np.sqrt(np.mean(scaled**2, axis=axis, keepdims=True))
    estimates = [
        fitted(adata, penalty),
        closed_form(adata),
        (scaled @ scaled.T, scaled.T @ scaled),
        (x @ x.T, x.T @ x),
    ]
    if peers.has_gmgm():
        estimates.append(peers.gmgm(x))
    truth = adata.obsp["truth"], adata.varp["truth"]
    return [
        np.mean([kx.metrics.edge_average_precision(e, truth=t) for e, t in zip(pair, truth, strict=True)])
        for pair in estimates
    ]


def fitted(adata: AnnData, penalty: str, *, center: bool = False) -> Pair:
    """Give both precision matrices, complete."""
    found = kx.tl.med_magma(adata, n_neighbors=None, penalty=penalty, center=center, copy=True)
    return found.obsp["med_magma_precision"].toarray(), found.varp["med_magma_precision"].toarray()


def closed_form(adata: AnnData) -> Pair:
    """Fit without cross-validation, whatever the shape."""
    before, m_step.NEARLY_SQUARE = m_step.NEARLY_SQUARE, 0
    try:
        return fitted(adata, "shrinkage")
    finally:
        m_step.NEARLY_SQUARE = before


# Gene networks


def network_table(folder: Path, penalty: str, *, markdown: bool) -> str:
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
                score = kx.metrics.edge_average_precision(method(noisy, penalty), truth=truth)
                progress(f"{file.stem}, noise {noise:g}, {name}: {score:.4f}")
                row.append(f"{score:.4f}")
            rows.append(row)
    share = truth.nnz / (truth.shape[0] * (truth.shape[0] - 1))
    title = f"Average precision of undirected edges; {share:.4f} of the pairs are edges"
    columns = ["", "σ of log-noise", f"kronax ({penalty})", *list(NETWORKS)[1:]]
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
    """Give log-normalised values, every gene with mean 0 and variance 1."""
    values = peers.log_normalized(adata).to_df().to_numpy(dtype=np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


def kronax_partial(adata: AnnData, penalty: str) -> np.ndarray:
    psi, phi = fitted(adata, penalty, center=True)
    return partial_correlation(phi + np.diag(psi).mean() * np.eye(len(phi)))


def correlation(adata: AnnData, _: str) -> np.ndarray:
    return np.corrcoef(standard_logs(adata).T)


def ridge(adata: AnnData, _: str) -> np.ndarray:
    return partial_correlation(np.linalg.inv(correlation(adata, _) + RIDGE * np.eye(adata.n_vars)))


def ledoit_wolf(adata: AnnData, _: str) -> np.ndarray:
    return partial_correlation(LedoitWolf().fit(standard_logs(adata)).precision_)


def graphical_lasso(adata: AnnData, _: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # its solver fails at some penalties
        return partial_correlation(GraphicalLassoCV().fit(standard_logs(adata)).precision_)


def gmgm(adata: AnnData, _: str) -> np.ndarray:
    return peers.gmgm(standard_logs(adata))[1]


def partial_correlation(precision: np.ndarray) -> np.ndarray:
    """Give partial correlations, exactly symmetric."""
    size = np.sqrt(np.diag(precision))
    found = -precision / np.outer(size, size)
    return 0.5 * (found + found.T)


NETWORKS: dict[str, Callable[[AnnData, str], np.ndarray]] = {
    "kronax": kronax_partial,
    "correlation": correlation,
    f"partial correlation, ridge {RIDGE:g}": ridge,
    "partial correlation, Ledoit–Wolf": ledoit_wolf,
    "GraphicalLassoCV": graphical_lasso,
}
if peers.has_gmgm():
    NETWORKS["GmGM"] = gmgm

if __name__ == "__main__":
    main()
