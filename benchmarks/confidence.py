"""Do predicted profiles reach the confidence that `kronecker` gives them?

    python benchmarks/confidence.py [--data DIR]

With ``--data``, fibers are hidden and predicted: a fifth at random, or all but one of every treatment and some. Fifths of the predictions, by
their confidence: its mean, and the mean correlation of predicted and measured profiles.

Then simulated blocks: 60 treatments × 6 contexts × 60 genes, halves of the treatments measured in halves of the contexts, some
of them in all; 15% of that is missing too. The contexts of a half respond alike, up to 30%. Treatments' factors in the other half
have the correlation "related" with those in the first. Means over seeds of the confidence across halves, and of the cosine of
predicted and measured profiles.
"""

import argparse
from pathlib import Path

import numpy as np
from report import header, progress, table
from tensors import read

from kronax.solvers.tensor.folds import fiber_folds, hide, unit_norm
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

FIXED = KroneckerOptions(noise=0.5, own_share=0.1, common_share=0.0)
BRIDGES, RELATED, SEEDS = (0, 2, 5, 10, 20), (0.0, 0.5, 1.0), range(5)
KEPT = (0.1, 0.4)  # of the fibers besides one of every treatment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the h5mu files")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    print(header())
    if args.data:
        print("\n" + held_out(args))
    rows = []
    for related in RELATED:
        for n_bridging in BRIDGES:
            found = np.array([across_blocks(n_bridging, related, seed) for seed in SEEDS])
            known = found[~np.isnan(found[:, 0])]  # seeds with a confidence
            promised = known[:, 0].mean() if len(known) else np.nan
            worst = (known[:, 0] - known[:, 1]).max() if len(known) else np.nan
            reached = found[:, 1].mean()
            rows.append([f"{related:g}", str(n_bridging), *written(promised, reached), *written(worst)])
            progress(" ".join(rows[-1]))
    columns = ["related", "treatments in both", "confidence", "cosine reached", "largest excess"]
    print("\n" + table("Across two blocks of contexts", columns, rows, markdown=args.markdown))


def written(*values: float) -> list[str]:
    return ["none" if np.isnan(value) else f"{value:.2f}" for value in values]


def across_blocks(n_bridging: int, related: float, seed: int) -> tuple[float, float]:
    """Return the mean confidence across blocks, NaN where none is given, and the mean cosine reached."""
    rng = np.random.default_rng(seed)
    treatments, genes = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
    halves = []
    for _ in range(2):
        own = np.sqrt(related) * treatments + np.sqrt(1 - related) * rng.normal(size=treatments.shape)
        halves.append(np.einsum("dk,ck,gk->dcg", own, 1 + 0.3 * rng.normal(size=(3, 4)), genes))
    truth = np.concatenate(halves, axis=1)
    measured = (np.arange(60)[:, None] < 30) == (np.arange(6) < 3)
    measured[rng.choice(60, n_bridging, replace=False)] = True
    across = ~measured
    measured &= rng.random(measured.shape) >= 0.15
    values = truth + 0.7 * rng.normal(size=truth.shape)
    completion = kronecker(hide(values, ~measured), FIXED)
    t, p = values[across], completion.values[across]
    cosine = (t * p).sum(axis=1) / (np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1))
    confidence = completion.confidence[across]
    known = ~np.isnan(confidence)
    return (confidence[known].mean(), np.nanmean(cosine[known])) if known.any() else (np.nan, np.nanmean(cosine))


def held_out(args: argparse.Namespace) -> str:
    """Print the table of real tensors."""
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
    return table("Confidence / correlation reached, by fifths", columns, rows, markdown=args.markdown)


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
