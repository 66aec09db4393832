"""Do predicted profiles reach the confidence that `kronecker` gives them?

    python benchmarks/confidence.py --data DIR

Fibers are hidden and predicted: a fifth at random, or all but one of every treatment and some. Fifths of the predictions, by
their confidence: its mean, and the mean correlation of predicted and measured profiles.
"""

import argparse
from pathlib import Path

import numpy as np
from report import header, progress, table
from tensors import read

from kronax.solvers.tensor.folds import fiber_folds, hide, unit_norm
from kronax.solvers.tensor.wiener.kronecker import kronecker

KEPT = (0.1, 0.4)  # of the fibers besides one of every treatment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5mu files")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    print(header())
    rows = []
    for name in ("NeurIPS", "TG-GATEs"):
        values = unit_norm(read(args.data, name, 0))
        measured = ~np.isnan(values[:, :, 0])
        for hidden in hidings(measured):
            share = (measured & ~hidden).mean()
            progress(f"{name}, {share:.0%} of the fibers")
            found = [f"{promised:.2f} / {reached:.2f}" for promised, reached in fifths(values, hidden)]
            rows.append([name, f"{share:.0%}", *found])
    columns = ["tensor", "measured", "least", "second", "third", "fourth", "most"]
    print("\n" + table("Confidence / correlation reached, by fifths", columns, rows, markdown=args.markdown))


def hidings(measured: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    first = np.where(measured, rng.random(measured.shape), -1.0).argmax(axis=1)
    kept = [rng.random(measured.shape) < share for share in KEPT]
    for keep in kept:
        keep[np.arange(len(keep)), first] = True
    return [next(iter(fiber_folds(measured, 5))), *(measured & ~keep for keep in kept[::-1])]


def fifths(values: np.ndarray, hidden: np.ndarray) -> list[tuple[float, float]]:
    completion = kronecker(hide(values, hidden))
    confidence = completion.confidence[hidden]
    t, p = (x - x.mean(axis=1, keepdims=True) for x in (values[hidden], completion.values[hidden]))
    reached = (t * p).sum(axis=1) / (np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1))
    groups = np.array_split(np.argsort(confidence, kind="stable"), 5)
    return [(confidence[group].mean(), np.nanmean(reached[group])) for group in groups]


if __name__ == "__main__":
    main()
