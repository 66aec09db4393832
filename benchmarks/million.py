"""A matrix that is not in memory: time of every step, and memory, from a zarr store under dask. See README.md.

Writes simulated counts to the store first, unless it is there.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import dask
import dask.array as da
import jax
import numpy as np
import zarr
from anndata.experimental import read_elem_lazy
from fresh import peak, resident
from inputs import simulated_counts
from report import header, load, progress, table
from scipy import sparse

from kronax._data.chunks import read_chunks
from kronax._data.neighbours import search
from kronax.solvers import device
from kronax.solvers.gaussian.spectral import decompose
from kronax.solvers.graph.weights import affinity_graph
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.scales.powered import powered_chunks
from kronax.solvers.scales.sinkhorn import scale

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="the zarr store, written if it is not there")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--chunk", type=int, default=10_000, help="cells of a chunk (default: 10000)")
    parser.add_argument("--pca", action="store_true", help="time sc.pp.pca in memory too")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if not args.store.exists():
        write(args.store, args.cells, args.genes, args.chunk)
    rows: list[list[str]] = []
    at_start = load()
    counts = run(args, rows)
    if args.pca:
        pca(args.store, rows)
    print(header(), f"Load of the machine: {at_start} at the start, {load()} at the end", sep="\n")
    title = f"{counts.shape[0]:,} × {counts.shape[1]:,}, {counts.rows.n_entries:,} non-zero values"
    print("\n" + table(title, ["step", "passes", "CPU", "clock", "memory so far"], rows, markdown=args.markdown))


def write(store: Path, n_cells: int, n_genes: int, chunk: int) -> None:
    """Write counts block by block; only one block is in memory."""
    blocks = [(start, min(chunk, n_cells - start)) for start in range(0, n_cells, chunk)]

    def block(start: int, length: int) -> sparse.csr_matrix:
        progress(f"writing cells {start:,} to {start + length:,}")
        return simulated_counts(length, n_genes, first=start).X

    meta = sparse.csr_matrix((0, n_genes), dtype=np.float32)
    arrays = [
        da.from_delayed(dask.delayed(block)(*where), shape=(where[1], n_genes), dtype=np.float32, meta=meta)
        for where in blocks
    ]
    adata = ad.AnnData(shape=(n_cells, n_genes))
    adata.X = da.concatenate(arrays)
    adata.write_zarr(store)


def run(args: argparse.Namespace, rows: list[list[str]]):
    """Take the steps of ``kx.tl.med_magma`` one by one."""
    before = resident()

    @contextmanager
    def step(name: str, passes: str = "") -> Iterator[None]:
        progress(name)
        clock, cpu = time.perf_counter(), time.process_time()
        yield
        times = time.process_time() - cpu, time.perf_counter() - clock
        rows.append([name, passes, *(f"{value:.1f}" for value in times), f"{(peak() - before) / MIB:.0f} MiB"])

    with device.computing(), jax.enable_x64(True):
        with step("survey", "1"):
            array = read_elem_lazy(zarr.open(args.store, mode="r")["X"], chunks=(args.chunk, args.genes))
            counts = read_chunks(array, "X", "")
        with step("power, from a sample"):
            found = powered_chunks(counts.rows, counts.sample, None, signed=False)
        with step("scales"):
            scaling = scale(found.rows, 1e-7)
        rows[-1][1] = str(scaling.n_passes)
        z = NoiseFree(found.rows, Factors(scaling.cols))
        with step("second moments, eigenvectors, coordinates", "2"):
            lead, _ = decompose(z, center=0, n_comps=50, whole=False)
        with step("scales of cells", "1"):
            z.row_factors()
        with step("neighbours and their weights"):
            affinity_graph(lead.rows * lead.shrunk, 15, search=search(0.95, None, 0, progress=True))
    total = [sum(float(row[column]) for row in rows) for column in (2, 3)]
    passes = sum(int(row[1] or 0) for row in rows)
    rows.append(["together", str(passes), *(f"{value:.1f}" for value in total), rows[-1][-1]])
    return counts


def pca(store: Path, rows: list[list[str]]) -> None:
    """Time scanpy's PCA of the same matrix in memory."""
    import scanpy as sc

    adata = ad.read_zarr(store)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    clock, cpu = time.perf_counter(), time.process_time()
    sc.pp.pca(adata)
    times = time.process_time() - cpu, time.perf_counter() - clock
    rows.append(["sc.pp.pca, in memory", "", *(f"{value:.1f}" for value in times), ""])


if __name__ == "__main__":
    main()
