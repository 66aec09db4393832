"""How near to the truth are the effects of ``kx.pp.effects``, how sure are they, and how fast is it? See README.md.

A simulated screen, several seeds: correlation of estimated with true log fold changes by strength, and the share of effects with
p ≤ 0.1. Then time: the CPU of ``scanpy.get.aggregate`` on the same cells, and of every method.
"""

import argparse
import logging
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from report import header, progress, table
from scipy import sparse

import kronax as kx

METHODS = ("log_fold_change", "z_score", "characteristic_direction")
KEYS = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line", "replicate_key": "plate"}


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("WARNING")
    print(header())
    for n_replicates in args.replicates:
        rows = accuracy(args.seeds, n_replicates)
        title = (
            f"Simulated screens, 48 treatments × 3 lines × 500 genes, {n_replicates} plates, mean of {args.seeds} seeds"
        )
        columns = ["", "correlation, strong", "weak", "p ≤ 0.1: strong", "weak", "none"]
        print("\n" + table(title, columns, rows, markdown=args.markdown), flush=True)
    title = f"{args.cells:,} cells × 2,000 genes, 12% non-zero, 300 treatments × 3 contexts × 3 replicates"
    print("\n" + table(title, ["", "CPU, seconds", "ratio"], speed(args.cells), markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="screens of each kind (default: 5)")
    parser.add_argument("--replicates", type=int, nargs="*", default=[3, 8], help="plates (default: 3 8)")
    parser.add_argument("--cells", type=int, default=1_000_000, help="cells for the time (default: 1000000)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def accuracy(n_seeds: int, n_replicates: int) -> list[list[str]]:
    """Compare with the truth."""
    found: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    for seed in range(n_seeds):
        progress(f"{n_replicates} plates, seed {seed}")
        adata = kx.datasets.screen(n_treatments=48, n_replicates=n_replicates, random_state=seed)
        for method, scores in found.items():
            scores.append(scored(adata, kx.pp.effects(adata, **KEYS, method=method)))
    return [[method, *(f"{score:.3f}" for score in np.mean(scores, axis=0))] for method, scores in found.items()]


def scored(adata: AnnData, effects: AnnData) -> list[float]:
    truth = adata.uns["log_fold_change"].loc[effects.obs_names].to_numpy()
    of_treatment = adata.obs.groupby("perturbation", observed=True)["strength"].first()
    strength = of_treatment[effects.obs["perturbation"]].to_numpy()
    sure = (effects.obs["p_value"] <= 0.1).to_numpy()
    pairs = zip(effects.X, truth, strict=True)
    correlation = np.array([np.corrcoef(a, b)[0, 1] if b.any() else np.nan for a, b in pairs])
    by_strength = [np.nanmean(correlation[strength == kind]) for kind in ("strong", "weak")]
    return by_strength + [sure[strength == kind].mean() for kind in ("strong", "weak", "none")]


def speed(n: int) -> list[list[str]]:
    """Time one call of each, after one on few cells."""
    adata = many_cells(n)
    keys = {"treatment_key": "treatment", "control": "0", "context_key": "context", "replicate_key": "replicate"}
    calls: dict[str, Callable[[AnnData], object]] = {
        "scanpy.get.aggregate, sums": lambda a: sc.get.aggregate(
            a, by=["treatment", "context", "replicate"], func="sum"
        )
    }
    calls |= {method: lambda a, m=method: kx.pp.effects(a, **keys, method=m, min_cells=1) for method in METHODS}
    few, seconds = adata[:20_000].copy(), {}
    for name, call in calls.items():
        progress(name)
        call(few)
        start = time.process_time()
        call(adata)
        seconds[name] = time.process_time() - start
    least = next(iter(seconds.values()))
    return [[name, f"{value:.1f}", f"{value / least:.2f}"] for name, value in seconds.items()]


def many_cells(n: int) -> AnnData:
    rng = np.random.default_rng(0)
    block = sparse.random(10_000, 2_000, density=0.12, format="csr", random_state=0, dtype=np.float32)
    block.data = np.ceil(4.0 * block.data)
    numbers = {"treatment": 301, "context": 3, "replicate": 3}
    obs = pd.DataFrame({name: pd.Categorical(rng.integers(0, k, n).astype(str)) for name, k in numbers.items()})
    counts = sparse.vstack([block] * -(-n // block.shape[0]), format="csr")[:n]
    return AnnData(counts, obs=obs.set_index(obs.index.astype(str)))


if __name__ == "__main__":
    main()
