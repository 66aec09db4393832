"""How should the eigenvalues of a sample covariance be shrunk? See README.md.

Compared are what kronax does, what it is made of, and what else was tried: by their distance from the best eigenvalues that
the sample's eigenvectors allow, by the edges found in known graphs, and by what one cell left out changes.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import scanpy as sc
from gene_graphs import undirected
from report import header, progress, table
from scipy import sparse
from scipy.optimize import isotonic_regression

import kronax as kx
from kronax.solvers.gaussian.shrinkage import leave_one_out
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.medmagma import em

RATIOS = (0.1, 0.25, 0.5, 0.9, 1.0, 1.1, 2.0, 4.0, 10.0, 50.0)
VARIABLES = 100
FOLDS = 10
STEPS = 20
NULL = 1e-9  # eigenvalues below this share of the largest count as zero
CELLS, DROPS, GENES, NEIGHBORS = (300, 500, 650), 8, 200, 15


class Sample(NamedTuple):
    """One axis of a matrix: samples × coordinates along the eigenvectors, and these, variables × coordinates."""

    coordinates: np.ndarray
    vectors: np.ndarray
    dim: int
    n_samples: int

    @property
    def eigenvalues(self) -> np.ndarray:
        return (self.coordinates**2).sum(0)


Estimator = Callable[[Sample], np.ndarray]  # eigenvalues, and behind them the one of all directions without data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="samples drawn per figure (default: 3)")
    parser.add_argument("--grn", type=Path, help="folder of .h5ad files and one .csv of regulator, target")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    print(header())
    for compare in (lambda: losses(args.seeds), lambda: precisions(args.seeds, args.grn), changes):
        title, head, rows = compare()
        print("\n" + table(title, [head, *ESTIMATORS], rows, markdown=args.markdown), flush=True)


# Estimators


def kronax(sample: Sample) -> np.ndarray:
    return leave_one_out(sample.eigenvalues, sample.dim, sample.n_samples)


def around(factor: float) -> Estimator:
    """Average what a sample left out shows with a neighbourhood ``factor`` times as wide as kronax'; 0 for none."""

    def estimate(sample: Sample) -> np.ndarray:
        e, dim, n = sample.eigenvalues, sample.dim, sample.n_samples
        full = np.append(e, np.zeros(dim - len(e)))
        average = np.sqrt(full / n)
        d, u = np.linalg.eigh(np.diag(full) - np.outer(average, average))
        d, shown = d[::-1], (n * (u.T @ average) ** 2)[::-1]
        if (null := d < NULL * d[0]).any():  # directions that cannot be told apart
            shown[null] = shown[null].mean()
        values = np.full(dim, full.mean())
        for _ in range(STEPS if factor else 0):
            width = factor * np.sqrt(2.0 / n) * values
            near = 1.0 / ((d - full[:, None]) ** 2 + width[:, None] ** 2) ** 2
            found = isotonic_regression(near @ shown / near.sum(1), increasing=False).x
            values = values**0.3 * found**0.7
        return grouped(values if factor else shown, len(e))

    return estimate


def ten_folds(sample: Sample) -> np.ndarray:
    """Measure the variance that folds, dealt out along the leading direction, show along the eigenvectors of the others."""
    x = sample.coordinates
    fold = np.empty(len(x), int)
    fold[np.argsort(x[:, 0], kind="stable")] = np.arange(len(x)) % FOLDS
    found = np.zeros(sample.dim)
    for k in range(FOLDS):
        _, s, vt = np.linalg.svd(x[fold != k], full_matrices=False)
        vt = vt[s > 1e-6 * s[0]][: sample.dim]
        shown = ((x[fold == k] @ vt.T) ** 2).sum(0)
        n_null = sample.dim - len(shown)
        left = (x[fold == k] ** 2).sum() - shown.sum()
        found += np.append(shown, np.full(n_null, max(left, 0.0) / max(n_null, 1)))
    return grouped(found, x.shape[1])


def grouped(values: np.ndarray, kept: int) -> np.ndarray:
    """Average the values of the directions without data and make all decrease."""
    some, n_null = values[:kept], len(values) - kept
    counts = np.append(np.ones(kept), [n_null] * (n_null > 0))
    some = np.append(some, [values[kept:].mean()] if n_null else [])
    return isotonic_regression(some, weights=counts, increasing=False).x


