"""Do the factor methods predict the few large values of skewed tensors?

    python benchmarks/skewed_tensors.py [--mask FILE] [--data DIR] [--table NAME …] [--seeds N]

``--mask`` names a table of booleans, treatments × tissues, such as which pairs DrugMatrix measured; else the pattern of
``kx.datasets.skewed_response`` is used. ``--data`` is a folder with tggates_hepatocyte.h5mu. The tables:

simulated   all methods under 2 truths, 500 treatments × 8 tissues × 200 genes, one of five folds of fibers held out;
            every factor method with the defaults, and at the rank, of the same three, at which the fibers that stop
            its training were predicted best, on average over the seeds; where the truth is CP-like, what
            somebody who knows more can do: CP by least squares, of the true rank and from the true factors, and
            with the true factors of genes and tissues, of which only the treatments' are fitted
ablation    attention CP with one setting changed at a time, one seed
splits      fibers, entries and whole treatments held out
tissues     2-D against 3-D on the two tissues that were measured most
choice      what ``attention_cp`` chooses by held-out fibers, seed by seed, against ``cp``; 400 treatments
tggates     all methods on real data, five folds of fibers

"attention CP" is attention alone; "the better of both" is what ``attention_cp`` does: CP, unless attention predicts
the fibers that stop their training better by more than one standard error.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from oracle import completed_by, least_squares, treatments_alone, true_factors
from report import header, progress, table

import kronax as kx
from kronax.solvers.tensor.factors.factorization import attention_cp, cp, mf
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.folds import cold_start_folds, entry_folds, fiber_folds, hide
from kronax.solvers.tensor.means import mean_2d
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

SHAPE = (500, 8, 200)
RANK, NOISE = 6, 0.2  # of the simulated truth
RANKS = (6, 8, 12)
FACTORS = {
    "2-D": (mf, FactorizationOptions()),
    "CP": (cp, FactorizationOptions()),
    "attention CP": (attention_cp, AttentionOptions(or_cp=False)),
}
OTHERS = {
    "means": mean_2d,
    "kronecker": lambda x: kronecker(x, KroneckerOptions(noise=0.25, own_share=0.1, common_share=0.0)),
}
DEFAULT = FactorizationOptions().rank
TRUTHS = {"CP-like": 0.0, "attention": 1.0}
ABLATIONS = {
    "as by default": {},
    "attention off": {"attention": None},
    "attention by the product": {"attention": "product"},
    "no biases": {"biases": False},
    "weights (frequency)^-1/4": {"weight_power": 0.25},
    "weights (frequency)^-1/2": {"weight_power": 0.5},
    "variance term 0.1": {"variance_weight": 0.1},
    "non-negative tissues": {"non_negative": ("context",)},
    "no refit": {"refit": False},
    "MinMax scaling": {"scale": "minmax"},
    "scaled over all tissues": {"scale_per_context": False},
    "patience 100": {"patience": 100},
    "weight decay 1e-5": {"weight_decay": 1e-5},
    "outliers beyond 10 sd clipped": {"outlier_z": 10.0},
}
COLUMNS = ("MAE", "MAE extreme 8%", "MSE", "variance ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--truth", nargs="*", choices=TRUTHS, default=list(TRUTHS))
    parser.add_argument("--scale-over-all", action="store_true", help="tissues are not scaled each for itself")
    parser.add_argument("--markdown", action="store_true")
    names = ["simulated", "tggates", "ablation", "splits", "tissues", "choice"]
    parser.add_argument("--table", nargs="*", choices=names, default=names)
    args = parser.parse_args()
    if args.scale_over_all:
        FACTORS.update(
            (name, (solve, replace(options, scale_per_context=False))) for name, (solve, options) in FACTORS.items()
        )
    print(header())
    for name in args.table:
        if name != "tggates" or args.data:
            for title, columns, rows in globals()[name](args):
                print("\n" + table(title, columns, rows, markdown=args.markdown), flush=True)


def tensor(args, attention: float, seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Simulate; give the measured values and the truth."""
    measured = None
    if args.mask:
        found = pd.read_csv(args.mask, index_col=0)
        measured = found.iloc[np.sort(np.random.default_rng(0).choice(len(found), shape[0], replace=False))].astype(
            bool
        )
    d, c, g = shape
    mdata = kx.datasets.skewed_response(
        n_treatments=d,
        n_contexts=c,
        n_genes=g,
        rank=RANK,
        noise=NOISE,
        attention=attention,
        measured=measured,
        random_state=seed,
    )
    return tuple(np.stack([f(a) for a in mdata.mod.values()], axis=1) for f in (lambda a: a.X, truth_of))


