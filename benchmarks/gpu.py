"""How much faster is an accelerator than the CPU of the same machine, and what moves between them? See README.md.

    python benchmarks/gpu.py              graphs of 20,000, 100,000 and 1,000,000 cells; tensors as large as the L1000
    python benchmarks/gpu.py --small      a quick look

Every measurement has a process of its own, and at most ``--seconds`` from its first import to its end: what does not fit is
left out, and the table says so. Without an accelerator the CPU is measured alone, with the sizes of ``--small``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from report import header, load, progress, table

CELLS, GENES = (20_000, 100_000, 1_000_000), 2000
FEW_CELLS, FEW_GENES = (1000, 4000), 500
TENSOR, SMALL_TENSOR = (2130, 71, 978), (200, 20, 300)  # treatments, contexts, genes
TENSOR_METHODS = ("kronecker", "falrtc", "cp")
SWEEPS = 2  # or iterations, or epochs
BLOCK = 2000  # cells that are drawn at a time
MIB = 2**20
DEVICE = "import jax; print(jax.devices()[0].platform, jax.devices()[0].device_kind, len(jax.devices()), sep='|')"
NOTE = "A call includes the transfers. Methods of tensors: two sweeps, iterations or epochs."


def main() -> None:
    args = arguments()
    if args.step:  # in a process of its own
        print(json.dumps(measured(args.step, args.size, time.monotonic() + args.seconds)))
        return
    platform, kind, count = run(["-c", DEVICE], {}, args.seconds).split("|")
    on_cpu = platform == "cpu"
    steps = steps_of(args, small=args.small or on_cpu)
    columns = {} if on_cpu else {f"{count} × {kind}": {}}
    columns["CPU"] = {"JAX_PLATFORMS": "cpu"}
    found = {
        (step, size, name): attempt(step, size, name, environment, args.seconds)
        for step, size in steps
        for name, environment in columns.items()
    }
    print(header())
    print(f"Load of the machine at the end: {load()}. {NOTE}")
    if on_cpu:
        print("JAX finds no accelerator: the CPU alone, at small sizes.")
    rows = [row for step, size in steps for row in rows_of(step, size, [(n, found[step, size, n]) for n in columns])]
    titles = ["", "on", "first call", "second", "CPU / it", "arrays up", "down", "eigh there", "on the CPU"]
    print("\n" + table("Seconds and transfers", titles, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--cells", type=int, nargs="*", help="numbers of cells for med_magma")
    parser.add_argument("--genes", type=int, help="genes for med_magma")
    parser.add_argument("--shape", type=int, nargs=3, help="treatments, contexts, genes of the tensors")
    parser.add_argument("--seconds", type=float, default=45, help="for each of twelve measurements (default: 45)")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def steps_of(args: argparse.Namespace, *, small: bool) -> list[tuple[str, tuple[int, ...]]]:
    """List what is measured, and at which size."""
    cells = args.cells if args.cells is not None else FEW_CELLS if small else CELLS
    genes = args.genes or (FEW_GENES if small else GENES)
    shape = tuple(args.shape or (SMALL_TENSOR if small else TENSOR))
    return [("med_magma", (n, genes)) for n in cells] + [(name, shape) for name in TENSOR_METHODS]


def attempt(step: str, size: tuple[int, ...], name: str, environment: dict[str, str], limit: float) -> dict[str, Any]:
    """Measure in a process of its own, which ends when its time is over."""
    progress(f"{step}, {' × '.join(map(str, size))}, on {name}")
    command = [__file__, "--step", step, "--size", *map(str, size), "--seconds", str(limit)]
    try:
        return json.loads(run(command, environment, limit))
    except subprocess.TimeoutExpired:
        return {"failed": f"over {limit:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"ended with {error.returncode}"}


def run(command: list[str], environment: dict[str, str], limit: float) -> str:
    """Return the last line that Python prints."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=limit,
    )
    return done.stdout.splitlines()[-1]


