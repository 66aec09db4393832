"""How fast is tensor completion?

    python benchmarks/speed_tensors.py --data DIR     FaLRTC on NeurIPS at 1,000 genes against a plain NumPy port
    python benchmarks/speed_tensors.py --large        a simulated tensor of the size of the L1000, 10.5% of its fibers

``--large`` runs every method in a process of its own, ``kronecker`` in float32, and prints the time of a sweep and its
ratio to the time of its matrix products alone, done by NumPy in the same process, on the clock and in CPU time: where other
programs are at work, the second says more. Then the largest resident memory. ``--sweeps`` sets how many are run.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import fresh
import jax
import numpy as np
from scipy import sparse
from tensors import read

import kronax.solvers.tensor.trace_norm.falrtc as falrtc_module
import kronax.solvers.tensor.wiener.kronecker as kronecker_module
from kronax.solvers.tensor.dnpp import dnpp
from kronax.solvers.tensor.folds import fiber_folds, hide, unit_norm
from kronax.solvers.tensor.trace_norm.falrtc import HODOS_2018, FalrtcOptions, falrtc
from kronax.solvers.tensor.wiener.confidence import calibration
from kronax.solvers.tensor.wiener.coordinates import rotate
from kronax.solvers.tensor.wiener.held_out import folds_of
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

LARGE, DENSITY = (2130, 71, 978), 0.105  # treatments, contexts, genes
PRODUCTS = (
    3  # of a matrix of the treatments' size with the tensor, and of one of the contexts' size, in a sweep or trial
)
REPEATS = 3  # of DNPP, which is done within seconds: the least time counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with neurips2023_pbmc.h5mu")
    parser.add_argument(
        "--large", nargs="*", choices=["kronecker", "dnpp", "falrtc"], help="all three if none is named"
    )
    parser.add_argument("--shape", type=int, nargs=3, default=LARGE, help="treatments, contexts, genes")
    parser.add_argument("--sweeps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.data:
        small(args.data, args.repeats)
    if args.large is not None:
        large(args.large or ["dnpp", "kronecker", "falrtc"], tuple(args.shape), args.sweeps)


def small(folder: Path, repeats: int) -> None:
    values = unit_norm(read(folder, "NeurIPS", 0))
    measured = ~np.isnan(values[:, :, 0])
    gaps = hide(values, next(iter(fiber_folds(measured, 10))))
    runs = {
        "NumPy port": lambda: plain_port(gaps),
        "FaLRTC 2018": lambda: falrtc(gaps, HODOS_2018).values,
        "FaLRTC, no gene mode": lambda: falrtc(gaps, replace(HODOS_2018, alpha=(1.0, 1.0, 0.0))).values,
        "kronecker, given prior": lambda: kronecker(gaps, given(100)).values,
        "kronecker": lambda: kronecker(gaps).values,
        "DNPP": lambda: dnpp(gaps).values,
    }
    print(f"NeurIPS {values.shape}, one fold of ten held out; best of {repeats}, compiled")
    reference = expected = None
    for name, run in runs.items():
        found = run()
        seconds = min(timed(run)[0] for _ in range(repeats))
        reference = reference or seconds
        expected = found if expected is None else expected
        note = f", differs by {np.abs(found - expected).max():.1e}" if name == "FaLRTC 2018" else ""
        print(f"{name:24s}{seconds:8.3f} s{reference / seconds:8.1f} times as fast as the port{note}", flush=True)


def given(max_iter: int, *, single_precision: bool = False) -> KroneckerOptions:
    return KroneckerOptions(
        noise=1.0, own_share=0.2, common_share=0.15, max_iter=max_iter, single_precision=single_precision
    )


def timed(run) -> np.ndarray:
    """Measure the seconds that a call takes, on the clock and of all CPUs."""
    start = np.array([time.perf_counter(), time.process_time()])
    run()
    return np.array([time.perf_counter(), time.process_time()]) - start


def plain_port(values: np.ndarray) -> np.ndarray:
    """The published algorithm and settings line by line in NumPy, with Gram matrices for singular values."""
    missing = np.isnan(values)
    shape = values.shape
    raw = np.array([1.0, 1.0, 0.01])
    alpha = raw / raw.sum()
    y = np.where(missing, np.nanmean(values), values)
    z, big_b, lipschitz = y, 0.0, 1e-5

    def unfold(x, i):
        return np.moveaxis(x, i, 0).reshape(shape[i], -1)

    def spectrum(x, i):
        a = unfold(x, i)
        a = a if a.shape[0] <= a.shape[1] else a.T
        s2, u = np.linalg.eigh(a @ a.T)
        return a, np.sqrt(np.maximum(s2, 0)), u

    def value(s, i, mu):
        return 0.5 * alpha[i] ** 2 / mu[i] * (s**2 - np.maximum(s - mu[i] / alpha[i], 0) ** 2).sum()

    def gradient(x, mu):
        total, f = np.zeros(shape), 0.0
        for i in range(3):
            a, s, u = spectrum(x, i)
            f += value(s, i, mu)
            kept = 1 - np.maximum(s - mu[i] / alpha[i], 0) / np.maximum(s, 1e-300)
            a = (u * kept) @ (u.T @ a)
            a = a if a.shape[0] == shape[i] else a.T
            total += alpha[i] ** 2 / mu[i] * np.moveaxis(a.reshape(shape[i], *np.delete(shape, i)), 0, i)
        return np.where(missing, total, 0.0), f

    start = np.array([0.3 * alpha[i] * spectrum(y, i)[1].max() for i in range(3)])
    end = 0.01 * raw / np.sqrt(shape)
    slope = (start - end) / (1 - 5**-1.15)
    offset = start - slope
    for k in range(1, 21):
        mu = np.maximum(slope * k**-1.15 + offset, end)
        while True:
            b = (1 + np.sqrt(1 + 4 * lipschitz * big_b)) / (2 * lipschitz)
            w = (b * z + big_b * y) / (b + big_b)
            g, f = gradient(w, mu)
            new = w - g / lipschitz
            if f - sum(value(spectrum(new, i)[1], i, mu) for i in range(3)) >= (g**2).sum() / (2 * lipschitz):
                break
            lipschitz *= 2
        change = np.linalg.norm(new - y)
        y, z, big_b = new, z - b * g, big_b + b
        if change < 0.1:
            break
    return y


def large(methods: list[str], shape: tuple[int, int, int], sweeps: int) -> None:
    """Measure every method in a process of its own, for the memory's sake."""
    if len(methods) > 1:
        for name in methods:
            arguments = ["--large", name, "--sweeps", str(sweeps), "--shape", *map(str, shape)]
            subprocess.run([sys.executable, __file__, *arguments], check=True)
        return
    (name,) = methods
    values = simulated(shape)
    loaded = fresh.peak()
    print(
        f"simulated {shape}, {(~np.isnan(values[:, :, 0])).mean():.1%} of the fibers, {values.nbytes / 2**30:.2f} GiB"
    )
    dtype = np.float32 if name == "kronecker" else np.float64
    treatment, context = products(shape, dtype)
    if name == "dnpp":
        n_treatments, n_contexts, _ = shape
        n = (~np.isnan(values[:, :, 0])).sum(axis=0).astype(float)
        correlations = treatment * (n**2).sum() / (n_treatments**2 * n_contexts)
        floor = correlations + np.min([averages(values) for _ in range(REPEATS)], axis=0)
        sweep, count = np.min([timed(lambda: dnpp(values)) for _ in range(REPEATS)], axis=0), 1
    else:
        solve = {
            "kronecker": lambda k, prior=given: kronecker(values, prior(k, single_precision=True)),
            "falrtc": lambda k: falrtc(values, FalrtcOptions(max_iter=k)),
        }[name]
        with without_confidences():
            whole = timed(lambda: solve(1))
            with trials() as before:
                first = timed(lambda: solve(1))
            with trials() as after:
                sweep, count = timed(lambda: solve(1 + sweeps)) - first, sweeps
        rounds = (len(after) - len(before)) / sweeps if name == "falrtc" else 1
        floor = rounds * PRODUCTS * (treatment + context)
        print(f"{name}: {first[0]:.1f} s for set-up and one sweep; compilation {(whole - first)[0]:.1f} s", flush=True)
        if name == "falrtc":
            print(f"{name}: {rounds:.1f} trials of its line search a sweep, each with all products", flush=True)
    wall, cpu = sweep / count
    ratio, cpu_ratio = sweep / count / floor
    print(
        f"{name}: {wall:.1f} s ({cpu:.1f} s of CPU) a sweep in {np.dtype(dtype)}, {ratio:.2f} ({cpu_ratio:.2f}) times its "
        f"matrix products; at most {fresh.peak() / 2**30:.1f} GiB, {loaded / 2**30:.1f} before",
        flush=True,
    )
    if name == "kronecker":
        promised = timed(lambda: confidences(values))
        print(f"{name}: {promised[0]:.1f} s ({promised[1]:.1f} s of CPU) for the confidences", flush=True)
        with without_confidences():
            chosen = timed(lambda: solve(1, lambda k, **options: KroneckerOptions(max_iter=k, **options))) - first
        print(
            f"{name}: {chosen[0]:.1f} s ({chosen[1]:.1f} s of CPU) for choosing the prior; at most "
            f"{fresh.peak() / 2**30:.1f} GiB"
        )