def truth_of(adata) -> np.ndarray:
    return adata.layers["truth"]


def scores(truth: np.ndarray, completed: np.ndarray, held_out: np.ndarray) -> list[float]:
    held_out = held_out if held_out.ndim == 3 else held_out[:, :, None]
    found = kx.metrics.by_category(np.where(held_out, truth, np.nan), completed)
    return [
        found.loc["all", "mae"],
        found.loc["extreme", "mae"],
        found.loc["all", "mse"],
        found.loc["all", "variance_ratio"],
    ]


def written(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]


def spread(runs: list[list[float]]) -> list[str]:
    """Write the mean over seeds, and the least and largest error on extreme values."""
    mean, extreme = np.mean(runs, axis=0), np.array(runs)[:, 1]
    return [*written(mean), f"{extreme.min():.2f} to {extreme.max():.2f}"]


def simulated(args):
    for name in args.truth:
        attention = TRUTHS[name]
        data = [tensor(args, attention, seed) for seed in range(args.seeds)]
        folds = [next(iter(fiber_folds(~np.isnan(x[:, :, 0]), 5, 1))) for x, _ in data]
        tasks = [(hide(x, fold), truth, fold) for (x, truth), fold in zip(data, folds, strict=True)]
        rows = [
            [method, "", *spread([timed(method, solve, x, truth, fold)[0] for x, truth, fold in tasks])]
            for method, solve in OTHERS.items()
        ]
        if attention == 0:
            rows += [[f"CP, {known}", str(RANK), *spread(runs)] for known, runs in knowing(tasks).items()]
        tried = {rank: factorized(tasks, rank) for rank in RANKS}
        for method in tried[DEFAULT]:
            best = min(RANKS, key=lambda rank: np.mean([held_out for _, held_out in tried[rank][method]]))
            for rank in dict.fromkeys([DEFAULT, best]):
                rows.append([method, str(rank), *spread([found for found, _ in tried[rank][method]])])
        yield f"Truth: {name}", ("method", "rank", *COLUMNS, "extreme, seeds"), rows


def knowing(tasks) -> dict[str, list[list[float]]]:
    """Compute the scores of CP with some knowledge of the truth."""
    runs = {"least squares from the truth": [], "genes and tissues given": []}
    for x, truth, fold in tasks:
        known = true_factors(truth, RANK)
        for fitted, found in zip(
            (least_squares(x, known), treatments_alone(x, known, NOISE)), runs.values(), strict=True
        ):
            found.append(scores(truth, completed_by(fitted), fold))
    return runs


def factorized(tasks, rank: int) -> dict[str, list[tuple[list[float], float]]]:
    """Compute the scores and the loss of the held-out fibers, for every factor method and task."""
    runs = {}
    both = replace(FACTORS["attention CP"][1], or_cp=True)
    for method, (solve, options) in {**FACTORS, "the better of both": (attention_cp, both)}.items():
        chosen = bound(solve, replace(options, rank=rank))
        found = [timed(f"{method} {rank}", chosen, *task) for task in tasks]
        runs[method] = [(score, result.factors.held_out_loss.min()) for score, result in found]
    return runs


def bound(solve: Callable, options) -> Callable:
    return lambda x: solve(x, options)


def timed(name: str, solve: Callable, x: np.ndarray, truth: np.ndarray, held_out: np.ndarray):
    start = time.perf_counter()
    result = solve(x)
    found = scores(truth, result.values, held_out)
    progress(f"{name}: {' '.join(written(found))}, {result.status.n_iter} steps, {time.perf_counter() - start:.0f} s")
    return found, result


