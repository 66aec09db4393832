"""How much do gene modules depend on the seed? See README.md.

For every ``*.h5ad`` in a folder (raw counts in ``X``): modules of the gene graph from a single run of the Leiden algorithm and
from the consensus of many, with several seeds; the agreement of every two of them.
"""

import argparse
import logging
import time
from itertools import combinations
from pathlib import Path

import cell_graphs
import numpy as np
from anndata import AnnData
from report import header, progress, table
from sklearn.metrics import adjusted_mutual_info_score

import kronax as kx


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("WARNING")
    rows = []
    for file in sorted(args.data.glob("*.h5ad")):
        counts, _ = cell_graphs.variable(cell_graphs.read(file))
        kx.tl.med_magma(counts)
        single, many = (by_seed(counts, n_runs, args.seeds) for n_runs in (1, 100))
        rows.append([file.stem, *single, *many])
        progress(" ".join(rows[-1]))
    print(header())
    columns = ["", *(f"{what}, {runs}" for runs in ("1 run", "100 runs") for what in ("AMI", "modules", "seconds"))]
    print("\n" + table("Gene modules with different seeds", columns, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .h5ad files")
    parser.add_argument("--seeds", type=int, default=5, help="seeds to compare (default: 5)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def by_seed(adata: AnnData, n_runs: int, n_seeds: int) -> list[str]:
    """Measure the mean agreement of two seeds' modules, the number of modules, and the seconds that a call takes."""
    start = time.perf_counter()
    found = []
    for seed in range(n_seeds):
        kx.tl.gene_modules(adata, n_runs=n_runs, random_state=seed)
        found.append(adata.var["gene_module"].cat.codes.to_numpy())
    seconds = (time.perf_counter() - start) / n_seeds
    agreement = np.mean([adjusted_mutual_info_score(*pair) for pair in combinations(found, 2)])
    return [f"{agreement:.2f}", f"{np.mean([modules.max() + 1 for modules in found]):.0f}", f"{seconds:.1f}"]


if __name__ == "__main__":
    main()
