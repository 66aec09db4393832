"""Can the edges of the gene graph be trusted, and how do they compare with those of others? See README.md."""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import boolean_models
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from peers import log_normalized, variable_genes
from regulation import (
    FAR,
    N_MANY,
    Cells,
    Network,
    random_network,
    random_regulation,
    sequenced,
    simulate,
    simulate_by_sergio,
    simulate_many,
)
from report import header, progress, table
from scipy import sparse, stats
from sklearn.metrics import average_precision_score

import kronax as kx
from kronax.solvers.graph.significance import FEWEST_TOGETHER

PARTS = ("null", "discoveries", "dependence", "precision", "models", "curated", "replication")
LEVELS = (0.05, 0.2)
N_PAIRS = 100_000
APART = (5, 25, 100)  # steps between the cells of one history, of which 62 are the memory of a gene
CLEAR, LARGE = 5, 0.1  # standard errors from which a partial correlation of many cells is one, and those that are large
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
    parser.add_argument("--curated", type=Path, help="curated regulators and targets of --data, a line each, by tabs")
    parser.add_argument("--seeds", type=int, default=5, help="matrices drawn per line (default: 5)")
    parser.add_argument(
        "--slow", action="store_true", help="forests, GRNBoost2, hotspot and RegDiffusion too, minutes per set"
    )
    parser.add_argument("--stored-only", action="store_true", help="regulation of --grn alone, none simulated here")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    if args.curated and not args.data:
        parser.error("--curated FILE needs --data DIR, the counts whose genes it names")
    return args


Table = tuple[str, list[str], list[list[str]]]


# Are p-values uniform where there are no edges?


def null_tables(args: argparse.Namespace) -> Iterator[Table]:
    """p-values of 10⁵ pairs of genes that do not depend on each other, in some draws."""
    rows = []
    for name, draw in null_draws(args.data):
        drawn = []
        for seed in range(args.seeds):
            progress(f"null: {name}, seed {seed}")
            drawn.append(p_values(draw(np.random.default_rng(seed))))
        tests = [stats.kstest(np.random.default_rng(0).permutation(values)[:N_PAIRS], "uniform") for values in drawn]
        distances = [test.statistic for test in tests]
        shares = [np.mean([np.mean(values <= level) / level for values in drawn]) for level in (0.05, 1e-3)]
        rows.append(
            [
                name,
                f"{len(drawn[0]):,}",
                f"{min(distances):.4f} to {max(distances):.4f}",
                f"{min(test.pvalue for test in tests):.3f}",
                *(f"{share:.2f}" for share in shares),
            ]
        )
    columns = ["data", "pairs tested", "KS distance", "smallest KS p", "share ≤ .05 / .05", "≤ .001 / .001"]
    yield f"p-values without edges, {args.seeds} draws", columns, rows


def null_draws(data: Path | None) -> Iterator[tuple[str, Callable[[np.random.Generator], np.ndarray]]]:
    yield "Kronecker sum, 300 × 450", lambda rng: kronecker_null(300, 450, rng)
    yield "Kronecker sum, 1,000 × 450", lambda rng: kronecker_null(1000, 450, rng)
    for n in (120, 400, 1000):
        yield f"no structure, {n:,} × 450", lambda rng, n=n: behind_scales(rng.normal(size=(n, 450)), rng)
    for path in sorted(data.glob("*.h5ad")) if data else []:
        counts = variable_counts(path).X.toarray()
        size = f"{counts.shape[0]:,} × {counts.shape[1]:,}"
        yield f"{path.stem}, permuted, {size}", lambda rng, x=counts: permuted(x, rng)
        yield f"{path.stem}, all cells, {size}", lambda rng, x=counts: permuted(x, rng, len(x))