def ablation(args):
    for name in args.truth:
        x, truth = tensor(args, TRUTHS[name], 0)
        fold = next(iter(fiber_folds(~np.isnan(x[:, :, 0]), 5, 1)))
        rows = []
        for change, fields in ABLATIONS.items():
            options = replace(FACTORS["attention CP"][1], **fields)
            rows.append([change, *written(timed(change, bound(attention_cp, options), hide(x, fold), truth, fold)[0])])
        yield f"Attention CP, truth: {name}", ("setting", *COLUMNS), rows


def splits(args):
    x, truth = tensor(args, TRUTHS["attention"], 0)
    some = ~np.isnan(x[:, :, 0])
    masks = {
        "fibers": next(iter(fiber_folds(some, 5, 1))),
        "treatments, one fiber left": next(iter(cold_start_folds(some, 2, keep=1, random_state=1))),
        "treatments, none left": next(iter(cold_start_folds(some, 5, random_state=1))),
        "random entries": entry_folds(~np.isnan(x), 5, 1) == 0,
    }
    for split, mask in masks.items():
        rows = [
            [method, *written(timed(method, bound(solve, options), hide(x, mask), truth, mask)[0])]
            for method, (solve, options) in FACTORS.items()
        ]
        rows.append(["means", *written(timed("means", mean_2d, hide(x, mask), truth, mask)[0])])
        yield f"Held out: {split}", ("method", *COLUMNS), rows


def tissues(args):
    rows = []
    for name, attention in TRUTHS.items():
        x, truth = tensor(args, attention, 0)
        most = np.sort(np.argsort((~np.isnan(x[:, :, 0])).sum(axis=0))[-2:])
        x, truth = x[:, most], truth[:, most]
        has = ~np.isnan(x[:, :, 0]).all(axis=1)
        x, truth = x[has], truth[has]
        fold = next(iter(fiber_folds(~np.isnan(x[:, :, 0]), 3, 1)))
        for method, (solve, options) in FACTORS.items():
            found, _ = timed(method, bound(solve, options), hide(x, fold), truth, fold)
            rows.append([f"{name}: {method}", *written(found)])
    yield "Two tissues alone", ("truth: method", *COLUMNS), rows


def choice(args):
    for name in args.truth:
        rows = []
        for seed in range(args.seeds):
            x, truth = tensor(args, TRUTHS[name], seed, (400, *SHAPE[1:]))
            fold = next(iter(fiber_folds(~np.isnan(x[:, :, 0]), 5, 1)))
            start = time.perf_counter()
            (_, plain, *_), _ = timed("CP", cp, hide(x, fold), truth, fold)
            middle = time.perf_counter()
            (_, chosen, *_), result = timed("attention_cp", attention_cp, hide(x, fold), truth, fold)
            times = (time.perf_counter() - middle) / (middle - start)
            kept = "attention" if result.parameters["attention"] else "CP"
            rows.append([str(seed), *written([plain, chosen]), kept, f"{chosen / plain - 1:+.0%}", f"{times:.1f}"])
        columns = ("seed", "CP", "attention_cp", "chosen", "difference", "time, CP = 1")
        yield f"Choice, truth: {name}; MAE extreme 8%", columns, rows


def tggates(args):
    from tensors import stacked

    values = stacked(args.data / "tggates_hepatocyte.h5mu")
    some = ~np.isnan(values[:, :, 0])
    tasks = [(hide(values, fold), values, fold) for fold in fiber_folds(some, 5, 0)]
    rows = []
    for method, solve in {"means": mean_2d, "kronecker": kronecker}.items():
        rows.append([method, *spread([timed(method, solve, *task)[0] for task in tasks])])
    for method, runs in factorized(tasks, DEFAULT).items():
        rows.append([method, *spread([found for found, _ in runs])])
    yield f"TG-GATEs {values.shape}", ("method", *COLUMNS, "extreme, folds"), rows


if __name__ == "__main__":
    main()
