"""Started with four devices: compare passes on four, on one, and on the host; print what was found as JSON."""

import json
import re

import jax
import numpy as np
from anndata import AnnData
from scipy import sparse

import kronax as kx
from kronax.solvers import device
from kronax.solvers.rows import on_devices
from kronax.solvers.rows.noise_free import Factors, NoiseFree, col_energies
from kronax.solvers.rows.on_devices import OnDevices, spread
from kronax.solvers.rows.rows import InMemory

ROWS = 20  # of a block


def products_of_matrices(rows: InMemory, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return what passes that multiply matrices find."""
    n, m = rows.shape
    cols, right = rng.random(m) + 0.5, rng.normal(size=(m, 3))
    z = NoiseFree(rows, Factors(cols))
    found = dict(zip(("Gram", "energies", "sums"), z.moments(), strict=True))
    return {name: device.to_host(array) for name, array in found.items()} | {"products": z.products(right, right[0])}


def other_passes(rows: InMemory, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return what the others find."""
    n, m = rows.shape
    cols, factors = rng.random(m) + 0.5, rng.random(n) + 0.5
    z = NoiseFree(rows, Factors(cols))
    return {
        "column energies": device.to_host(rows.sums(col_energies, cols)[0]),
        "row factors": z.row_factors(),
        "deviations": z.deviations(factors[:m]),
        "deviations, rows given": NoiseFree(rows, Factors(cols, factors)).deviations(factors[:m]),
    }


def differences(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference of every pass, relative to what is largest."""
    return {name: float(np.abs(some[name] - others[name]).max() / np.abs(some[name]).max()) for name in some}


def collectives(rows: OnDevices) -> dict[str, list[str]]:
    """Return what moves between devices, in the compiled code of a pass that adds and of one that does not."""
    weights = np.ones(rows.shape[1])
    jax.config.update("jax_disable_most_optimizations", False)  # as users have it
    with jax.enable_x64(True):
        texts = {
            "sums": on_devices.summed.lower(*rows.operands(sums, weights)).compile().as_text(),
            "each": on_devices.of_each.lower(*rows.operands(each, weights)).compile().as_text(),
        }
    names = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast")
    return {
        name: [kind for kind in names for _ in range(len(re.findall(rf" {kind}(-start)?\(", text)))]
        for name, text in texts.items()
    }


def sums(block: on_devices.DenseBlock, weights: jax.Array) -> tuple[jax.Array, ...]:
    """Return several sums over the rows of a block."""
    z = block.scaled(block.counts / block.row_energies(weights), weights)
    return z.gram(), z.col_energies(block.counts)


def each(block: on_devices.DenseBlock, weights: jax.Array) -> jax.Array:
    """Return a number for every row of a block."""
    return block.times(weights)


def graphs(counts: sparse.csr_array, batches: np.ndarray | None = None) -> AnnData:
    """Learn complete graphs."""
    adata = AnnData(counts.copy())
    if batches is not None:
        adata.obs["batch"] = batches
    kx.tl.med_magma(adata, n_neighbors=None, batch_key=None if batches is None else "batch")
    return adata


def apart(some: AnnData, others: AnnData) -> dict[str, float]:
    """Return how far embeddings and graphs of two results are apart, relative to what is largest."""
    return {
        f"{name}/{key}": float(np.max(abs(one - getattr(others, name)[key])) / np.max(abs(one)))
        for name in ("obsm", "varm", "obsp", "varp")
        for key, one in getattr(some, name).items()
    }


def main() -> None:
    """Print the report."""
    rng = np.random.default_rng(0)
    matrix = sparse.csr_array(rng.normal(size=(403, 17)) * (rng.random((403, 17)) < 0.4))
    matrix = matrix[np.diff(matrix.indptr) > 0]
    matrix = matrix[np.argsort(np.diff(matrix.indptr))]  # the fullest rows last
    first = jax.default_device(jax.devices()[0])
    report = {"devices": len(jax.devices())}
    with jax.enable_x64(True):
        for dtype, kinds in ((np.float64, (products_of_matrices, other_passes)), (np.float32, (products_of_matrices,))):
            four = OnDevices(matrix, dtype, ROWS)
            with first:
                one = OnDevices(matrix, dtype, ROWS)
            for kind in kinds:
                found = [
                    kind(rows, np.random.default_rng(1)) for rows in (four, one, InMemory(matrix, np.float64, ROWS))
                ]
                name = f"{kind.__name__}, {dtype.__name__}"
                report[f"{name}: four and one"] = differences(found[0], found[1])
                report[f"{name}: four and host"] = differences(found[0], found[2])
    whole = sum(part.nbytes for part in four.parts)
    report["shares"] = [sum(part.addressable_data(place).nbytes for part in four.parts) / whole for place in range(4)]
    counts = sparse.csr_array(rng.poisson(rng.gamma(1.0, size=(90, 2)) @ rng.gamma(1.0, size=(2, 40))))
    report["chosen"] = type(spread(InMemory(matrix))).__name__
    batches = np.repeat(["one", "two"], 45)
    counted = counts.multiply(np.where(batches[:, None] == "one", 1, rng.integers(1, 9, 40))).tocsr()
    found, in_batches = graphs(counts), graphs(counted, batches)
    report["spread"] = in_batches.uns["med_magma"]["batch_spread"].tolist()
    with first:
        report["chosen for one"] = type(spread(InMemory(matrix))).__name__
        report["graphs"] = apart(graphs(counts), found)
        report["graphs in batches"] = apart(graphs(counted, batches), in_batches)
    report["collectives"] = collectives(four)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
