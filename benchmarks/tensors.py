"""How well do the methods of tensor completion predict profiles that were held out?

Prints the pooled correlation of held-out and predicted values (profiles and predictions at unit norm, 10 folds of whole
fibers) for the tensors in a folder, treatments × genes × contexts:

    python benchmarks/tensors.py --data DIR [--tensor NAME …] [--method NAME …]

While it works, it says for every method what was known beforehand, if anything was, and the seconds that it took.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import mudata
import numpy as np
from report import header, progress, table

from kronax.solvers.tensor.dnpp import dnpp
from kronax.solvers.tensor.folds import fiber_folds, hide, pooled_correlation, unit_norm
from kronax.solvers.tensor.means import mean_1d, mean_2d
from kronax.solvers.tensor.trace_norm.falrtc import HODOS_2018, falrtc
from kronax.solvers.tensor.trace_norm.halrtc import halrtc
from kronax.solvers.tensor.trace_norm.silrtc import silrtc
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

METHODS = {
    "1D": lambda x: mean_1d(x),
    "2D": lambda x: mean_2d(x),
    "DNPP": lambda x: dnpp(x),
    "FaLRTC 2018": lambda x: falrtc(x, HODOS_2018),
    "FaLRTC equal α": lambda x: falrtc(x, replace(HODOS_2018, alpha=(1.0, 1.0, 1.0))),
    "FaLRTC": lambda x: falrtc(x),
    "HaLRTC": lambda x: halrtc(x),
    "SiLRTC": lambda x: silrtc(x),
    "kronecker λ=1": lambda x: kronecker(x, PLAIN),
    "kronecker": lambda x: kronecker(x),
}
PLAIN = KroneckerOptions(noise=1.0, own_share=0.0, common_share=0.0, gene_power=0.0)

KNOWN = {
    "NeurIPS": [0.278, 0.358, 0.398, 0.441, 0.452, None, 0.425, None, 0.464, None],
    "NeurIPS, half": [0.211, 0.286, 0.311, 0.213, 0.200, None, 0.148, None, 0.412, None],
    "TG-GATEs": [0.404, 0.431, 0.325, 0.448, 0.466, None, 0.441, None, 0.558, None],
    "L1000 plate": [0.36, 0.408, 0.347, 0.388, 0.405, None, None, None, 0.411, None],
}
N_GENES = 1000  # of NeurIPS, drawn at random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5mu files")
    parser.add_argument("--tensor", nargs="*", choices=KNOWN, default=list(KNOWN))
    parser.add_argument("--method", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="a table in Markdown")
    args = parser.parse_args()
    methods = [method for method in METHODS if method in args.method]
    rows = [scores(args, name, methods) for name in args.tensor]
    print(header() + "\n")
    print(table("Pooled correlation", ["tensor", *methods], rows, markdown=args.markdown))


def scores(args: argparse.Namespace, name: str, methods: list[str]) -> list[str]:
    """Return the row of a tensor: its name and shape, and the score of every method."""
    values, known = unit_norm(read(args.data, name, args.seed)), dict(zip(METHODS, KNOWN[name], strict=True))
    n_treatments, n_contexts, n_genes = values.shape
    row = [f"{name}, {n_treatments} × {n_genes:,} × {n_contexts}"]
    for method in methods:
        start = time.perf_counter()
        row.append(f"{cross_validated(values, METHODS[method], args.seed):.3f}")
        before = f"{known[method]:.3f}" if known[method] else "-"
        progress(f"{name}: {method} {row[-1]}, known {before}, {time.perf_counter() - start:.1f} s")
    return row


def read(folder: Path, name: str, seed: int) -> np.ndarray:
    """Read a tensor, treatments × contexts × genes."""
    if name == "TG-GATEs":
        return stacked(folder / "tggates_hepatocyte.h5mu")
    if name == "L1000 plate":
        return stacked(folder / "l1000_ljp005_a375.h5mu")
    values = stacked(folder / "neurips2023_pbmc.h5mu")
    rng = np.random.default_rng(seed)
    values = values[:, :, rng.choice(values.shape[2], N_GENES, replace=False)]
    if name == "NeurIPS, half":
        values[~half_of(values.shape[:2], rng)] = np.nan
    return values


def stacked(file: Path) -> np.ndarray:
    mdata = mudata.read_h5mu(file)
    treatments = {name: i for i, name in enumerate(sorted({n for a in mdata.mod.values() for n in a.obs_names}))}
    genes = next(iter(mdata.mod.values())).var_names
    values = np.full((len(treatments), len(mdata.mod), len(genes)), np.nan)
    for context, adata in enumerate(mdata.mod.values()):
        values[[treatments[name] for name in adata.obs_names], context] = adata[:, genes].X
    return values


def half_of(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw half of every treatment's fibers."""
    order = rng.random(shape).argsort(axis=1)
    return order < shape[1] // 2


def cross_validated(values: np.ndarray, method, seed: int) -> float:
    measured = ~np.isnan(values[:, :, 0])
    predicted = np.full_like(values, np.nan)
    for held_out in fiber_folds(measured, 10, seed):
        predicted[held_out] = method(hide(values, held_out)).values[held_out]
    return pooled_correlation(values, unit_norm(predicted))


if __name__ == "__main__":
    main()
