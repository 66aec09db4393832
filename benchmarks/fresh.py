"""What has to be measured in a process of its own: first calls and peak memory.

``in_fresh_process("memory", n_cells=1000, n_genes=500)`` starts ``python fresh.py memory '{…}'`` and returns what the
function of that name measured.
"""

import gc
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

Measured = dict[str, float]


def in_fresh_process(task: str, **options: int) -> Measured:
    """Run one of the functions below in a new Python process."""
    command = [sys.executable, __file__, task, json.dumps(options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def first_call() -> Measured:
    """Time the first call on pbmc68k_reduced, which compiles; imports apart."""
    start = time.perf_counter()
    import inputs  # scanpy comes with it

    import kronax as kx

    imports = time.perf_counter() - start
    adata = inputs.pbmc68k()
    start = time.perf_counter()
    kx.tl.med_magma(adata)
    return {"imports": imports, "call": time.perf_counter() - start}


def memory(n_cells: int, n_genes: int) -> Measured:
    """Measure the first call on simulated counts: seconds, and resident memory in bytes.

    A call on a tiny matrix before it loads the libraries and compiles what does not depend on the shape; memory is read
    before (``loaded``, with the input) and after (``warm``).
    """
    import inputs

    import kronax as kx

    adata = inputs.simulated_counts(n_cells, n_genes)
    gc.collect()
    loaded = resident()
    kx.tl.med_magma(inputs.simulated_counts(1000, 200))
    gc.collect()
    warm, peak_before = resident(), peak()
    start = time.perf_counter()
    kx.tl.med_magma(adata)
    seconds = time.perf_counter() - start
    density = adata.X.nnz / (n_cells * n_genes)
    return {
        "seconds": seconds,
        "density": density,
        "loaded": loaded,
        "warm": warm,
        "before": peak_before,
        "peak": peak(),
    }


def resident() -> int:
    """Return this process's memory now, in bytes."""
    return _from_kernel("VmRSS")


def peak() -> int:
    """Return the most memory this process has had, in bytes.

    Not ``ru_maxrss``, which on Linux starts at the peak of the process that started this one.
    """
    return _from_kernel("VmHWM") if Path("/proc/self/status").exists() else _ru_maxrss()


def _from_kernel(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():  # macOS: no better estimate without further packages
        return _ru_maxrss()
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _ru_maxrss() -> int:
    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value if sys.platform == "darwin" else value * 1024


if __name__ == "__main__":
    tasks = {"first_call": first_call, "memory": memory}
    print(json.dumps(tasks[sys.argv[1]](**json.loads(sys.argv[2]))))