def kronecker_null(n: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix whose cells depend on each other, and whose genes do not, behind scales of both."""
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return behind_scales(vectors @ (rng.uniform(0.3, 2.0, n)[:, None] * rng.normal(size=(n, p))), rng)


def behind_scales(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiply rows and columns by log-normal factors."""
    return z * rng.lognormal(size=(len(z), 1)) * rng.lognormal(size=z.shape[1])


def permuted(x: np.ndarray, rng: np.random.Generator, n_each: int = DEPTHS) -> np.ndarray:
    """Exchange every gene's values between cells of about equal depth, so many at a time."""
    order = np.argsort(x.sum(axis=1), kind="stable")
    x = x[order]
    for cells in np.array_split(np.arange(len(x)), max(1, len(x) // n_each)):
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
    yield gaussian_discoveries(args)
    yield marker_discoveries(args)
    yield from regulation_discoveries(args)


AT_LEVELS = [f"{what}, q ≤ {level:g}" for level in LEVELS for what in ("edges", "false", "power")]


def gaussian_discoveries(args: argparse.Namespace) -> Table:
    rows = []
    for name, draw in gaussian_draws():
        progress(f"discoveries: {name}")
        draws = [draw(seed) for seed in range(args.seeds)]
        drawn = np.mean([at_each_level(q_values_of(x), truth) for x, truth in draws], axis=0)
        rows.append([name, *shown(drawn)])
    return "Discoveries in Gaussian data", ["data", *AT_LEVELS], rows


def marker_discoveries(args: argparse.Namespace) -> Table:
    """Edges among genes that depend on nothing but the type of the cell, without and with groups: all are false."""
    rows = []
    for n, p, share, fold, depth, n_types in (
        (2000, 200, 0.3, 20, 20, 8),
        (1600, 160, 1.0, 10, 5, 8),
        (2000, 500, 0.2, 20, 5, 8),
        (3000, 1500, 0.2, 20, 1, 8),
        (2000, 200, 0.5, 10, 5, 12),
    ):
        found = []
        for seed in range(args.seeds):
            progress(f"discoveries: markers, {n} × {p}, seed {seed}")
            counts, types = markers(n, p, share, fold, depth, n_types, np.random.default_rng(seed))
            given = Regulated("", counts, types, np.zeros((counts.shape[1],) * 2, dtype=bool))
            groups = None, types, own_clusters(given)
            found.append([len(kx.get.edges(fitted(counts, of, q_max=LEVELS[0]))) for of in groups])
        name = f"{n:,} × {p:,}, {n_types} types, {share:.0%} markers, {fold} times as high, mean {depth}"
        rows.append([name, *(f"{mean:.1f}" for mean in np.mean(found, axis=0))])
    return (
        "Markers of types, independent within them: edges at q ≤ 0.05",
        ["data", "all cells", "types", "clusters"],
        rows,
    )


def markers(
    n: int, p: int, share: float, fold: float, depth: float, n_types: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw counts of genes of which some are higher in one type of cells, and the types."""
    types = np.arange(n) % n_types
    of = np.where(rng.random(p) < share, rng.integers(n_types, size=p), -1)
    logs = np.log(fold) * (types[:, None] == of) + rng.normal(0, 0.4, (n, p))
    counts = rng.poisson(depth * np.exp(logs) * rng.lognormal(0, 0.3, (n, 1)) * rng.lognormal(0, 1, p))
    return counts[:, np.count_nonzero(counts, axis=0) > 2].astype(float), types


def regulation_discoveries(args: argparse.Namespace) -> Iterator[Table]:
    """All edges, some kinds of them, those with groups of cells, and those by margin."""
    rows, of_some, of_groups, by_margin = [], [], [], {}
    for given in regulated_sets(args):
        progress(f"discoveries: {given.name}")
        adata = fitted(given.counts, n_neighbors=None)
        grouped = [fitted(given.counts, groups, n_neighbors=None) for groups in (given.types, own_clusters(given))]
        q_values = adata.varp["med_magma_q_value"].toarray()
        levels = shown(at_each_level(q_values, given.joined()))
        shares = [f"{share:.3f}" for kind in (given.siblings(), given.unrelated) for share in shares_of(kind, q_values)]
        rows.append([given.name, *levels[:2], *shares, *levels[2:]])
        of_some.append([given.name, *chain.from_iterable(shown(found) for found in of_chosen(adata, given))])
        chosen = chain.from_iterable(of_chosen(found, given, CHOSEN[::2]) for found in grouped)
        of_groups.append([given.name, *chain.from_iterable(map(shown, chosen))])
        for margin in MARGINS:
            counts = [n_false(found, given, margin) for found in (adata, *grouped)]
            by_margin.setdefault((margin, "sequenced" in given.name), []).append(counts)
    kinds = [f"{kind}{what}" for kind in ("siblings", "unrelated") for what in (", q ≤ 0.05", " of all pairs")]
    columns = ["data", *AT_LEVELS[:2], *kinds, *AT_LEVELS[2:]]
    yield "Discoveries in simulated regulation: the truth is who regulates whom", columns, rows
    columns = ["data", *(what for edges in CHOSEN for what in (edges, "false", "power"))]
    yield "Discoveries in simulated regulation at q ≤ 0.05, chosen edges", columns, of_some
    chosen = (f"{groups}: {edges}" for groups in ("types", "clusters") for edges in CHOSEN[::2])
    columns = ["data", *(what for edges in chosen for what in (edges, "false", "power"))]
    yield "Discoveries with groups of cells, their types or own clusters, at q ≤ 0.05", columns, of_groups
    yield margin_table(by_margin)


CHOSEN = "direct", "of regulators", "of regulators, direct"
MARGINS = 1.0, 1.25, 1.5, 2.0
WHAT = "edges", "false", "true"


def n_false(adata: AnnData, given: "Regulated", margin: float) -> tuple[int, int]:
    """Return how many direct edges there are at q ≤ 0.05, and how many of them are false."""
    found = kx.get.edges(adata, q_max=LEVELS[0], margin=margin)
    found = found[~found["indirect"]]
    ends = adata.var_names.get_indexer(found["source"]), adata.var_names.get_indexer(found["target"])
    return len(found), int((~given.joined()[ends]).sum())


def margin_table(by_margin: dict[tuple[float, bool], list[list[tuple[int, int]]]]) -> Table:
    """Add up the edges of all sets, and those that are false, without and with groups."""
    columns = ["margin", "sequenced", *(f"{of}: {what}" for of in ("all cells", "types", "clusters") for what in WHAT)]
    rows = []
    for (margin, is_sequenced), counts in sorted(by_margin.items(), key=lambda item: item[0][::-1]):
        totals = np.sum(counts, axis=0)
        shares = ((f"{n_edges}", f"{n / max(1, n_edges):.3f}", f"{n_edges - n}") for n_edges, n in totals)
        rows.append([f"{margin:g}", "yes" if is_sequenced else "no", *chain.from_iterable(shares)])
    return "Direct edges at q ≤ 0.05 by margin, all sets of simulated regulation together", columns, rows


def of_chosen(adata: AnnData, given: "Regulated", kinds: Sequence[str] = CHOSEN) -> Iterator[np.ndarray]:
    """Yield the number of edges at q ≤ 0.05, the false share and the power, of some kinds of edges."""
    regulators = adata.var_names[given.truth.any(axis=1)]
    for kind in kinds:
        names, direct = regulators if "regulators" in kind else None, "direct" in kind
        found = kx.get.edges(adata, regulators=names, q_max=LEVELS[0])
        found = found[~found["indirect"]] if direct else found
        q_values = np.ones_like(given.truth, dtype=float)
        ends = adata.var_names.get_indexer(found["source"]), adata.var_names.get_indexer(found["target"])
        q_values[ends] = q_values[ends[::-1]] = 0.0
        yield at_each_level(q_values, given.joined())[:3]


# How many discoveries are false, where it is known which genes depend on each other?


def dependence_tables(args: argparse.Namespace) -> Iterator[Table]:
    """False: between genes without a partial correlation of this sign in the distribution that the cells are drawn from."""
    rows = []
    for name, draws, many in dependence_draws(args.seeds):
        progress(f"dependence: {name}")
        truth = dependence(many)
        found = np.mean(
            [np.vstack([of_dependence(cells, truth), of_dependence(cells, truth, True)[:1]]) for cells in draws], axis=0
        )
        pairs = np.triu_indices(len(truth), k=1)
        shown = (f"{n:.1f} {n_false / max(n, 1e-300):.3f} {power:.3f}".split() for n, n_false, power in found)
        rows.append([name, f"{(truth != 0)[pairs].mean():.3f}", *chain.from_iterable(shown)])
    columns = ["data", "pairs that depend", *AT_LEVELS, *(f"types: {what}" for what in AT_LEVELS[:3])]
    yield f"Discoveries in simulated regulation: the truth is dependence, {args.seeds} draws", columns, rows


def dependence_draws(n_draws: int) -> Iterator[tuple[str, list[Cells], np.ndarray]]:
    """Yield draws of each simulation, and very many cells, nearly independent, from its distribution."""
    for at in settings():
        regulation = random_regulation(at.network, at.n_types, np.random.default_rng(at.seed))
        generators = (np.random.default_rng([at.seed, number]) for number in range(n_draws))
        draws = [simulate(regulation, at.n_each, at.noise, rng, at.apart) for rng in generators]
        yield from as_they_are_and_sequenced(at, draws, simulate_many(regulation, at.noise, at.seed))
    for at in sergio_settings() if find_spec("sergio_rs") else ():
        sized = at.network, at.n_types
        seeds = (at.seed + 1000 * (number + 1) for number in range(n_draws))
        draws = [simulate_by_sergio(*sized, at.n_each, at.apart, at.seed, seed) for seed in seeds]
        many = simulate_by_sergio(*sized, N_MANY // at.n_types, FAR, at.seed).counts
        yield from as_they_are_and_sequenced(at, draws, many)


def as_they_are_and_sequenced(
    at: "Setting", draws: list[Cells], many: np.ndarray
) -> Iterator[tuple[str, list[Cells], np.ndarray]]:
    """Sequence the draws too; what depends on what is a matter of concentrations."""
    yield at.name, draws, many
    rng = np.random.default_rng([at.seed, N_MANY])
    yield f"{at.name}, sequenced", [sequenced(cells, rng) for cells in draws], many


def dependence(many: np.ndarray) -> np.ndarray:
    """Return the partial correlations of many cells, (genes, genes), 0 where they are not clear."""
    vary = np.flatnonzero(many.std(axis=0) > 0)
    inverse = np.linalg.inv(np.corrcoef(many[:, vary], rowvar=False))
    size = np.sqrt(np.diag(inverse))
    found = np.zeros((many.shape[1],) * 2)
    found[np.ix_(vary, vary)] = -inverse / size / size[:, None]
    return np.where(np.abs(found) > CLEAR / N_MANY**0.5, found, 0.0)


def of_dependence(drawn: Cells, truth: np.ndarray, with_types: bool = False) -> np.ndarray:
    """Return the numbers of edges, of false ones, and the share of the large partial correlations that are found, (levels, 3)."""
    genes = np.count_nonzero(drawn.counts, axis=0) > 2
    cells = drawn.counts[:, genes].any(axis=1)
    adata = fitted(drawn.counts[cells][:, genes], drawn.types[cells] if with_types else None, n_neighbors=None)
    adata.var_names = np.flatnonzero(genes).astype(str)
    n_large, found = np.count_nonzero(np.triu(np.abs(truth) >= LARGE, k=1)), []
    for level in LEVELS:
        edges = kx.get.edges(adata, q_max=level)
        true = truth[edges["source"].astype(int), edges["target"].astype(int)]
        right = np.sign(true) == np.sign(edges["partial_correlation"].to_numpy())
        found.append((len(edges), (~right).sum(), (right & (np.abs(true) >= LARGE)).sum() / max(1, n_large)))
    return np.array(found)


def gaussian_draws() -> Iterator[tuple[str, Callable[[int], tuple[np.ndarray, np.ndarray]]]]:
    for graph in ("barabasi_albert", "block"):
        for signs in ("positive", "random"):
            for shape in ((200, 200), (500, 200), (300, 600), (1000, 500)):

                def draw(seed: int, options=(graph, signs), shape=shape) -> tuple[np.ndarray, np.ndarray]:
                    graph, signs = options
                    adata = kx.datasets.kronecker_sum(*shape, graph=graph, signs=signs, noise=0.5, random_state=seed)
                    return adata.X, adata.varp["truth"].toarray() != 0

                yield f"{graph}, {signs} signs, {shape[0]} × {shape[1]}", draw


def q_values_of(x: np.ndarray) -> np.ndarray:
    return fitted(x, n_neighbors=None).varp["med_magma_q_value"].toarray()


def at_each_level(q_values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the number of edges, the false share and the power at every level."""
    rows, cols = np.triu_indices(len(truth), k=1)
    true, q_values = truth[rows, cols], q_values[rows, cols]
    found = [q_values <= level for level in LEVELS]
    return np.array(
        [(f.sum(), (f & ~true).sum() / max(1, f.sum()), (f & true).sum() / true.sum()) for f in found]
    ).ravel()


def shares_of(kind: np.ndarray, q_values: np.ndarray) -> tuple[float, float]:
    """Return the share of pairs of one kind among significant edges, and among all pairs."""
    rows, cols = np.triu_indices(len(kind), k=1)
    kind, found = kind[rows, cols], q_values[rows, cols] <= LEVELS[0]
    return (kind & found).sum() / max(1, found.sum()), kind.mean()


def shown(figures: np.ndarray) -> list[str]:
    return [f"{figure:.0f}" if place % 3 == 0 else f"{figure:.3f}" for place, figure in enumerate(figures)]


# How well are the edges of known regulation ranked?


@dataclass(frozen=True)
class Regulated:
    """Cells of which it is known who regulates whom.

    Attributes
    ----------
    counts, types
        (cells, genes), and the type of every cell; None if that is not known.
    truth, unrelated
        (genes, genes): which gene, in rows, regulates which; and which are further apart than two edges, where that is asked.
    pairs
        (genes, genes): which pairs of a regulator, in rows, and another gene are ranked; None if edges count without direction.
    """

    name: str
    counts: np.ndarray
    types: np.ndarray | None
    truth: np.ndarray
    unrelated: np.ndarray | None = None
    pairs: np.ndarray | None = None

    def regulators(self) -> np.ndarray:
        return np.arange(len(self.truth)) if self.pairs is None else np.flatnonzero(self.pairs.any(axis=1))

    def targets(self) -> np.ndarray:
        return np.arange(len(self.truth)) if self.pairs is None else np.flatnonzero(self.pairs.any(axis=0))

    def joined(self) -> np.ndarray:
        return self.truth | self.truth.T

    def siblings(self) -> np.ndarray:
        """Which genes have a regulator in common, and neither regulates the other."""
        return (self.truth.T @ self.truth) & ~self.joined()

    def ranked(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which pairs are true, and their scores; without direction, the larger of both."""
        if self.pairs is None:
            pairs = np.triu_indices(len(self.truth), k=1)
            return self.joined()[pairs], np.maximum(found, found.T)[pairs]
        return self.truth[self.pairs], found[self.pairs]


class Method(NamedTuple):
    """A ranking of all pairs of genes, regulators in rows; ``types`` if it uses the types of the cells."""

    score: Callable[[Regulated], np.ndarray]
    types: bool = False


def ranking_tables(what: str, sets: Iterator[Regulated], methods: dict[str, Method]) -> Iterator[Table]:
    """Average and early precision of every method; means over the sets of one name, and CPU seconds of all sets together."""
    figures, seconds = {}, dict.fromkeys(methods, 0.0)
    for given in sets:
        row = []
        for method, (score, _) in methods.items():
            progress(f"{what}: {given.name}, {method}")
            start = time.process_time()
            with redirect_stdout(sys.stderr):
                found = score(given)
            seconds[method] += time.process_time() - start
            true, scores = given.ranked(found)
            row.append((average_precision_score(true, scores), early_precision(true, scores)))
        figures.setdefault(given.name, []).append([(true.mean(),) * 2, *row])
    if not figures:
        return
    means = np.array([np.mean(rows, axis=0) for rows in figures.values()])
    shares = means[:, 0, 0]
    for place, name in enumerate(("Average precision", "Early precision")):
        found = means[:, 1:, place]
        rows = [[data, *map(number, (share, *row))] for data, share, row in zip(figures, shares, found, strict=True)]
        rows.append(["mean", *map(number, (shares.mean(), *found.mean(axis=0)))])
        rows.append(["mean ratio to the share", "", *(f"{ratio:.2f}" for ratio in (found.T / shares).mean(axis=1))])
        if place == 0:
            rows.append(["CPU seconds", "", *(f"{total:.1f}" for total in seconds.values())])
        yield f"{name} of {what}", ["data", "share of true pairs", *methods], rows


def number(figure: float) -> str:
    return f"{figure:.3f}" if figure >= 0.01 else f"{figure:.4f}"


def early_precision(true: np.ndarray, scores: np.ndarray) -> float:
    """Return the share of true pairs among the first, as many as are true; of equal scores, a random part is first."""
    n_first = int(true.sum())
    cutoff = np.partition(scores, -n_first)[-n_first]
    above, level = scores > cutoff, scores == cutoff
    return (true[above].sum() + (n_first - above.sum()) * true[level].mean()) / n_first


def precision_tables(args: argparse.Namespace) -> Iterator[Table]:
    yield from ranking_tables("simulated regulation", regulated_sets(args), methods(args) | GROUPED)


def partial_correlation(given: Regulated) -> np.ndarray:
    return correlations_of(fitted(given.counts, n_neighbors=None))


def significance(given: Regulated) -> np.ndarray:
    """Rank by the p-value."""
    p_values = fitted(given.counts, n_neighbors=None).varp["med_magma_p_value"].toarray()
    return -np.log(np.maximum(p_values, 1e-300))


def with_groups(given: Regulated, groups: np.ndarray) -> np.ndarray:
    """Rank by the partial correlation that looks within groups of cells too."""
    return correlations_of(fitted(given.counts, groups, n_neighbors=None))


def own_clusters(given: Regulated) -> np.ndarray:
    """Find the clusters of the cells in kronax's own graph, with scanpy's defaults."""
    adata = AnnData(sparse.csr_matrix(given.counts.astype(float)))
    kx.tl.med_magma(adata, graphs="cells")
    sc.tl.leiden(adata, neighbors_key="med_magma", flavor="igraph", n_iterations=2, directed=False)
    return adata.obs["leiden"].to_numpy()


def logs(x: np.ndarray) -> np.ndarray:
    depth = x.sum(axis=1, keepdims=True)
    return np.log1p(x / depth * np.median(depth))


def within(values: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Take the mean of every type away."""
    means = np.stack([values[types == kind].mean(axis=0) for kind in range(types.max() + 1)])
    return values - means[types]


def correlation(values: np.ndarray) -> np.ndarray:
    return symmetric(np.abs(np.corrcoef(values.T)))


def ridge(values: np.ndarray, strength: float) -> np.ndarray:
    """Absolute partial correlations of ``C + strength·I``, ``C`` the correlation matrix."""
    inverse = np.linalg.inv(np.corrcoef(values.T) + strength * np.eye(values.shape[1]))
    size = np.sqrt(np.diag(inverse))
    return symmetric(np.abs(inverse) / size / size[:, None])


def symmetric(scores: np.ndarray) -> np.ndarray:
    """Give both directions of a pair the same score, which rounding may not."""
    return (scores + scores.T) / 2


def variances(values: np.ndarray) -> np.ndarray:
    """Add the variances of both genes, which says nothing of the pair."""
    return np.add.outer(values.var(axis=0), values.var(axis=0))


def forest(given: Regulated) -> np.ndarray:
    """Importance of every regulator for every other gene in forests of randomised trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    values, regulators = logs(given.counts), given.regulators()
    importance = np.zeros(given.truth.shape)
    for target in given.targets():
        others = regulators[regulators != target]
        trees = ExtraTreesRegressor(100, max_features="sqrt", random_state=0).fit(values[:, others], values[:, target])
        importance[others, target] = trees.feature_importances_
    return importance


def boosted(given: Regulated) -> np.ndarray:
    """Importance of every regulator for every other gene by GRNBoost2; without its scheduler."""
    from arboreto import core

    values, regulators = logs(given.counts), given.regulators()
    importance = np.zeros(given.truth.shape)
    for target in given.targets():
        candidates = core.clean(values[:, regulators], [str(place) for place in regulators], str(target))
        found = core.infer_partial_network(
            "GBM", core.SGBM_KWARGS, *candidates, str(target), values[:, target], early_stop_window_length=25, seed=0
        )
        importance[found["TF"].astype(int), target] = found["importance"]
    return importance


def diffusion(values: np.ndarray) -> np.ndarray:
    """Absolute weights of RegDiffusion, with its defaults, on the CPU."""
    from regdiffusion import RegDiffusionTrainer

    trainer = RegDiffusionTrainer(values, device="cpu", seed=0)
    trainer.train()
    return np.abs(trainer.get_adj().astype(float))


def hotspot(x: np.ndarray) -> np.ndarray:
    """Absolute local correlations on 20 principal components, as hotspot's tutorial computes them; counts rounded."""
    from hotspot import Hotspot

    adata = AnnData(np.round(x))
    adata.layers["counts"], adata.obs["total"] = adata.X.copy(), adata.X.sum(axis=1)
    reduced = log_normalized(adata)
    sc.pp.pca(reduced, n_comps=min(20, adata.n_vars - 1))
    adata.obsm["X_pca"] = reduced.obsm["X_pca"]
    found = Hotspot(adata, layer_key="counts", model="danb", latent_obsm_key="X_pca", umi_counts_obs_key="total")
    found.create_knn_graph(weighted_graph=False, n_neighbors=30)
    found.compute_autocorrelations(jobs=1)
    scores = found.compute_local_correlations(list(adata.var_names), jobs=1)
    return np.abs(scores.reindex(index=adata.var_names, columns=adata.var_names).fillna(0).to_numpy())


METHODS = {
    "kronax, partial correlation": Method(partial_correlation),
    "kronax, p-value": Method(significance),
    "ridge .01": Method(lambda given: ridge(logs(given.counts), 0.01)),
    "ridge .1": Method(lambda given: ridge(logs(given.counts), 0.1)),
    "ridge 1": Method(lambda given: ridge(logs(given.counts), 1.0)),
    "correlation": Method(lambda given: correlation(logs(given.counts))),
    "ridge .1 within types": Method(lambda given: ridge(within(logs(given.counts), given.types), 0.1), types=True),
    "correlation within types": Method(lambda given: correlation(within(logs(given.counts), given.types)), types=True),
}
GROUPED = {
    "kronax, own clusters": Method(lambda given: with_groups(given, own_clusters(given))),
    "kronax, given types": Method(lambda given: with_groups(given, given.types), types=True),
}
SLOW = {"forests": Method(forest)}
if find_spec("arboreto"):
    SLOW["GRNBoost2"] = Method(boosted)
if find_spec("hotspot"):
    SLOW["hotspot"] = Method(lambda given: hotspot(given.counts))
if find_spec("regdiffusion"):
    SLOW["RegDiffusion"] = Method(lambda given: diffusion(logs(given.counts)))


def methods(args: argparse.Namespace) -> dict[str, Method]:
    return METHODS | (SLOW if args.slow else {})


def regulated_sets(args: argparse.Namespace) -> Iterator[Regulated]:
    """Those of ``--grn``, and simulated ones."""
    yield from stored_sets(args.grn) if args.grn else ()
    if not args.stored_only:
        yield from simulated_sets()
        yield from sergio_sets() if find_spec("sergio_rs") else ()


class Setting(NamedTuple):
    """How cells are simulated: so many types, of each so many; every one with a history of its own, or so many steps apart."""

    name: str
    network: Network
    seed: int
    n_types: int
    n_each: int
    noise: float
    apart: int | None = None


def settings() -> Iterator[Setting]:
    number = 0
    for n_regulators in (8, 25):
        network = random_network(100, n_regulators, np.random.default_rng(n_regulators))
        for n_types, n_each in ((1, 900), (3, 300), (6, 300), (12, 150)):
            for noise in (0.2, 1.0):
                number += 1
                name = f"{n_regulators} regulators, {n_types} × {n_each} cells, noise {noise:g}"
                yield Setting(name, network, number, n_types, n_each, noise)
        for apart in APART:
            name = f"{n_regulators} regulators, 6 × 300 cells, noise 0.2, {apart} steps apart"
            yield Setting(name, network, apart, 6, 300, 0.2, apart)


def simulated_sets() -> Iterator[Regulated]:
    for at in settings():
        rng = np.random.default_rng(at.seed)
        cells = simulate(random_regulation(at.network, at.n_types, rng), at.n_each, at.noise, rng, at.apart)
        yield regulated(at.name, cells, at.network)
        yield regulated(f"{at.name}, sequenced", sequenced(cells, rng), at.network)


def sergio_settings() -> Iterator[Setting]:
    number = 0
    for n_regulators in (8, 25):
        network = random_network(100, n_regulators, np.random.default_rng(100 + n_regulators))
        for n_types in (3, 6):
            for apart in (10, 50):
                number += 1
                name = f"SERGIO, {n_regulators} regulators, {n_types} × 300 cells, {apart} steps apart"
                yield Setting(name, network, number, n_types, 300, 1.0, apart)


def sergio_sets() -> Iterator[Regulated]:
    """Draw some by SERGIO itself, whose cells of a type are from one history too."""
    for at in sergio_settings():
        cells = simulate_by_sergio(at.network, at.n_types, at.n_each, at.apart, at.seed)
        yield regulated(at.name, cells, at.network)
        counts = sequenced(cells, np.random.default_rng(at.seed))
        yield regulated(f"{at.name}, sequenced", counts, at.network)


def regulated(name: str, cells: Cells, network: Network) -> Regulated:
    return seen(Regulated(name, cells.counts, cells.types, network.directed(), network.unrelated()))


def seen(given: Regulated) -> Regulated:
    """Keep genes that are in at least three cells, and cells in which one of them is."""
    genes = np.count_nonzero(given.counts, axis=0) > 2
    cells = given.counts[:, genes].any(axis=1)
    of_genes = {name: getattr(given, name) for name in ("truth", "unrelated", "pairs")}
    return Regulated(
        given.name,
        given.counts[np.ix_(cells, genes)],
        given.types if given.types is None else given.types[cells],
        **{name: values if values is None else values[np.ix_(genes, genes)] for name, values in of_genes.items()},
    )


def stored_sets(folder: Path) -> Iterator[Regulated]:
    (listed,) = folder.glob("*.csv")
    named = np.loadtxt(listed, delimiter=",", dtype=str)
    for path in sorted(folder.glob("*.h5ad")):
        adata = ad.read_h5ad(path)
        edges = np.stack([adata.var_names.get_indexer(ends) for ends in named.T], axis=1)
        yield regulated(path.stem, Cells(dense(adata), types_of(adata)), Network(edges, adata.n_vars))


# Curated networks: Boolean models, and regulation known from the literature


def model_tables(args: argparse.Namespace) -> Iterator[Table]:
    without_types = {name: method for name, method in methods(args).items() if not method.types}
    yield from ranking_tables("curated models", model_sets(args.seeds), without_types)


def model_sets(n_seeds: int) -> Iterator[Regulated]:
    """Draw each model alone and beside genes that nothing regulates, as it is and sequenced."""
    for name, rules in boolean_models.MODELS.items():
        for n_others in (0, 100):
            for seed in range(n_seeds):
                rng = np.random.default_rng(seed)
                cells = boolean_models.simulate(rules, n_others, rng)
                beside = f", beside {n_others} genes" if n_others else ""
                yield modelled(name + beside, cells, rules)
                yield modelled(f"{name}{beside}, sequenced", sequenced(cells, rng), rules)


def modelled(name: str, cells: Cells, rules: dict[str, str]) -> Regulated:
    """All pairs of the model's genes are ranked, in both directions."""
    truth, pairs = np.zeros((2, *(cells.counts.shape[1],) * 2), dtype=bool)
    truth[tuple(boolean_models.edges(rules).T)] = True
    pairs[: len(rules), : len(rules)] = ~np.eye(len(rules), dtype=bool)
    return seen(Regulated(name, cells.counts, None, truth, pairs=pairs))


def curated_tables(args: argparse.Namespace) -> Iterator[Table]:
    if args.curated:
        without_pairs = {"variances alone": Method(lambda given: variances(logs(given.counts)))}
        yield from ranking_tables(
            "curated regulation in real counts", curated_sets(args), without_pairs | methods(args)
        )


def curated_sets(args: argparse.Namespace) -> Iterator[Regulated]:
    """Read the genes of the curated network that are in at least 10 cells; every regulator among them may regulate all others."""
    listed = pd.read_csv(args.curated, sep="\t", header=None, usecols=[0, 1], names=["source", "target"], dtype=str)
    for path in sorted(args.data.glob("*.h5ad")):
        adata = ad.read_h5ad(path)
        adata.var_names_make_unique()
        adata = adata[:, adata.var_names.isin(listed.to_numpy().ravel())].copy()
        sc.pp.filter_genes(adata, min_cells=10)
        sources, targets = (adata.var_names.get_indexer(listed[end]) for end in listed)
        known = (sources >= 0) & (targets >= 0) & (sources != targets)
        if not known.any():
            progress(f"curated: no edge among the genes of {path.name}")
            continue
        truth, pairs = np.zeros((2, adata.n_vars, adata.n_vars), dtype=bool)
        truth[sources[known], targets[known]] = True
        pairs[sources[sources >= 0]] = True
        np.fill_diagonal(pairs, False)
        yield seen(Regulated(path.stem, dense(adata), types_of(adata), truth, pairs=pairs))


def types_of(adata: AnnData) -> np.ndarray:
    return np.unique(adata.obs["label"], return_inverse=True)[1]


def dense(adata: AnnData) -> np.ndarray:
    return (adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)).astype(float)


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


def fitted(x: np.ndarray, groups: np.ndarray | None = None, **options: object) -> AnnData:
    adata = AnnData(sparse.csr_matrix(x.astype(float)))
    if groups is not None:
        adata.obs["group"] = groups.astype(str)
        options["groupby"] = "group"
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
    "dependence": dependence_tables,
    "precision": precision_tables,
    "models": model_tables,
    "curated": curated_tables,
    "replication": replication_tables,
}

if __name__ == "__main__":
    main()
