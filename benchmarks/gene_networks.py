"""Can the edges of the gene graph be trusted, and how do they compare with those of others? See README.md."""

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import scanpy as sc
from anndata import AnnData
from peers import log_normalized, variable_genes
from regulation import Network, random_network, sequenced, simulate
from report import header, progress, table
from scipy import sparse, stats

import kronax as kx
from kronax.solvers.graph.significance import FEWEST_TOGETHER

PARTS = ("null", "discoveries", "precision", "replication")
LEVELS = (0.05, 0.2)
N_PAIRS = 100_000
DEPTHS = 50  # cells of about equal depth, between which values are exchanged


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("ERROR")
    warnings.simplefilter("ignore")
    print(header())
    for part in args.parts:
        for title, columns, rows in TABLES[part](args):
            print("\n" + table(title, columns, rows, markdown=args.markdown), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--data", type=Path, help="folder of .h5ad files with counts in X")
    parser.add_argument("--batches", type=Path, help="folder of .h5ad files with counts in X and obs['batch']")
    parser.add_argument("--grn", type=Path, help="folder of .h5ad files and one .csv of regulator, target")
    parser.add_argument("--seeds", type=int, default=5, help="matrices drawn per line (default: 5)")
    parser.add_argument(
        "--slow", action="store_true", help="forests, GRNBoost2 and hotspot too, half a minute per set each"
    )
    parser.add_argument("--stored-only", action="store_true", help="regulation of --grn alone, none simulated here")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


Table = tuple[str, list[str], list[list[str]]]


# Are p-values uniform where there are no edges?


def null_tables(args: argparse.Namespace) -> Iterator[Table]:
    """p-values of 10⁵ pairs of genes that do not depend on each other."""
    rows = []
    for name, draw in null_draws(args.data):
        for seed in range(args.seeds):
            progress(f"null: {name}, seed {seed}")
            values = p_values(draw(np.random.default_rng(seed)))
            some = np.random.default_rng(0).permutation(values)[:N_PAIRS]
            test = stats.kstest(some, "uniform")
            shares = [f"{np.mean(values <= level) / level:.2f}" for level in (0.05, 1e-3)]
            rows.append([name, f"{seed}", f"{len(values):,}", f"{test.statistic:.4f}", f"{test.pvalue:.3f}", *shares])
    yield (
        "p-values without edges",
        ["data", "seed", "pairs tested", "KS distance", "KS p", "share ≤ .05 / .05", "≤ .001 / .001"],
        rows,
    )


def null_draws(data: Path | None) -> Iterator[tuple[str, Callable[[np.random.Generator], np.ndarray]]]:
    yield "Kronecker sum, 300 × 450", lambda rng: kronecker_null(300, 450, rng)
    yield "Kronecker sum, 1,000 × 450", lambda rng: kronecker_null(1000, 450, rng)
    for path in sorted(data.glob("*.h5ad")) if data else []:
        counts = variable_counts(path).X.toarray()
        yield (
            f"{path.stem}, permuted, {counts.shape[0]:,} × {counts.shape[1]:,}",
            lambda rng, x=counts: permuted(x, rng),
        )


def kronecker_null(n: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix whose cells depend on each other, and whose genes do not, behind scales of both."""
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    z = vectors @ (rng.uniform(0.3, 2.0, n)[:, None] * rng.normal(size=(n, p)))
    return z * rng.lognormal(size=(n, 1)) * rng.lognormal(size=p)


def permuted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exchange every gene's values between cells of about equal depth."""
    order = np.argsort(x.sum(axis=1), kind="stable")
    x = x[order]
    for cells in np.array_split(np.arange(len(x)), max(1, len(x) // DEPTHS)):
        x[cells] = rng.permuted(x[cells], axis=0)
    return x


def p_values(x: np.ndarray) -> np.ndarray:
    """Return the p-values of all pairs that are tested."""
    x = x[:, (x != 0).any(axis=0)]
    adata = fitted(x[(x != 0).any(axis=1)], n_neighbors=None)
    n, counts = adata.n_obs, np.count_nonzero(adata.X.toarray(), axis=0).astype(float)
    rows, cols = np.triu_indices(adata.n_vars, k=1)
    values = adata.varp["med_magma_p_value"].toarray()[rows, cols]
    return values[counts[rows] * counts[cols] >= FEWEST_TOGETHER * n]


# How many discoveries are false, where the truth is known?


def discovery_tables(args: argparse.Namespace) -> Iterator[Table]:
    """Share of false edges, and share of the true ones that are found."""
    columns = ["data", *(f"{what}, q ≤ {level:g}" for level in LEVELS for what in ("edges", "false", "power"))]
    rows = []
    for name, draw in gaussian_draws():
        progress(f"discoveries: {name}")
        drawn = np.mean([found_at_levels(*draw(seed)) for seed in range(args.seeds)], axis=0)
        rows.append([name, *shown(drawn)])
    yield "Discoveries in Gaussian data", columns, rows
    rows = []
    for name, x, _, network in regulated_sets(args):
        progress(f"discoveries: {name}")
        rows.append([name, *shown(found_at_levels(x, network.truth()))])
    yield "Discoveries in simulated regulation: the truth is who regulates whom", columns, rows


def gaussian_draws() -> Iterator[tuple[str, Callable[[int], tuple[np.ndarray, np.ndarray]]]]:
    for graph in ("barabasi_albert", "block"):
        for signs in ("positive", "random"):
            for shape in ((200, 200), (500, 200), (300, 600), (1000, 500)):

                def draw(seed: int, options=(graph, signs), shape=shape) -> tuple[np.ndarray, np.ndarray]:
                    graph, signs = options
                    adata = kx.datasets.kronecker_sum(*shape, graph=graph, signs=signs, noise=0.5, random_state=seed)
                    return adata.X, adata.varp["truth"].toarray() != 0

                yield f"{graph}, {signs} signs, {shape[0]} × {shape[1]}", draw


def found_at_levels(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the number of edges, the false share and the power at every level."""
    q_values = fitted(x, n_neighbors=None).varp["med_magma_q_value"].toarray()
    rows, cols = np.triu_indices(len(truth), k=1)
    true, q_values = truth[rows, cols], q_values[rows, cols]
    found = [q_values <= level for level in LEVELS]
    return np.array(
        [(f.sum(), (f & ~true).sum() / max(1, f.sum()), (f & true).sum() / true.sum()) for f in found]
    ).ravel()


def shown(figures: np.ndarray) -> list[str]:
    return [f"{figure:.0f}" if place % 3 == 0 else f"{figure:.3f}" for place, figure in enumerate(figures)]


# How well are the edges of simulated regulation ranked?


class Method(NamedTuple):
    """A ranking of all pairs of genes, from counts and the types of the cells; ``types`` if it uses these."""

    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    types: bool = False


def precision_tables(args: argparse.Namespace) -> Iterator[Table]:
    """Average precision of every method on every set, and CPU seconds of all sets together."""
    methods = dict(METHODS) | (SLOW if args.slow else {})
    rows, seconds = [], dict.fromkeys(methods, 0.0)
    for name, x, types, network in regulated_sets(args):
        row = []
        for method, (score, _) in methods.items():
            progress(f"precision: {name}, {method}")
            start = time.process_time()
            found = score(x, types)
            seconds[method] += time.process_time() - start
            row.append(kx.metrics.edge_average_precision(found, truth=sparse.csr_matrix(network.truth().astype(float))))
        rows.append([name, *row])
    figures = [row[1:] for row in rows]
    rows = [[row[0], *(f"{figure:.3f}" for figure in row[1:])] for row in rows]
    rows.append(["mean", *(f"{figure:.3f}" for figure in np.mean(figures, axis=0))])
    rows.append(["CPU seconds", *(f"{total:.1f}" for total in seconds.values())])
    yield "Average precision of regulation", ["data", *methods], rows


def partial_correlation(x: np.ndarray, _types: np.ndarray) -> np.ndarray:
    return correlations_of(fitted(x, n_neighbors=None))


def significance(x: np.ndarray, _types: np.ndarray) -> np.ndarray:
    """Rank by the p-value."""
    return -np.log(np.maximum(fitted(x, n_neighbors=None).varp["med_magma_p_value"].toarray(), 1e-300))


def logs(x: np.ndarray) -> np.ndarray:
    depth = x.sum(axis=1, keepdims=True)
    return np.log1p(x / depth * np.median(depth))


def within(values: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Take the mean of every type away."""
    means = np.stack([values[types == kind].mean(axis=0) for kind in range(types.max() + 1)])
    return values - means[types]


def correlation(values: np.ndarray) -> np.ndarray:
    return np.abs(np.corrcoef(values.T))


def ridge(values: np.ndarray, strength: float) -> np.ndarray:
    """Absolute partial correlations of ``C + strength·I``, ``C`` the correlation matrix."""
    inverse = np.linalg.inv(np.corrcoef(values.T) + strength * np.eye(values.shape[1]))
    size = np.sqrt(np.diag(inverse))
    return np.abs(inverse) / size / size[:, None]


def forest(values: np.ndarray) -> np.ndarray:
    """Importance of every gene for every other in forests of randomised trees, the larger of both directions."""
    from sklearn.ensemble import ExtraTreesRegressor

    importance = np.zeros((values.shape[1],) * 2)
    for target in range(values.shape[1]):
        others = np.delete(np.arange(values.shape[1]), target)
        trees = ExtraTreesRegressor(100, max_features="sqrt", random_state=0).fit(values[:, others], values[:, target])
        importance[others, target] = trees.feature_importances_
    return np.maximum(importance, importance.T)


def boosted(values: np.ndarray) -> np.ndarray:
    """Importance by GRNBoost2, every gene a candidate, the larger of both directions; without its scheduler."""
    from arboreto import core

    names = [f"g{number}" for number in range(values.shape[1])]
    importance = np.zeros((len(names),) * 2)
    for target, name in enumerate(names):
        candidates = core.clean(values, names, name)
        found = core.infer_partial_network(
            "GBM", core.SGBM_KWARGS, *candidates, name, values[:, target], early_stop_window_length=25, seed=0
        )
        importance[[names.index(source) for source in found["TF"]], target] = found["importance"]
    return np.maximum(importance, importance.T)


def hotspot(x: np.ndarray) -> np.ndarray:
    """Absolute local correlations on 20 principal components, as hotspot's tutorial computes them; counts rounded."""
    from hotspot import Hotspot

    adata = AnnData(np.round(x))
    adata.layers["counts"], adata.obs["total"] = adata.X.copy(), adata.X.sum(axis=1)
    reduced = log_normalized(adata)
    sc.pp.pca(reduced, n_comps=20)
    adata.obsm["X_pca"] = reduced.obsm["X_pca"]
    found = Hotspot(adata, layer_key="counts", model="danb", latent_obsm_key="X_pca", umi_counts_obs_key="total")
    found.create_knn_graph(weighted_graph=False, n_neighbors=30)
    found.compute_autocorrelations(jobs=1)
    scores = found.compute_local_correlations(list(adata.var_names), jobs=1)
    return np.abs(scores.reindex(index=adata.var_names, columns=adata.var_names).fillna(0).to_numpy())


METHODS = {
    "kronax, partial correlation": Method(partial_correlation),
    "kronax, p-value": Method(significance),
    "ridge .01": Method(lambda x, _: ridge(logs(x), 0.01)),
    "ridge .1": Method(lambda x, _: ridge(logs(x), 0.1)),
    "ridge 1": Method(lambda x, _: ridge(logs(x), 1.0)),
    "correlation": Method(lambda x, _: correlation(logs(x))),
    "ridge .1 within types": Method(lambda x, types: ridge(within(logs(x), types), 0.1), types=True),
    "correlation within types": Method(lambda x, types: correlation(within(logs(x), types)), types=True),
}
SLOW = {"forests": Method(lambda x, _: forest(logs(x)))}
if find_spec("arboreto"):
    SLOW["GRNBoost2"] = Method(lambda x, _: boosted(logs(x)))
if find_spec("hotspot"):
    SLOW["hotspot"] = Method(lambda x, _: hotspot(x))


def regulated_sets(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, Network]]:
    """Yield name, counts, types and network: simulated here, and those of ``--grn``."""
    yield from stored_sets(args.grn) if args.grn else ()
    yield from () if args.stored_only else simulated_sets()


def simulated_sets() -> Iterator[tuple[str, np.ndarray, np.ndarray, Network]]:
    number = 0
    for n_regulators in (8, 25):
        network = random_network(100, n_regulators, np.random.default_rng(n_regulators))
        for n_types, n_each in ((1, 900), (3, 300), (6, 300), (12, 150)):
            for noise in (0.2, 1.0):
                number += 1
                rng = np.random.default_rng(number)
                cells = simulate(network, n_types, n_each, noise, rng)
                name = f"{n_regulators} regulators, {n_types} × {n_each} cells, noise {noise:g}"
                yield name, cells.counts, cells.types, network
                read = sequenced(cells, rng)
                seen = np.count_nonzero(read.counts, axis=0) > 2
                some = np.flatnonzero(seen)
                place = np.full(network.n_genes, -1)
                place[some] = np.arange(len(some))
                edges = place[network.edges]
                kept = Network(edges[(edges >= 0).all(axis=1)], len(some))
                yield f"{name}, sequenced", read.counts[:, some], read.types, kept


def stored_sets(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, Network]]:
    (listed,) = folder.glob("*.csv")
    named = np.loadtxt(listed, delimiter=",", dtype=str)
    for path in sorted(folder.glob("*.h5ad")):
        adata = ad.read_h5ad(path)
        edges = np.stack([adata.var_names.get_indexer(ends) for ends in named.T], axis=1)
        x = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
        types = np.unique(adata.obs["label"], return_inverse=True)[1]
        yield path.stem, x.astype(float), types, Network(edges, adata.n_vars)


# Does the same network come back?


def replication_tables(args: argparse.Namespace) -> Iterator[Table]:
    """Share of significant edges of one part of the cells that are among as many strongest of another part."""
    columns = ["data", "cells", "edges", "come back", "at equal number: p-value", "ridge .1", "correlation"]
    rows = []
    for name, one, other in halves(args):
        progress(f"replication: {name}")
        rows.append([name, f"{one.shape[0]:,} / {other.shape[0]:,}", *replicated(one, other)])
    yield "Edges with q ≤ 0.05 that come back", columns, rows


def halves(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    paths = sorted(args.data.glob("*.h5ad")) if args.data else []
    for path in sorted(paths, key=lambda path: -ad.read_h5ad(path, backed="r").n_obs)[:4]:
        x = variable_counts(path).X.toarray()
        order = rng.permutation(len(x))
        yield f"{path.stem}, halves", x[order[::2]], x[order[1::2]]
        yield f"{path.stem}, thinned to a third", x, rng.binomial(np.round(x).astype(int), 1 / 3).astype(float)
    for path in sorted(args.batches.glob("*.h5ad")) if args.batches else []:
        adata = variable_counts(path)
        x, batches = adata.X.toarray(), adata.obs["batch"].astype(str).to_numpy()
        names = [str(name) for name in adata.obs["batch"].value_counts().index[:2]]
        for name in names[:1]:
            order = rng.permutation(np.flatnonzero(batches == name))
            yield f"{path.stem}, halves of {name}", x[order[::2]], x[order[1::2]]
        yield f"{path.stem}, {names[0]} and {names[1]}", x[batches == names[0]], x[batches == names[1]]


def replicated(one: np.ndarray, other: np.ndarray) -> list[str]:
    """Genes that are in 3 cells of both parts."""
    kept = np.minimum(np.count_nonzero(one, axis=0), np.count_nonzero(other, axis=0)) >= 3
    parts = [x[:, kept][(x[:, kept] != 0).any(axis=1)] for x in (one, other)]
    fits = [fitted(x, n_neighbors=None) for x in parts]
    rows, cols = np.triu_indices(int(kept.sum()), k=1)
    q_values = [fit.varp["med_magma_q_value"].toarray()[rows, cols] for fit in fits]
    scores = [fit.varp["med_magma_p_value"].toarray()[rows, cols] for fit in fits]
    found = [q <= LEVELS[0] for q in q_values]
    n_edges = min(int(f.sum()) for f in found)
    if not n_edges:
        return ["0", "", "", "", ""]
    shares = [common([-s for s in scores], n_edges)]
    for method in (
        lambda x: ridge(logs(x) + 1e-9 * np.random.default_rng(0).normal(size=x.shape), 0.1),
        lambda x: correlation(logs(x)),
    ):
        shares.append(common([np.nan_to_num(method(x))[rows, cols] for x in parts], n_edges))
    back = (found[0] & found[1]).sum() / n_edges
    return [f"{found[0].sum():,} / {found[1].sum():,}", f"{back:.2f}", *(f"{share:.2f}" for share in shares)]


def common(scores: list[np.ndarray], n_edges: int) -> float:
    """Return which share of so many strongest pairs two rankings have in common."""
    one, other = (set(np.argsort(-score, kind="stable")[:n_edges].tolist()) for score in scores)
    return len(one & other) / n_edges


# What all have in common


def fitted(x: np.ndarray, **options: object) -> AnnData:
    adata = AnnData(sparse.csr_matrix(x.astype(float)))
    kx.tl.med_magma(adata, graphs="genes", **options)
    return adata


def correlations_of(adata: AnnData) -> np.ndarray:
    """Absolute partial correlations: precision is in units in which the diagonal is ½."""
    found = np.abs(adata.varp["med_magma_precision"].toarray())
    np.fill_diagonal(found, 0.0)
    return found


def variable_counts(path: Path) -> AnnData:
    """Read the counts of 2,000 variable genes that are in at least 10 cells."""
    adata = ad.read_h5ad(path)
    adata = AnnData(sparse.csr_matrix(adata.X, dtype=float), obs=adata.obs, var=adata.var[[]])
    adata.var_names_make_unique()
    sc.pp.filter_genes(adata, min_cells=10)
    return adata[:, variable_genes(log_normalized(adata))].copy()


TABLES = {
    "null": null_tables,
    "discoveries": discovery_tables,
    "precision": precision_tables,
    "replication": replication_tables,
}

if __name__ == "__main__":
    main()
