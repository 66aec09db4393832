"""How many directions do sparse counts have, and what does it do to cell graphs? See README.md.

The first table counts the directions of simulated counts whose means have a known rank. The second compares the graphs of kinds
of cells that are simulated or, with ``--data``, of labelled sets whose counts are thinned to few molecules.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData
from cell_graphs import MEASURES, METHODS, read, score, variable
from report import header, progress, table
from scipy import sparse

from kronax.solvers.gaussian.shrinkage import noise_level, shrink_singular_values
from kronax.solvers.medmagma import em

SHARES = (0.05, 0.3)
DISPERSIONS = {"Poisson": 0.0, "negative binomial": 0.25}
PARTS = ("directions", "graphs")
RANKS = (3, 5, 10, 20)
SHAPE = (1500, 1000)
COMPARED = ("scanpy", "kronax, counts")
KINDS = ((1000, 10), (3500, 12), (1500, 6))  # cells, kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of .h5ad files with counts in X and labels in obs['label']")
    parser.add_argument("--share", type=float, default=0.05, help="non-zero values after thinning (default: 0.05)")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="which tables (default: both)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    print(header())
    if "directions" in args.parts:
        head = ["non-zero", "counts", "cells", *(f"rank {rank}" for rank in RANKS)]
        title = "Directions: reported / above the edge of white noise with the same median"
        print("\n" + table(title, head, list(rank_rows()), markdown=args.markdown), flush=True)
    if "graphs" in args.parts:
        head = [
            "",
            "cells",
            *(f"{name}: {measure}" for measure in ("best AMI", "at 1", "assort.") for name in COMPARED),
        ]
        print("\n" + table("Graphs", head, list(graph_rows(args.data, args.share)), markdown=args.markdown))


def rank_rows() -> Iterator[list[str]]:
    for share in SHARES:
        for name, dispersion in DISPERSIONS.items():
            for mixed in (False, True):
                found = [directions(low_rank(rank, share, dispersion, mixed=mixed)) for rank in RANKS]
                cells = "mixtures" if mixed else "of one kind"
                yield [f"{share:.0%}", name, cells, *(f"{ours} / {white}" for ours, white in found)]


def low_rank(rank: int, share: float, dispersion: float, *, mixed: bool) -> sparse.csr_array:
    """Draw counts whose means are cells × programs × genes, with that many programs, and depths that differ."""
    rng = np.random.default_rng(rank)
    n, p = SHAPE
    programs = np.exp(rng.normal(0.0, 1.5, (rank, p)) * (rng.random((rank, p)) < 0.3))
    weights = rng.dirichlet(np.full(rank, 0.1), n) if mixed else np.eye(rank)[rng.integers(rank, size=n)]
    means = weights @ programs * (rng.gamma(0.7, 1.0, p) + 0.05) * rng.lognormal(0.0, 0.4, (n, 1))
    return without_empty(drawn(means, share, dispersion, rng))


def directions(counts: sparse.csr_array) -> tuple[int, int]:
    found = em.fit(counts)
    white = shrink_singular_values(
        np.sqrt(found.spectrum.eigenvalues), noise_level(found.spectrum.eigenvalues, counts.shape), counts.shape
    )
    return found.rank, int((white > 0).sum())


def graph_rows(data: Path | None, share: float) -> Iterator[list[str]]:
    sets = {f"simulated, {k} kinds": kinds_of_cells(n, k, share) for n, k in KINDS}
    for file in sorted(data.glob("*.h5ad")) if data else ():
        if (read(file).X.data.size / np.prod(read(file).shape)) > 2 * share:
            sets[f"{file.stem}, thinned"] = thinned(read(file), share)
    means = []
    for name, counts in sets.items():
        progress(name)
        pair = variable(counts)
        found = [score(METHODS[method](*pair), counts.obs["label"], 3) for method in COMPARED]
        means.append([scores[measure] for measure in MEASURES for scores in found])
        yield [name, f"{counts.n_obs:,}", *(f"{value:.3f}" for value in means[-1])]
    yield ["mean", "", *(f"{value:.3f}" for value in np.mean(means, axis=0))]


def kinds_of_cells(n: int, k: int, share: float, p: int = 6000) -> AnnData:
    """Draw negative binomial counts of kinds of cells that split again and again, ever more alike."""
    rng = np.random.default_rng(k)
    logs = np.zeros((k, p))
    groups, size = [np.arange(k)], 0.8
    while groups:
        halves = [half for group in groups if len(group) > 1 for half in np.array_split(group, 2)]
        for half in halves:
            logs[half] += rng.normal(0.0, size, p) * (rng.random(p) < 0.06)
        groups, size = halves, 0.8 * size
    means = rng.gamma(0.5, 1.0, p) * rng.lognormal(0.0, 0.8, p) * np.exp(logs)
    kind = rng.choice(k, n, p=rng.dirichlet(np.full(k, 3.0)))
    depths = rng.lognormal(0.0, 0.4, (n, 1))
    counts = AnnData(sparse.csr_matrix(drawn((means / means.sum(1, keepdims=True))[kind] * depths, share, 0.1, rng)))
    counts.obs["label"] = np.char.add("kind ", kind.astype(str))
    counts.obs["label"] = counts.obs["label"].astype("category")
    sc.pp.filter_genes(counts, min_cells=1)
    return counts


def thinned(counts: AnnData, share: float) -> AnnData:
    """Keep every molecule with the probability that leaves that share of the values."""
    rng = np.random.default_rng(0)
    x = sparse.csr_array(counts.X).astype(np.int64)
    kept = np.logspace(-6, 0, 121)
    left = [(1 - (1 - chance) ** x.data).sum() / np.prod(x.shape) for chance in kept]
    x.data = rng.binomial(x.data, np.interp(share, left, kept))
    x.eliminate_zeros()
    found = AnnData(sparse.csr_matrix(x, dtype=np.float64), obs=counts.obs, var=counts.var)
    sc.pp.filter_genes(found, min_cells=3)
    sc.pp.filter_cells(found, min_genes=5)
    return found


def drawn(means: np.ndarray, share: float, dispersion: float, rng: np.random.Generator) -> sparse.csr_array:
    """Draw counts with means in proportion to these, so large that the share is not zero."""
    factors = np.logspace(-3, 3, 121) / means.mean()
    left = [1 - zeros(factor * means[:: len(means) // 100], dispersion).mean() for factor in factors]
    means = means * np.interp(share, left, factors)
    spread = rng.gamma(1 / dispersion, dispersion, means.shape) if dispersion else 1.0
    return sparse.csr_array(rng.poisson(means * spread).astype(np.float64))


def zeros(means: np.ndarray, dispersion: float) -> np.ndarray:
    """Return the probability of zero."""
    return (1 + dispersion * means) ** (-1 / dispersion) if dispersion else np.exp(-means)


def without_empty(matrix: sparse.csr_array) -> sparse.csr_array:
    matrix = matrix[np.flatnonzero(np.diff(matrix.indptr))].tocsc()
    return matrix[:, np.flatnonzero(np.diff(matrix.indptr))].tocsr()


if __name__ == "__main__":
    main()
