"""How fast is ``kx.tl.med_magma``, and how much memory does it need? See README.md.

pbmc68k_reduced: first and compiled call, with ``--published`` against the published package MED-MAGMA, and so the l1 penalty on
a simulated matrix. Simulated sparse counts of several sizes: both graphs, and each alone, against scanpy's PCA and neighbours.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import peers
from fresh import Measured, in_fresh_process
from inputs import pbmc68k, simulated_counts
from report import header, load, progress, table
from scipy import sparse

import kronax as kx

Rows = list[list[str]]
MIB = 2**20
WHO = ("both", "cells", "genes", "scanpy")  # graphs of kronax, or scanpy


def main() -> None:
    args = arguments()
    if args.published:
        peers.require_published()
    ratios, timings = Rows(), Rows()
    at_start = load()
    small(args, ratios, timings)
    if args.published:
        exactly_sparse(args, ratios, timings)
    sizes = against_scanpy(args)
    print(header(), f"Load of the machine: {at_start} at the start, {load()} at the end", sep="\n")
    titles = {
        "Ratios of times": (["", "median", "least"], ratios),
        "Seconds": (["", "median", "least", "runs"], timings),
        f"Simulated counts, cells × {args.genes:,} genes": (
            ["cells", "", "CPU", "clock", "first CPU", "first clock", "CPU ratio", "first-clock ratio", "memory"],
            sizes,
        ),
    }
    for title, (columns, rows) in titles.items():
        if rows:
            print("\n" + table(title, columns, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="time MED-MAGMA too: a minute or more")
    parser.add_argument("--small-repeats", type=int, default=5, help="compiled calls on pbmc68k_reduced (default: 5)")
    parser.add_argument("--published-repeats", type=int, default=1, help="runs of MED-MAGMA (default: 1)")
    parser.add_argument("--fresh", type=int, default=3, help="fresh processes for the first call (default: 3)")
    parser.add_argument(
        "--sparse-size", type=int, default=500, help="rows and columns for the l1 penalty (default: 500)"
    )
    parser.add_argument(
        "--cells",
        type=int,
        nargs="*",
        default=[1000, 4000, 8000, 20_000, 100_000],
        help="cells of the simulated counts (default: 1000 4000 8000 20000 100000)",
    )
    parser.add_argument("--genes", type=int, default=2000, help="genes of the simulated counts (default: 2000)")
    parser.add_argument("--repeats", type=int, default=2, help="processes of each, in turns (default: 2)")
    parser.add_argument("--calls", type=int, default=3, help="calls in each process (default: 3)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def small(args: argparse.Namespace, ratios: Rows, timings: Rows) -> None:
    """Time pbmc68k_reduced; compiled calls stand before and after each run of the published package."""
    progress(f"pbmc68k_reduced: the first call, in {args.fresh} fresh processes")
    firsts = [in_fresh_process("first_call") for _ in range(args.fresh)]
    calls = [found["call"] for found in firsts]
    adata = pbmc68k()
    size = f"{adata.n_obs} × {adata.n_vars}"
    timings.append(seconds_row("imports of scanpy and kronax (not in any other line)", [f["imports"] for f in firsts]))
    timings.append(seconds_row(f"{size}: kronax, first call in a process", calls))

    progress("pbmc68k_reduced: compiled calls")
    kx.tl.med_magma(adata)
    compiled = [seconds(lambda: kx.tl.med_magma(adata)) for _ in range(args.small_repeats)]
    if args.published:
        values = adata.to_df().to_numpy(dtype=np.float64)
        progress(f"MED-MAGMA: {values.shape[0]} × {values.shape[1]} …")
        runs = []
        for _ in range(args.published_repeats):
            runs.append(peers.published(values, stop_tol=1e-7))
            compiled += [seconds(lambda: kx.tl.med_magma(adata)) for _ in range(args.small_repeats)]
        theirs = [run.seconds for run in runs]
        name = f"{values.shape[0]} × {values.shape[1]}: MED-MAGMA (stop_tol=1e-7 as in its README, {runs[0].n_steps} EM steps)"
        timings.append(seconds_row(name, theirs))
        ratios.append(ratio_row("MED-MAGMA / kronax, compiled", [a / b for a in theirs for b in compiled]))
        ratios.append(ratio_row("MED-MAGMA / kronax, first call", [a / b for a in theirs for b in calls]))
    timings.append(seconds_row(f"{size}: kronax, compiled", compiled))


def exactly_sparse(args: argparse.Namespace, ratios: Rows, timings: Rows) -> None:
    """Time the l1 penalty on a simulated square matrix; compiled calls stand before and after the published package's run."""
    n = args.sparse_size
    adata = kx.datasets.kronecker_sum(n, n)
    progress(f"{n} × {n}: penalty l1")
    kx.tl.med_magma(adata, penalty="l1")
    ours = [seconds(lambda: kx.tl.med_magma(adata, penalty="l1")) for _ in range(2)]
    progress(f"MED-MAGMA: {n} × {n} …")
    theirs = peers.published(np.asarray(adata.X, dtype=np.float64), stop_tol=1e-7)
    ours += [seconds(lambda: kx.tl.med_magma(adata, penalty="l1")) for _ in range(2)]
    timings.append(seconds_row(f"{n} × {n}, Barabási–Albert: kronax, penalty l1, compiled", ours))
    timings.append(seconds_row(f"{n} × {n}: MED-MAGMA ({theirs.n_steps} EM steps)", [theirs.seconds]))
    ratios.append(ratio_row(f"{n} × {n}: MED-MAGMA / kronax, penalty l1, compiled", [theirs.seconds / b for b in ours]))


def against_scanpy(args: argparse.Namespace) -> Rows:
    """Time simulated counts of all sizes: processes of kronax and scanpy take turns; the least of their times."""
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        for n in args.cells:
            path = f"{scratch}/counts.npz"
            counts = simulated_counts(n, args.genes)
            sparse.save_npz(path, counts.X, compressed=False)
            found: dict[str, list[Measured]] = {who: [] for who in WHO}
            for turn in range(args.repeats):
                for who, runs in found.items():
                    progress(f"{n} × {args.genes}, {who}, process {turn + 1} of {args.repeats}")
                    runs.append(in_fresh_process("calls", who=who, path=path, n_calls=args.calls))
            best = {who: {key: min(run[key] for run in runs) for key in runs[0]} for who, runs in found.items()}
            rows += [size_row(f"{n:,}", who, best[who], best["scanpy"]) for who in WHO]
    return rows


def size_row(cells: str, who: str, found: Measured, scanpy: Measured) -> list[str]:
    name = {"both": "kronax, both graphs", "cells": "kronax, cells", "genes": "kronax, genes"}.get(who, "scanpy")
    if who == "scanpy" and not found["own_search"]:
        name += ", exact search"
    times = [f"{found[key]:.1f}" for key in ("cpu", "clock", "first_cpu", "first_clock")]
    ratios = [f"{found[key] / scanpy[key]:.2f}" for key in ("cpu", "first_clock")]
    return [cells, name, *times, *ratios, f"{found['memory'] / MIB:.0f} MiB"]


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def seconds_row(name: str, values: list[float]) -> list[str]:
    return [name, f"{median(values):.2f}", f"{min(values):.2f}", str(len(values))]


def ratio_row(name: str, values: list[float]) -> list[str]:
    return [name, f"{median(values):.2f}", f"{min(values):.2f}"]


if __name__ == "__main__":
    main()
