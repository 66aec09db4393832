"""How many of the true neighbours are found, and how long does it take? See README.md.

kronax's own search, scikit-learn's exact one, pynndescent and usearch (those that are installed), on simulated embeddings; and
kronax's on those of real data, enlarged. On the former every search has a process of its own, whose first call counts imports and
compilation.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from report import header, progress, table

N_NEIGHBORS = 15
N_COMPS = 50
N_TRIED = 1000  # rows whose true neighbours are known
N_TYPES = 20
SLOPE = 0.7  # the spread of coordinate j falls as j^−0.7
N_MIXED = 10  # neighbours with which a cell is mixed to make more
Search = Callable[[np.ndarray, int], np.ndarray]


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(measure(SEARCHES[args.one], np.load(args.rows))))
        return
    print(header())
    methods = [name for name in SEARCHES if PACKAGE_OF.get(name) is None or find_spec(PACKAGE_OF[name])]
    rows = [
        line(name, n, in_fresh_process(name, simulated(n)))
        for n in args.cells
        for name in methods
        if name not in EXACT or n <= args.exact_up_to
    ]
    columns = ["", "cells", "recall", "first call", "second call"]
    print("\n" + table("Simulated embeddings, CPU-seconds", columns, rows, markdown=args.markdown))
    files = [file for folder in args.data for file in sorted(Path(folder).glob("*.h5ad"))]
    if files:
        rows = [real_line(file, args.enlarged) for file in files]
        columns = [
            "",
            "cells",
            *(f"{name.removeprefix('kronax, ')}: {what}" for name in OWN for what in ("found", "CPU-s")),
        ]
        title = f"Embeddings of real data, enlarged to {args.enlarged:,} cells"
        print("\n" + table(title, columns, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], metavar="DIR", help="folders of .h5ad files with counts in X")
    parser.add_argument(
        "--cells", nargs="*", type=int, default=[20_000, 100_000, 200_000], help="sizes of simulated ones"
    )
    parser.add_argument("--exact-up-to", type=int, default=100_000, help="cells up to which exact searches are timed")
    parser.add_argument("--enlarged", type=int, default=20_000, help="cells to which real ones are enlarged")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    return parser.parse_args()


# Embeddings


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def simulated(n: int, seed: int = 0) -> np.ndarray:
    """Types of different numbers, a path within each, and noise, in coordinates of falling spread."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, N_COMPS + 1.0) ** -SLOPE
    centres, paths = rng.normal(size=(2, N_TYPES, N_COMPS)) * spread
    kind = rng.choice(N_TYPES, n, p=rng.dirichlet(np.ones(N_TYPES)))
    along = rng.uniform(-1.0, 1.0, (n, 1))
    return unit(2.0 * centres[kind] + along * paths[kind] + 0.7 * rng.normal(size=(n, N_COMPS)) * spread)


def enlarged(embedding: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Draw cells between a real one and two of its neighbours, with noise of a fifth of every coordinate's spread."""
    rng = np.random.default_rng(seed)
    near = exact(unit(embedding), min(N_MIXED, len(embedding) - 1))
    one = rng.integers(len(embedding), size=n)
    others = near[one[:, None], rng.integers(near.shape[1], size=(n, 2))]
    corners = embedding[np.column_stack([one, others])]
    mixed = np.einsum("ic,icj->ij", rng.dirichlet(np.ones(3), size=n), corners)
    return unit(mixed + 0.2 * embedding.std(axis=0) * rng.normal(size=mixed.shape))


def embedded(file: Path) -> np.ndarray:
    """Read a data set and return its cells' coordinates by kx.tl.med_magma, of 2,000 variable genes."""
    import anndata as ad
    import scanpy as sc

    import kronax as kx

    adata = ad.read_h5ad(file)
    sc.pp.filter_genes(adata, min_cells=1)
    logs = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
    sc.pp.highly_variable_genes(logs, n_top_genes=2000)
    adata = adata[:, logs.var["highly_variable"]].copy()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        kx.tl.med_magma(adata)
    return adata.obsm["X_med_magma"]


# Searches: from rows of unit length to the indices of the k nearest others


def own(recall: float) -> Search:
    def search(rows: np.ndarray, k: int) -> np.ndarray:
        from kronax.solvers.graph.lists import nearest

        return nearest(rows, k, recall=recall)

    return search


exact = own(1.0)


def sklearn(rows: np.ndarray, k: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    return without_self(NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows).kneighbors(rows)[1])


def pynndescent(rows: np.ndarray, k: int) -> np.ndarray:
    from pynndescent import NNDescent

    return without_self(NNDescent(rows, n_neighbors=k + 1, random_state=0).neighbor_graph[0])


def usearch(rows: np.ndarray, k: int) -> np.ndarray:
    from usearch.index import Index

    rows = rows.astype(np.float32)
    index = Index(ndim=rows.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(rows)), rows)
    return without_self(index.search(rows, k + 1).keys.astype(np.int64))


def without_self(found: np.ndarray) -> np.ndarray:
    """Leave the row itself out, or the last one where it is not among those found."""
    others = found != np.arange(len(found))[:, None]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(len(found), -1)


OWN = {"kronax, recall 0.95": own(0.95), "kronax, recall 0.99": own(0.99)}
EXACT = {"kronax, exact": exact, "scikit-learn, exact": sklearn}
SEARCHES = OWN | EXACT | {"pynndescent": pynndescent, "usearch": usearch}
PACKAGE_OF = {"pynndescent": "pynndescent", "usearch": "usearch"}


# Measurement


def recall(rows: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the true neighbours found, over rows at a fixed stride; any as near as the last is one."""
    n, k = found.shape
    shares = []
    for i in np.arange(min(N_TRIED, n)) * n // min(N_TRIED, n):
        scores = rows @ rows[i]
        scores[i] = -np.inf
        least = np.partition(scores, n - k)[n - k]
        shares.append(min(k, np.count_nonzero(scores[found[i]] >= least - 1e-12)) / k)
    return float(np.mean(shares))


def measure(search: Search, rows: np.ndarray) -> dict[str, float]:
    """Time a search twice, in CPU-seconds of all threads. The libraries that kronax imports are there."""
    import kronax  # noqa: F401

    seconds = []
    for _ in range(2):
        start = time.process_time()
        found = search(rows, N_NEIGHBORS)
        seconds.append(time.process_time() - start)
    return {"first": seconds[0], "second": seconds[1], "recall": recall(rows, found)}


def in_fresh_process(name: str, rows: np.ndarray) -> dict[str, float]:
    progress(f"{name}: {len(rows)} cells")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npy"
        np.save(file, rows)
        command = [sys.executable, __file__, "--one", name, "--rows", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def line(name: str, n: int, found: dict[str, float]) -> list[str]:
    return [name, f"{n:,}", f"{found['recall']:.3f}", f"{found['first']:.1f}", f"{found['second']:.1f}"]


def real_line(file: Path, n: int) -> list[str]:
    progress(file.stem)
    embedding = embedded(file)
    rows = enlarged(embedding, n)
    found = [measure(search, rows) for search in OWN.values()]
    cells = [text for one in found for text in (f"{one['recall']:.3f}", f"{one['second']:.2f}")]
    return [file.stem, f"{len(embedding):,}", *cells]


if __name__ == "__main__":
    main()
