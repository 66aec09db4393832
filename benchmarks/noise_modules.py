"""Are modules of noise recognised, and what do `stability` and `agreement` say? See README.md.

Counts are simulated whose gene modules are known, beside genes that depend on none; and with ``--data DIR``, half or all of the genes
of real counts are replaced by independent ones with the same depths, means and dispersions, or the values of every gene are permuted
between cells of about equal depth. A module that was found is *true* if more than three fifths of its genes are of a true module, a
*rest* if fewer than a fifth are, but two or more of the same one, and *noise* if no two are.

The rule was chosen on seeds 100 to 102 and on five real data sets (docs/benchmarks.md); the seeds here begin with 0.
"""

import argparse
import logging
import warnings
from pathlib import Path

import cell_graphs
import gene_networks
import numpy as np
import pandas as pd
from anndata import AnnData
from report import header, progress, table
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

import kronax as kx

SIZES = (60, 40, 30, 30, 20, 20, 15, 15, 10, 10, 8, 6)  # of the true modules
SIMULATED = {  # strength of the modules, cell types, mean of the log means, genes
    "weak modules": (0.4, 0, -1.5, 600),
    "modules": (0.8, 0, -1.5, 600),
    "modules, 5 cell types": (0.8, 5, -1.5, 600),
    "modules, 5 cell types, more counts": (0.8, 5, 0.5, 600),
    "modules, 5 cell types, more noise": (0.8, 5, -1.5, 1500),
    "no modules": (0.0, 0, -1.5, 600),
}
NEIGHBORS = (5, 15, 40)
KINDS = ("true", "rest", "noise")  # of modules that were found
BINS = (0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of stability
RANKS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
Q_VALUES = [0.0, 1e-3, 0.05, 0.2, 0.3, 1.0]


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("ERROR")
    warnings.simplefilter("ignore")
    print(header())
    found = [
        described(simulated(*settings, seed), f"{name}, {k} neighbours", k)
        for name, settings in SIMULATED.items()
        for seed in range(args.seeds)
        for k in NEIGHBORS
    ]
    for file in sorted(args.data.glob("*.h5ad")) if args.data else []:
        for share, name in ((0.5, "real counts, half of the genes replaced"), (1.0, "real counts, all genes replaced")):
            found.append(described(replaced(file, share), name, 15))
        found.append(described(permuted(file), "real counts, permuted", 15))
    modules, genes = (pd.concat([pair[i] for pair in found]) for i in (0, 1))
    for judge, name in (("noise", "by q-values"), ("loose", "by cohesion, without q-values")):
        columns = ["", *(column for kind in KINDS for column in (kind, "called noise"))]
        rows = [[name, *counted(part, judge)] for name, part in modules.groupby("data", sort=False)]
        print("\n" + table(f"Modules called noise {name}", columns, rows, markdown=args.markdown))
    columns = ["stability", "genes", "of a true module", "partners of the same"]
    rows = grouped(genes[genes["n_neighbors"] == 15], "stability", BINS, "{left:.1f} to {right:.1f}")
    print("\n" + table("Stability of a gene, 15 neighbours", columns, rows, markdown=args.markdown))
    rows = grouped(genes[genes["n_neighbors"] == 15], "rank", RANKS, "up to {right:.0%}")
    columns = ["rank in the module, by weighted degree", *columns[1:]]
    print("\n" + table("Rank of a gene, 15 neighbours", columns, rows, markdown=args.markdown))
    rows = grouped(genes[genes["n_neighbors"] == 15], "q_value", Q_VALUES, "up to {right:g}")
    columns = ["smallest q-value of its edges in the module", *columns[1:]]
    print("\n" + table("q-value of a gene, 15 neighbours", columns, rows, markdown=args.markdown))
    known = modules.dropna(subset=["ami"]).groupby("data", sort=False)[["agreement", "ami"]]
    rows = [[name, f"{part['agreement'].mean():.2f}", f"{part['ami'].mean():.2f}"] for name, part in known]
    print("\n" + table("Agreement", ["", "agreement", "AMI with the true modules"], rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of .h5ad files with raw counts in X")
    parser.add_argument("--seeds", type=int, default=5, help="data sets per line (default: 5)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


# Data whose modules are known: var["truth"] is the module of a gene, -1 for one that depends on no other


def simulated(strength: float, n_types: int, mean: float, n_genes: int, seed: int, n_cells: int = 1000) -> AnnData:
    """Draw Poisson counts; the log mean of a module's gene follows the module's factor, by a loading of its own."""
    rng = np.random.default_rng(seed)
    module = np.append(np.repeat(np.arange(len(SIZES)), SIZES), np.full(n_genes - sum(SIZES), -1))
    factor = rng.normal(size=(n_cells, len(SIZES)))
    if n_types:
        factor = 0.5 * factor + rng.normal(size=(n_types, len(SIZES)))[rng.integers(n_types, size=n_cells)]
    logs = rng.normal(mean, 1, n_genes) + rng.normal(0, 0.4, n_cells)[:, None]
    logs = logs + strength * rng.uniform(0.3, 1, n_genes) * np.where(module >= 0, factor[:, module], 0.0)
    counts = rng.poisson(np.exp(np.minimum(logs, 6)))
    return seen(counts, module if strength else np.full(n_genes, -1))


def replaced(file: Path, share: float) -> AnnData:
    """Replace a share of the genes by negative binomial counts of the cells' depths and the genes' means and dispersions."""
    counts = real_counts(file)
    rng = np.random.default_rng(0)
    depth = counts.sum(axis=1, keepdims=True) / counts.sum(axis=1).mean()
    mean = counts.mean(axis=0)
    excess = (counts / depth).var(axis=0) - mean * np.mean(1 / depth)
    dispersion = np.maximum(excess / np.maximum(mean, 1e-9) ** 2, 0.05)
    drawn = rng.poisson(depth * mean * rng.gamma(1 / dispersion, dispersion, size=counts.shape))
    is_drawn = rng.random(len(mean)) < share
    return seen(np.where(is_drawn, drawn, counts), np.where(is_drawn, -1, 0))


def permuted(file: Path) -> AnnData:
    """Permute the values of every gene between cells of about equal depth."""
    counts = gene_networks.permuted(real_counts(file), np.random.default_rng(0))
    return seen(counts, np.full(counts.shape[1], -1))


def real_counts(file: Path) -> np.ndarray:
    """Read the counts of the variable genes."""
    real, _ = cell_graphs.variable(cell_graphs.read(file))
    counts = real.X.toarray() if sparse.issparse(real.X) else np.asarray(real.X)
    return np.rint(counts[counts.sum(axis=1) > 0])


def seen(counts: np.ndarray, module: np.ndarray, min_cells: int = 3) -> AnnData:
    """Keep the genes seen in some cells, and the cells in which one is."""
    genes = (counts > 0).sum(axis=0) >= min_cells
    adata = AnnData(sparse.csr_matrix(counts[:, genes].astype(float)))
    adata.var["truth"] = module[genes]
    return adata[adata.X.getnnz(axis=1) > 0].copy()


# What was found


def described(adata: AnnData, name: str, n_neighbors: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find modules; return a table of them and, where true modules are known one by one, a table of the genes."""
    progress(name)
    kx.tl.med_magma(adata, graphs="genes", n_neighbors=n_neighbors)
    kx.tl.gene_modules(adata)
    var, truth = adata.var, adata.var["truth"].to_numpy()
    modules = adata.uns["gene_module"]["table"].assign(data=name, kind=kinds(truth, var["gene_module"]))
    modules["agreement"] = adata.uns["gene_module"]["agreement"]
    modules["loose"] = without_q_values(adata)
    known = truth >= 0
    if truth.max() < 1:
        return modules, pd.DataFrame()
    code = var["gene_module"].cat.codes.to_numpy()
    modules["ami"] = adjusted_mutual_info_score(truth[known], code[known])
    together = code[:, None] == code
    np.fill_diagonal(together, val=False)
    same = together & (truth[:, None] == truth) & known
    partners = same.sum(axis=1) / np.maximum(together.sum(axis=1), 1)
    genes = pd.DataFrame({"stability": var["gene_module_stability"].to_numpy(), "real": known, "partners": partners})
    ranked = kx.get.modules(adata).set_index("gene")
    ranked["rank"] /= ranked.groupby("module", observed=True)["rank"].transform("max")
    genes[["rank", "q_value"]] = ranked[["rank", "q_value"]].reindex(adata.var_names).to_numpy()
    return modules, genes[code >= 0].assign(data=name, n_neighbors=n_neighbors)


def kinds(truth: np.ndarray, module_of: pd.Series) -> list[str]:
    """Tell which modules are true, which are noise, and which a rest; the others are neither."""
    found = []
    for module in module_of.cat.categories:
        of = pd.Series(truth[module_of == module])
        share, together = (of >= 0).mean(), of[of >= 0].value_counts().max()
        found.append("true" if share > 0.6 else "" if share >= 0.2 else "rest" if together >= 2 else "noise")
    return found


def without_q_values(adata: AnnData) -> np.ndarray:
    """Judge the same modules as if the graph had no q-values."""
    plain = adata.copy()
    del plain.uns["med_magma"]["q_value_key"]
    kx.tl.gene_modules(plain)
    return plain.uns["gene_module"]["table"]["noise"].to_numpy()


def counted(modules: pd.DataFrame, judge: str) -> list[str]:
    """Count the modules of every kind, and how many of them are called noise."""
    row = []
    for kind in KINDS:
        part = modules[modules["kind"] == kind]
        row += [f"{len(part)}", f"{part[judge].mean():.0%}" if len(part) else ""]
    return row


def grouped(genes: pd.DataFrame, by: str, bins: list[float], name: str) -> list[list[str]]:
    """Count genes of about the same stability, rank or q-value, those of a true module, and average for these the share of their module that is of it."""
    groups = pd.cut(genes[by], bins, include_lowest=True)
    return [
        [
            name.format(left=max(group.left, 0.0), right=group.right),
            f"{len(part):,}",
            f"{part['real'].mean():.0%}",
            f"{part.loc[part['real'], 'partners'].mean():.2f}" if part["real"].any() else "",
        ]
        for group, part in genes.groupby(groups, observed=True)
    ]


if __name__ == "__main__":
    main()
