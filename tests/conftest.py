"""What every test may use."""

import gc
import logging
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each of several processes, before the libraries are loaded
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    # Tests compile more than they compute: in parallel with little optimisation, with `pytest -n 0` as users have it.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    # Functions that are traced anew often compile to the same: all processes share what one has compiled, in a folder that the first
    # one made. An entry that is read while another process writes it is not whole, which JAX notices; it compiles again.
    os.environ.update(
        {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    )
    flags = ["--xla_cpu_multi_thread_eigen=false"]
    # Its older emitters compile three times as fast, and modules that are not split for threads a fifth faster still; versions
    # of XLA without them stop at a flag that they do not know.
    if [int(part) for part in version("jaxlib").split(".")[:2]] < [0, 11]:
        flags += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])

import hypothesis
import jax
import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

# What was imported and compiled stays: looking through all of it for garbage at every tenth chance takes long.
gc.set_threshold(700, 10, 100)

# The first call with new shapes compiles, so no example has a deadline; the same examples are drawn in every run.
hypothesis.settings.register_profile("kronax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("kronax")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make a folder for what the processes that tests are divided among compile, before they start; remove it in the end."""
    if session.config.getoption("numprocesses", None):
        compiled = TemporaryDirectory(prefix="kronax-compiled-", ignore_cleanup_errors=True)
        session.config.add_cleanup(compiled.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name


@pytest.fixture(autouse=True)
def strict_dtypes() -> Iterator[None]:
    """Let no JAX operation mix dtypes silently: a float32 that meets a float64, or an integer array, is an error."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def caplog(caplog, monkeypatch) -> pytest.LogCaptureFixture:
    """Let it see the messages of kronax, which has a handler of its own: before version 9, pytest listens to the root alone."""
    monkeypatch.setattr(logging.getLogger("kronax"), "propagate", True)
    return caplog


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a new generator for each test, always in the same state, so that no test depends on the order."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Point to the folder of real data beside the checkout; skip where there is none."""
    path = Path(__file__).parents[1] / ".." / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    return path.resolve()
