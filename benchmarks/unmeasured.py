"""How well is predicted what was hardly measured, or never?

    python benchmarks/unmeasured.py --data DIR [--tensor NAME …] [--part NAME …] [--markdown]

``DIR`` holds the tensors, and beside each an annotation of its compounds, ``*.compounds.csv`` with ``treatment``, ``moa`` and ``target``.
Numbers are pooled correlations of held-out and predicted values, profiles and predictions at unit norm, of ``kronecker`` with what
is named, and of baselines:

- ``folds``: 10 folds of fibers, as in ``tensors.py``.
- ``one``: one context of every drug, drawn at random, is left; all others are predicted.
- ``contexts``: all but 0, 1 or 3 profiles of each context in turn are hidden; with and without coordinates of the contexts.
- ``sparse``: a tenth of the fibers is left, with and without coordinates.
- ``treatments``: 10 folds of whole drugs; without side information, with mechanism and target, with those permuted among the
  drugs. Then the mean confidence and the mean correlation reached, by fifths of the confidence.
- ``weights``: noise of known size is added to every profile; with and without its precision.
- ``next``: how far the error on all other profiles falls when a few more are measured, chosen at random, by the least confidence, or by
  ``next_experiments``; ten profiles of every hundred are measured at first.
"""

from pathlib import Path

import numpy as np
from tensors import read

from kronax.solvers.tensor.folds import cold_start_folds, fiber_folds, hide, pooled_correlation, unit_norm
from kronax.solvers.tensor.means import mean_1d, mean_2d
from kronax.solvers.tensor.wiener.kronecker import kronecker

FILES = {
    "NeurIPS": "neurips2023_pbmc",
    "NeurIPS, half": "neurips2023_pbmc",
    "TG-GATEs": "tggates_hepatocyte",
    "L1000 plate": "l1000_ljp005_a375",
}


def score(values, predicted, held):
    truth = np.where(held[:, :, None], values, np.nan)
    return pooled_correlation(truth, unit_norm(np.where(held[:, :, None], predicted, np.nan)))


def folds(values, seed=0):
    measured = ~np.isnan(values[:, :, 0])
    predicted = np.full_like(values, np.nan)
    for mask in fiber_folds(measured, 10, seed):
        predicted[mask] = kronecker(hide(values, mask)).values[mask]
    return score(values, predicted, measured)


def one(values, seed):
    measured = ~np.isnan(values[:, :, 0])
    rng = np.random.default_rng(seed)
    first = np.where(measured, rng.random(measured.shape), -1.0).argmax(axis=1)
    held = measured.copy()
    held[np.arange(len(held)), first] = False
    hidden = hide(values, held)
    return [score(values, m(hidden).values, held) for m in (mean_1d, mean_2d, kronecker)]


def contexts(values, keep, seed):
    measured = ~np.isnan(values[:, :, 0])
    p = [np.full_like(values, np.nan) for _ in range(2)]
    f = cold_start_folds(measured, values.shape[1], axis=1, keep=keep, random_state=seed)
    for mask in f:
        for q, m in zip(p, (mean_1d, kronecker)):
            q[mask] = m(hide(values, mask)).values[mask]
    return [score(values, q, f.fold >= 0) for q in p]


def main():
    import sys

    data = Path("/work/shared/data/tensors")
    for name in FILES:
        values = unit_norm(read(data, name, 0))
        print(name)
        if "folds" in sys.argv:
            print("  folds", round(folds(values), 4), flush=True)
        if name != "NeurIPS, half" and "one" in sys.argv:
            print("  one", np.mean([one(values, s) for s in range(3)], axis=0).round(4), flush=True)
        if name in ("TG-GATEs", "L1000 plate") and "ctx" in sys.argv:
            for k in (1, 3):
                print("  ctx", k, np.mean([contexts(values, k, s) for s in range(2)], axis=0).round(4), flush=True)


main()
