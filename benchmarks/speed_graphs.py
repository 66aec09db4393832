"""How fast is ``kx.tl.med_magma``, and how much memory does it need? See README.md.

pbmc68k_reduced: first and compiled call, with ``--published`` against the published package MED-MAGMA, and so the l1 penalty on
a simulated matrix. Simulated sparse counts: against scanpy's PCA and neighbours, and peak memory. With ``--large``: a big matrix, kronax alone.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import peers
from fresh import Measured, in_fresh_process
from inputs import pbmc68k, simulated_counts
from report import header, load, progress, table

import kronax as kx

Rows = list[list[str]]
MIB, GIB = 2**20, 2**30


def main() -> None:
    args = arguments()
    if args.published:
        peers.require_published()
    ratios, timings, memory = Rows(), Rows(), Rows()
    at_start = load()
    small(args, ratios, timings)
    if args.published:
        exactly_sparse(args, ratios, timings)
    against_scanpy(args, ratios, timings, memory)
    if args.large:
        large(args, timings, memory)
    print(header(), f"Load of the machine: {at_start} at the start, {load()} at the end", sep="\n")
    titles = {
        "Ratios of times": (["", "median", "least"], ratios),
        "Seconds": (["", "median", "least", "runs"], timings),
        "Memory of kronax": (["", "above the input, warm", "above the input", "peak of the process"], memory),
    }
    for title, (columns, rows) in titles.items():
        print("\n" + table(title, columns, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="time MED-MAGMA too: a minute or more")
    parser.add_argument("--repeats", type=int, default=5, help="compiled calls on pbmc68k_reduced (default: 5)")
    parser.add_argument("--published-repeats", type=int, default=1, help="runs of MED-MAGMA (default: 1)")
    parser.add_argument("--fresh", type=int, default=3, help="fresh processes for the first call (default: 3)")
    parser.add_argument(
        "--sparse-size", type=int, default=500, help="rows and columns for the l1 penalty (default: 500)"
    )
    parser.add_argument("--peer-cells", type=int, default=20_000, help="cells of the simulated counts (default: 20000)")
    parser.add_argument("--peer-genes", type=int, default=2000, help="genes of the simulated counts (default: 2000)")
    parser.add_argument("--peer-repeats", type=int, default=3, help="pairs of calls, kronax and scanpy (default: 3)")
    parser.add_argument("--large", action="store_true", help="a large matrix too")
    parser.add_argument("--large-cells", type=int, default=100_000, help="cells of the large matrix (default: 100000)")
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
    compiled = [seconds(lambda: kx.tl.med_magma(adata)) for _ in range(args.repeats)]
    if args.published:
        values = adata.to_df().to_numpy(dtype=np.float64)
        progress(f"MED-MAGMA: {values.shape[0]} × {values.shape[1]} …")
        runs = []
        for _ in range(args.published_repeats):
            runs.append(peers.published(values, stop_tol=1e-7))
            compiled += [seconds(lambda: kx.tl.med_magma(adata)) for _ in range(args.repeats)]
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


def against_scanpy(args: argparse.Namespace, ratios: Rows, timings: Rows, memory: Rows) -> None:
    """Time simulated counts, kronax and scanpy in turns, both after a first call."""
    n, p = args.peer_cells, args.peer_genes
    progress(f"{n} × {p}: memory, in a fresh process")
    found = in_fresh_process("memory", n_cells=n, n_genes=p)
    size = f"{n} × {p}, {found['density']:.0%} non-zero"
    memory.append(memory_row(size, found))

    progress(f"{n} × {p}: warming up")
    counts = simulated_counts(n, p)
    logs = peers.log_normalized(counts)
    kx.tl.med_magma(counts)
    transformer = peers.scanpy_graph(logs)
    progress(f"{n} × {p}: {args.peer_repeats} pairs of calls")
    pairs = [
        (seconds(lambda: kx.tl.med_magma(counts)), seconds(lambda: peers.scanpy_graph(logs, transformer)))
        for _ in range(args.peer_repeats)
    ]
    ours, theirs = map(list, zip(*pairs, strict=True))
    search = f'transformer="{transformer}"' if transformer else "default search"
    ratios.append(ratio_row(f"{n} × {p}: scanpy / kronax, compiled", [b / a for a, b in pairs]))
    timings.append(seconds_row(f"{size}: kronax, first call (warm process)", [found["seconds"]]))
    timings.append(seconds_row(f"{size}: kronax, compiled", ours))
    timings.append(seconds_row(f"{size}: scanpy, PCA and neighbours ({search}), second call on", theirs))


def large(args: argparse.Namespace, timings: Rows, memory: Rows) -> None:
    """Measure one call on a large matrix, in a process of its own."""
    n, p = args.large_cells, 2000
    progress(f"{n} × {p}: time and memory, in a fresh process")
    found = in_fresh_process("memory", n_cells=n, n_genes=p)
    size = f"{n} × {p}, {found['density']:.0%} non-zero"
    timings.append(seconds_row(f"{size}: kronax, first call (warm process)", [found["seconds"]]))
    memory.append(memory_row(size, found))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def seconds_row(name: str, values: list[float]) -> list[str]:
    return [name, f"{median(values):.2f}", f"{min(values):.2f}", str(len(values))]


def ratio_row(name: str, values: list[float]) -> list[str]:
    return [name, f"{median(values):.2f}", f"{min(values):.2f}"]


def memory_row(name: str, found: Measured) -> list[str]:
    at_most = "≤ " if found["peak"] <= found["before"] else ""  # the call did not reach the peak of what came before
    warm, cold = ((found["peak"] - found[start]) / MIB for start in ("warm", "loaded"))
    return [name, f"{at_most}{warm:.0f} MiB", f"{at_most}{cold:.0f} MiB", f"{found['peak'] / GIB:.2f} GiB"]


if __name__ == "__main__":
    main()
