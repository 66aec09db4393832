"""How long does an epoch of the factor methods take, beside its matrix products and the softmax alone?

    python benchmarks/speed_factors.py [--shape TREATMENTS CONTEXTS GENES] [--rank K] [--density SHARE]

Simulated values, 18% of the fibers of a tensor as large as DrugMatrix by default. The floor is, for every minibatch, the two
products that predict it, the four of their gradient, the products of the factors with the attention's weights and their
gradients, and the exponentials; compiled, on the same device. Epochs and floors take turns; the median of each is printed,
and the largest resident memory.
"""

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from report import header, load

from kronax.solvers.tensor.factors import factorization, train
from kronax.solvers.tensor.factors.model import Fibers, Form
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.factors.transform import scaled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(600, 8, 15000))
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--density", type=float, default=0.18)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    print(header())
    values = simulated(tuple(args.shape), args.density)
    fibers = int((~np.isnan(values[:, :, 0])).sum())
    print(f"{tuple(args.shape)}, {fibers} fibers, rank {args.rank}, minibatches of {args.batch_size}; load {load()}")
    common = {"rank": args.rank, "batch_size": args.batch_size, "held_out": 0.0}
    for name, options, form in (
        ("CP", FactorizationOptions(**common), factorization.as_products),
        ("attention CP", AttentionOptions(**common), factorization.with_attention),
    ):
        epoch, batches = prepared(values, options, form(options))
        attention = isinstance(options, AttentionOptions)
        alone = floor(values.shape[2], args.rank, args.batch_size, len(batches), attention)
        epoch(), alone()  # compile
        seconds = np.array([[clock(epoch), clock(alone)] for _ in range(args.epochs)])
        spent, least = np.median(seconds, axis=0)
        ratio = np.median(seconds[:, 0] / seconds[:, 1])
        print(f"{name:14s}epoch {spent:6.2f} s   floor {least:6.2f} s   ratio {ratio:5.2f}", flush=True)
    print(f"largest resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def simulated(shape: tuple[int, int, int], density: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = np.full(shape, np.nan, np.float32)
    here = rng.random(shape[:2]) < density
    values[here] = rng.standard_normal((int(here.sum()), shape[2]), np.float32)
    return values


def prepared(values: np.ndarray, options: FactorizationOptions, form: Form):
    """Return a function that trains for an epoch, and its minibatches."""
    ready, scaling = scaled(values, options.scale)
    some = ~np.isnan(values).all(axis=2)
    settings = factorization.settings_of(values, options, form, scaling)
    task = train.Task(ready, some, np.zeros_like(some), form, settings, options, False)
    where = np.nonzero(some)
    fibers = Fibers(jnp.asarray(ready[where]), *(jnp.asarray(a, jnp.int32) for a in where))
    batches = train.batches_of(np.arange(len(where[0])), options.batch_size)
    nothing = train.batches_of(np.empty(0, int), options.batch_size)
    parameters = train.start_of(task, np.random.default_rng(0))
    state = [parameters, train.ADAM.init(parameters)]

    def epoch() -> None:
        state[0], state[1], loss, _ = train.train_epoch(*state, form, fibers, batches, nothing, settings)
        float(loss)

    return epoch, batches


def floor(n_genes: int, rank: int, size: int, n_batches: int, attention: bool):
    """Return a function that does the products of an epoch and nothing else."""
    rng = np.random.default_rng(0)
    rows, genes = (jnp.asarray(rng.standard_normal((n, rank)), jnp.float32) for n in (size, n_genes))
    error = jnp.asarray(rng.standard_normal((size, n_genes)), jnp.float32)
    weights = jnp.asarray(rng.standard_normal((rank, rank)) / rank, jnp.float32)

    def one(carry, _):
        rows, genes, error = carry
        total = jnp.float32(0)
        for _ in range(2 if attention else 1):
            predicted = rows @ genes.T
            back, ahead = error @ genes, error.T @ rows
            total += predicted[0, 0] + back[0, 0] + ahead[0, 0]
            # every product feeds the next, so that none is left out
            rows = rows + 1e-9 * back
            genes = genes + 1e-9 * ahead
            error = error + 1e-9 * predicted
        if attention:
            exponentials = jnp.exp(genes @ weights)
            genes = genes + 1e-9 * (exponentials @ weights.T)
            total += (genes.T @ exponentials)[0, 0]
        return (rows, genes, error), total

    run = jax.jit(lambda *start: jax.lax.scan(one, start, None, n_batches)[1].sum())
    return lambda: float(run(rows, genes, error))


def clock(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