def quadratic_inverse(sample: Sample) -> np.ndarray:
    """Quadratic-inverse shrinkage (Ledoit and Wolf, Bernoulli 2022)."""
    e, m = sample.eigenvalues / sample.n_samples, len(sample.eigenvalues)
    p, n = (m, sample.n_samples) if sample.dim <= sample.n_samples else (sample.dim, m)
    c = p / n
    h = min(c**2, c**-2) ** 0.35 / p**0.35
    inverse = 1.0 / e
    difference = inverse[None, :] - inverse[:, None]
    kernel = inverse[None, :] / (difference**2 + h**2 * inverse[None, :] ** 2)
    theta = (kernel * difference).mean(axis=1)
    amplitude = theta**2 + (h * kernel * inverse[None, :]).mean(axis=1) ** 2
    if p > m:
        return np.append(1.0 / (inverse * amplitude), 1.0 / ((c - 1.0) * inverse.mean()))
    shrunk = 1.0 / ((1.0 - c) ** 2 * inverse + 2.0 * c * (1.0 - c) * inverse * theta + c**2 * inverse * amplitude)
    return np.append(shrunk, [shrunk.min()] * (sample.dim > m))


ESTIMATORS: dict[str, Estimator] = {
    "kronax": kronax,
    "width halved": around(0.5),
    "width doubled": around(2.0),
    "no neighbourhood": around(0.0),
    "ten folds": ten_folds,
    "quadratic-inverse": quadratic_inverse,
}


# What they are worth


def losses(n_seeds: int) -> tuple[str, str, list[list[str]]]:
    """Compare with ``uᵀΣu``, the best eigenvalue of every eigenvector, over kinds of population spectra."""
    rows = []
    for ratio in RATIOS:
        progress(f"{ratio:g} samples per variable")
        found = {name: [] for name in ESTIMATORS}
        for population in populations(VARIABLES):
            for seed in range(n_seeds):
                sample = drawn(population, round(ratio * VARIABLES), np.random.default_rng(seed))
                best = expanded(((sample.vectors**2) * population[:, None]).sum(0), sample, float(population.sum()))
                for name, estimator in ESTIMATORS.items():
                    found[name].append(inverse_stein(shrunk(sample, estimator), best))
        rows.append([f"{ratio:g}", *(f"{1000 * np.mean(values):.2f}" for values in found.values())])
    title = f"Inverse Stein loss × 1,000, {VARIABLES} variables, mean of {len(list(populations(2)))} spectra"
    return title, "samples per variable", rows


def populations(p: int) -> Iterator[np.ndarray]:
    """Yield spectra: flat; in two halves; over 1½ and over 4 decades; five large ones; a tenth of them small."""
    position = (np.arange(p) + 0.5) / p
    yield np.ones(p)
    yield np.where(position < 0.5, 10.0, 1.0)
    yield 10.0 ** (1.5 * position - 0.75)
    yield 10.0 ** (4.0 * position - 2.0)
    yield np.append(np.ones(p - min(p, 5)), [10.0, 20.0, 40.0, 80.0, 160.0][: min(p, 5)])
    yield np.where(position < 0.1, 0.05, 1.0)


def drawn(population: np.ndarray, n: int, rng: np.random.Generator) -> Sample:
    u, s, vt = np.linalg.svd(rng.normal(size=(n, len(population))) * np.sqrt(population), full_matrices=False)
    return Sample(u * s, vt.T, len(population), n)


def shrunk(sample: Sample, estimator: Estimator) -> np.ndarray:
    """Compute all eigenvalues of the covariance, with the trace of the sample's."""
    values = estimator(sample)
    full = np.append(values[:-1], np.full(sample.dim - len(values) + 1, values[-1]))
    return full * (sample.eigenvalues.sum() / (sample.n_samples * full.sum()))


def expanded(known: np.ndarray, sample: Sample, total: float) -> np.ndarray:
    """Share what is left of a trace among the directions without data."""
    n_null = sample.dim - len(known)
    return np.append(known, np.full(n_null, (total - known.sum()) / max(n_null, 1)))


def inverse_stein(values: np.ndarray, best: np.ndarray) -> float:
    ratio = best / values
    return float(np.mean(ratio - np.log(ratio) - 1.0))


