"""What has to be measured in a process of its own: first calls and peak memory.

``in_fresh_process("calls", who="both", path="counts.npz")`` starts ``python fresh.py calls '{…}'`` and returns what the
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


def in_fresh_process(task: str, **options: int | str) -> Measured:
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


def calls(who: str, path: str, n_calls: int = 3) -> Measured:
    """Time calls on stored counts: the first one, and the least of the others; seconds of the clock and of the CPU.

    ``who`` is ``scanpy`` or the ``graphs`` of kronax. Normalisation and reading are not timed.
    """
    import warnings

    import anndata as ad
    import peers
    from scipy import sparse

    import kronax as kx

    warnings.simplefilter("ignore")
    counts = ad.AnnData(sparse.load_npz(path))
    adata = peers.log_normalized(counts) if who == "scanpy" else counts
    gc.collect()
    loaded, found, transformer = resident(), [], None
    for _ in range(n_calls):
        clock, cpu = time.perf_counter(), time.process_time()
        if who == "scanpy":
            transformer = peers.scanpy_graph(adata, transformer)
        else:
            kx.tl.med_magma(adata, graphs=who)
        found.append((time.perf_counter() - clock, time.process_time() - cpu))
    first, *later = found
    return {
        "first_clock": first[0],
        "first_cpu": first[1],
        "clock": min(clock for clock, _ in later),
        "cpu": min(cpu for _, cpu in later),
        "memory": peak() - loaded,
        "own_search": float(transformer is None),
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
    tasks = {"first_call": first_call, "calls": calls}
    print(json.dumps(tasks[sys.argv[1]](**json.loads(sys.argv[2]))))