def confidences(values: np.ndarray) -> None:
    """Do what a given prior leaves to do before the first sweep: cross-validate what the confidences are read from."""
    options = given(100, single_precision=True)
    prior = Prior(options.noise, options.own_share, options.common_share)
    with jax.enable_x64(True):
        task = rotate(values, ~np.isnan(values), options)
        calibration(folds_of(task, options), prior, options)


@contextmanager
def trials() -> Iterator[list]:
    """Note down every trial of FaLRTC's line search."""
    called, gradient = [], falrtc_module.gradient_and_square

    def noted(*args, **kwargs):
        called.append(1)
        return gradient(*args, **kwargs)

    with patch.object(falrtc_module, "gradient_and_square", noted):
        yield called


def without_confidences() -> AbstractContextManager:
    """Leave out what cross-validates the confidences of ``kronecker``, in sweeps of its own."""
    unknown = dict.fromkeys(["calibration", "expected_cosines"], lambda *_: lambda size: size)
    return patch.multiple(kronecker_module, **unknown)


def simulated(shape: tuple[int, int, int], rank: int = 20) -> np.ndarray:
    """Draw a low-rank tensor with noise, and leave a share of its fibers, more in some contexts than in others."""
    rng = np.random.default_rng(0)
    n_treatments, n_contexts, n_genes = shape
    popular = 1.0 / np.arange(1, n_contexts + 1)
    chance = np.minimum(DENSITY * n_contexts * popular / popular.sum(), 0.7)
    measured = rng.random((n_treatments, n_contexts)) < chance * DENSITY / chance.mean()
    factors = [rng.normal(size=(n, rank)).astype(np.float32) for n in shape]
    values = np.full(shape, np.nan, np.float32)
    rows, cols = np.nonzero(measured)
    values[measured] = (factors[0][rows] * factors[1][cols]) @ factors[2].T
    values[measured] += 4.0 * rng.standard_normal((len(rows), n_genes), np.float32)
    return unit_norm(values).astype(np.float32)


def averages(values: np.ndarray, k: int = 10) -> np.ndarray:
    """Time the sparse products that average ``k`` profiles for every missing one."""
    n_treatments, n_contexts, _ = values.shape
    rng = np.random.default_rng(0)
    total = np.zeros(2)
    for context in range(n_contexts):
        profiles = values[~np.isnan(values[:, context, 0]), context]
        n_missing = n_treatments - len(profiles)
        chosen = rng.integers(len(profiles), size=n_missing * k)
        weights = sparse.csr_array((np.ones(n_missing * k, values.dtype), (np.arange(n_missing).repeat(k), chosen)))
        weights.resize(n_missing, len(profiles))
        total += timed(lambda: weights @ profiles)  # noqa: B023
    return total


def products(shape: tuple[int, int, int], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Time the product of a matrix of the treatments' size, and of the contexts' size, with the tensor."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape[0], shape[1] * shape[2]), np.float32).astype(dtype)
    square = rng.standard_normal((shape[0], shape[0]), np.float32).astype(dtype)
    treatment = timed(lambda: square @ x)
    square = square[: shape[1], : shape[1]].copy()
    x = x.reshape(shape[1], -1)
    return treatment, timed(lambda: square @ x)


if __name__ == "__main__":
    main()