def precisions(n_seeds: int, grn: Path | None) -> tuple[str, str, list[list[str]]]:
    """Score the edges of both axes of simulated matrices, and of the genes of simulated networks."""
    rows = []
    for graph in ("barabasi_albert", "block"):
        for signs in ("positive", "random"):
            progress(f"{graph}, {signs} signs")
            scores = []
            for seed in range(n_seeds):
                adata = kx.datasets.kronecker_sum(graph=graph, signs=signs, random_state=seed)
                axes = samples(em.fit(sparse.csr_array(adata.X), center=False).spectrum)
                truths = adata.obsp["truth"], adata.varp["truth"]
                scores += [
                    [average_precision(one, f, true) for f in ESTIMATORS.values()]
                    for one, true in zip(axes, truths, strict=True)
                ]
            rows.append([f"{graph}, {signs} signs", *(f"{score:.3f}" for score in np.mean(scores, axis=0))])
    for file in sorted(grn.glob("*.h5ad")) if grn else []:
        clean = ad.read_h5ad(file)
        truth = undirected(np.loadtxt(next(grn.glob("*.csv")), delimiter=",", dtype=int), clean.n_vars)
        genes = samples(em.fit(sparse.csr_array(clean.X).astype(float)).spectrum)[1]
        rows.append([file.stem, *(f"{average_precision(genes, f, truth):.3f}" for f in ESTIMATORS.values())])
    return "Average precision of the edges, by absolute value", "graph", rows


def samples(found: Spectrum) -> tuple[Sample, Sample]:
    """Return the rows, whose samples are the columns, and the columns."""
    size = np.sqrt(found.eigenvalues)
    n, p = found.dims
    return Sample(found.cols * size, found.rows, n, p), Sample(found.rows * size, found.cols, p, n)


def average_precision(sample: Sample, estimator: Estimator, truth: sparse.spmatrix) -> float:
    return kx.metrics.edge_average_precision(partial_correlations(sample, estimator), truth=truth)


def partial_correlations(sample: Sample, estimator: Estimator) -> np.ndarray:
    inverse = 1.0 / shrunk(sample, estimator)
    kept = sample.vectors.shape[1]
    rest = inverse[-1] if sample.dim > kept else inverse.mean()
    matrix = (sample.vectors * (inverse[:kept] - rest)) @ sample.vectors.T + rest * np.eye(len(sample.vectors))
    found = -matrix / np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    return 0.5 * (found + found.T)


def changes() -> tuple[str, str, list[list[str]]]:
    """Measure how much of the gene graph's weight changes when one cell is left out."""
    reduced = sc.datasets.pbmc68k_reduced()
    genes = np.argsort(-reduced.var["dispersions_norm"].to_numpy(), kind="stable")[:GENES]
    matrix = sparse.csr_array(reduced.raw.X[:, genes]).astype(float)
    rows = []
    for n in CELLS:
        progress(f"{n} cells")
        rng = np.random.default_rng(0)
        some = matrix[np.sort(rng.permutation(matrix.shape[0])[:n])]
        whole = gene_graphs(some)
        found = []
        for cell in rng.permutation(n)[:DROPS]:
            left = gene_graphs(some[np.delete(np.arange(n), cell)])
            found.append([abs(one - other).sum() / one.sum() for one, other in zip(whole, left, strict=True)])
        rows.append([f"{n}", *(f"{share:.1%}" for share in np.mean(found, axis=0))])
    title = f"Share of the gene graph's weight that one cell changes, pbmc68k, {GENES} genes, mean of {DROPS} cells"
    return title, "cells", rows


def gene_graphs(matrix: sparse.csr_array) -> list[np.ndarray]:
    """Build the graph by every estimator: the strongest positive partial correlations of each gene."""
    matrix = matrix[np.flatnonzero(matrix.sum(1))]
    expressed = np.flatnonzero(matrix.sum(0))
    genes = samples(em.fit(matrix[:, expressed]).spectrum)[1]
    graphs = []
    for estimator in ESTIMATORS.values():
        rho = np.maximum(partial_correlations(genes, estimator), 0.0)
        np.fill_diagonal(rho, 0.0)
        kept = np.where(rho >= np.sort(rho, axis=1)[:, [-NEIGHBORS]], rho, 0.0)
        full = np.zeros((matrix.shape[1],) * 2)
        full[np.ix_(expressed, expressed)] = np.maximum(kept, kept.T)
        graphs.append(full)
    return graphs


if __name__ == "__main__":
    main()