def rows_of(step: str, size: tuple[int, ...], found: list[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """Lay out one row for each device."""
    reference = found[-1][1]  # of the CPU
    return [
        [f"{step}, {' × '.join(f'{n:,}' for n in size)}", name, *cells(result, reference if name != "CPU" else None)]
        for name, result in found
    ]


def cells(result: dict[str, Any], cpu: dict[str, Any] | None) -> list[str]:
    """Format what was measured; ``cpu`` is what the CPU needed, or None for the CPU itself."""
    if "failed" in result:
        return [result["failed"], *[""] * 6]
    seconds = [f"{value:.2f}" if value else "no time left" for value in (result["first"], result["second"])]
    moved = [f"{result[way]} ({result[f'bytes_{way}'] / MIB:,.1f} MiB)" for way in ("up", "down")]
    return [*seconds, ratio(result, cpu) if cpu else "", *moved, str(result["on_device"]), str(result["on_host"])]


def ratio(result: dict[str, Any], cpu: dict[str, Any]) -> str:
    """Divide the CPU's time by the device's: second calls, or first ones where there is no second."""
    call = "second" if result["second"] and cpu.get("second") else "first"
    if "failed" in cpu:
        return cpu["failed"]
    return f"{cpu[call] / result[call]:.1f}" + ("" if call == "second" else " (first)")


def measured(step: str, size: list[int], end: float) -> dict[str, Any]:
    """Time two calls, if there is time, and count what the last one moves and decomposes."""
    from kronax.solvers import device

    call = graphs(*size) if step == "med_magma" else completion(step, tuple(size))
    seconds: list[float] = []
    while len(seconds) < 2 and time.monotonic() + sum(seconds) < end:  # a second call takes no longer than the first
        try:
            with device.counted() as tally:
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
        except MemoryError:
            return {"failed": "more than the memory"}
    first, second = [*seconds, None, None][:2]
    return {"first": first, "second": second, **vars(tally)}


def graphs(n_cells: int, n_genes: int) -> Callable[[], object]:
    """Draw counts, block by block on all cores, and return a function that learns both graphs."""
    import numpy as np
    from anndata import AnnData
    from inputs import MEDIAN_DEPTH, N_TYPES
    from scipy import sparse

    import kronax as kx

    profiles = np.random.default_rng(0).gamma(0.3, size=(N_TYPES, n_genes))
    profiles /= profiles.mean(axis=1, keepdims=True)

    def block(start: int) -> sparse.csr_array:
        rng, n = np.random.default_rng([1, start]), min(BLOCK, n_cells - start)
        depths = MEDIAN_DEPTH / 2000 * rng.lognormal(sigma=0.4, size=(n, 1))
        return sparse.csr_array(rng.poisson(depths * profiles[rng.integers(N_TYPES, size=n)]).astype(np.float32))

    with ThreadPoolExecutor() as pool:
        adata = AnnData(sparse.vstack(list(pool.map(block, range(0, n_cells, BLOCK))), format="csr"))
    return lambda: kx.tl.med_magma(adata)


def completion(method: str, shape: tuple[int, int, int]) -> Callable[[], object]:
    """Draw a tensor, and return a function that completes it, in a few sweeps, iterations or epochs."""
    from speed_tensors import given, simulated, without_confidences

    from kronax.solvers.tensor.registry import METHODS

    options = {
        "kronecker": lambda: given(SWEEPS, single_precision=True),
        "falrtc": lambda: METHODS["falrtc"].options(max_iter=SWEEPS),
        "cp": lambda: METHODS["cp"].options(max_epochs=SWEEPS, held_out=0.0),
    }[method]()
    values = simulated(shape)

    def call() -> None:
        with without_confidences():  # they cost sweeps of their own
            METHODS[method](values, options)

    return call


if __name__ == "__main__":
    main()
