"""How well is predicted what was hardly measured, or never?

    python benchmarks/unmeasured.py --data DIR [--part NAME …] [--seeds 3] [--markdown]

``DIR`` holds the tensors, and beside each an annotation of its compounds, ``*.compounds.csv`` with ``treatment``, ``moa`` and ``target``.
Numbers are pooled correlations of held-out and predicted values, profiles and predictions at unit norm, of ``kronecker`` with what
is named, and of baselines:

- ``folds``: 10 folds of fibers, as in ``tensors.py``.
- ``one``: one context of every drug, drawn at random, is left; all others are predicted.
- ``contexts``: all but 0, 1 or 3 profiles of each context in turn are hidden; with and without coordinates of the contexts.
- ``sparse``: a tenth of the fibers is left, with and without coordinates.
- ``treatments``: 10 folds of whole drugs; without side information, with mechanism and target, with those permuted among the
  drugs. Then the mean confidence and the mean correlation reached, by fifths of the confidence.
- ``weights``: noise of known size is added to every profile of NeurIPS; with and without its precision, in 10 folds of fibers.
- ``next``: a third of the fibers is left, and a tenth of all is measured in addition, chosen at random, by the least confidence, or by
  ``next_experiments``; the mean squared error, relative to the mean square, on another third.

Means over ``--seeds`` draws. "Needed" is what was asked of the method before it was written.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData, read_h5mu
from report import header, progress, table
from tensors import read

import kronax as kx
from kronax.solvers.tensor.folds import FiberFolds, cold_start_folds, fiber_folds, hide, pooled_correlation, unit_norm
from kronax.solvers.tensor.means import Mean2dOptions, mean_1d, mean_2d
from kronax.solvers.tensor.side import NOTHING, Links, Side
from kronax.solvers.tensor.wiener.experiments import next_experiments
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

FILES = {"NeurIPS": "neurips2023_pbmc", "TG-GATEs": "tggates_hepatocyte", "L1000 plate": "l1000_ljp005_a375"}
NEEDED = {
    ("folds", "NeurIPS"): 0.477,
    ("folds", "NeurIPS, half"): 0.404,
    ("folds", "TG-GATEs"): 0.598,
    ("folds", "L1000 plate"): 0.426,
    ("one", "NeurIPS"): 0.38,
    ("one", "TG-GATEs"): 0.27,
    ("one", "L1000 plate"): 0.34,
    ("1", "TG-GATEs"): 0.51,
    ("3", "TG-GATEs"): 0.55,
    ("0 + R", "TG-GATEs"): 0.53,
    ("0 + R", "L1000 plate"): 0.41,
    ("treatments", "NeurIPS"): 0.33,
    ("treatments", "L1000 plate"): 0.363,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the h5mu and csv files")
    parser.add_argument("--part", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    args = parser.parse_args()
    print(header())
    for part in args.part:
        title, columns, rows = PARTS[part](args.data, args.seeds)
        print("\n" + table(title, columns, rows, markdown=args.markdown), flush=True)


def folds(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for name in ("NeurIPS", "NeurIPS, half", "TG-GATEs", "L1000 plate"):
        values = unit_norm(read(data, name, 0))
        found = score(values, *predicted(values, fiber_folds(measured(values), 10, 0)))
        rows.append(line(name, found, NEEDED["folds", name]))
    return "Ordinary folds", ["tensor", "kronecker", "needed"], rows


def one(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for name in FILES:
        values = unit_norm(read(data, name, 0))
        found = []
        for seed in range(seeds):
            some = measured(values)
            first = np.where(some, np.random.default_rng(seed).random(some.shape), -1.0).argmax(axis=1)
            held = some & (np.arange(some.shape[1]) != first[:, None])
            hidden = hide(values, held)
            found.append([score(values, m(hidden).values, held) for m in (mean_1d, mean_2d, kronecker)])
        rows.append(line(name, *np.mean(found, axis=0), NEEDED["one", name]))
    return "One context of every drug", ["tensor", "mean_1d", "mean_2d", "kronecker", "needed"], rows


def contexts(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for name in ("TG-GATEs", "L1000 plate"):
        values, links = unit_norm(read(data, name, 0)), Side(contexts=coordinates(data, name))
        n = values.shape[1]
        for keep in (0, 1, 3):
            found = []
            for seed in range(seeds if keep else 1):
                dealt = cold_start_folds(measured(values), n, axis=1, keep=keep, random_state=seed)
                runs = [
                    predicted(values, dealt, mean_1d),
                    *(predicted(values, dealt, side=s) for s in (NOTHING, links)),
                ]
                found.append([score(values, *run) for run in runs])
            needed = [NEEDED.get((key, name)) for key in (f"{keep}", f"{keep} + R")]
            rows.append(line(f"{name}, {keep}", *np.mean(found, axis=0), *needed))
            progress(" ".join(rows[-1]))
    columns = ["profiles left", "mean_1d", "kronecker", "with coordinates", "needed", "needed with them"]
    return "Contexts with few profiles, or none", columns, rows


def sparse(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for name in ("TG-GATEs", "L1000 plate"):
        values, links = unit_norm(read(data, name, 0)), Side(contexts=coordinates(data, name))
        for share in (0.1, 0.2, 0.5):
            found = []
            for seed in range(2 * seeds):
                held = measured(values) & (np.random.default_rng(seed).random(values.shape[:2]) >= share)
                hidden = hide(values, held)
                found.append([score(values, kronecker(hidden, side=s).values, held) for s in (NOTHING, links)])
            gain = np.subtract(*np.transpose(found)[::-1])
            rows.append(line(f"{name}, {share:.0%}", *np.mean(found, axis=0), gain.mean(), error_of(gain)))
            progress(" ".join(rows[-1]))
    return "Sparse tensors", ["fibers left", "kronecker", "with coordinates", "gain", "standard error"], rows


def treatments(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows, columns = [], ["tensor", "context mean", "by labels", "permuted", "needed"]
    columns += ["least", "second", "third", "fourth", "most"]
    for name in FILES:
        values, labels = unit_norm(read(data, name, 0)), Side({"labels": by_labels(data, name)})
        dealt = cold_start_folds(measured(values), 10, axis=0)
        runs = [
            predicted(values, dealt, lambda x: mean_2d(x, Mean2dOptions(context_weight=1.0))),
            *(predicted(values, dealt, side=side) for side in (labels, labels.permuted(0))),
        ]
        groups = [f"{promised:.2f} / {reached:.2f}" for promised, reached in fifths(values, *runs[1])]
        scores = [score(values, *run) for run in runs]
        rows.append([*line(name, *scores, NEEDED.get(("treatments", name))), *groups])
        progress(" ".join(rows[-1]))
    return "Drugs never measured; confidence / cosine reached by fifths", columns, rows


def weights(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows, truth = [], unit_norm(read(data, "NeurIPS", 0))
    some = measured(truth)
    for spread in (0.0, 1.0):
        found = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            precise = np.exp(spread * rng.normal(size=some.shape))
            noise = rng.normal(size=truth.shape) / np.sqrt(precise * truth.shape[2])[:, :, None]
            dealt, side = fiber_folds(some, 10, seed), Side(weights=precise[:, :, None])
            runs = [predicted(truth + noise, dealt, side=s) for s in (NOTHING, side)]
            found.append([score(truth, *run) for run in runs])
        rows.append(line(f"{spread:g}", *np.mean(found, axis=0)))
        progress(" ".join(rows[-1]))
    return "Precision of profiles, log-normal", ["spread (σ)", "kronecker", "with weights"], rows


def following(data: Path, seeds: int) -> tuple[str, list[str], list[list[str]]]:
    rows, options = [], KroneckerOptions()
    for name in FILES:
        values, found = unit_norm(read(data, name, 0)), []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            part = np.where(measured(values), rng.integers(0, 3, values.shape[:2]), -1)
            start, pool, tested = (part == k for k in range(3))
            n, hidden = pool.sum() // 3, hide(values, ~start)
            result = kronecker(hidden, options)
            picks = next_experiments(hidden, result.values, pool, n, result.parameters, options)
            confidence = np.where(pool, np.nan_to_num(result.confidence, nan=-1.0), np.inf)
            least = np.unravel_index(np.argsort(confidence, axis=None, kind="stable")[:n], pool.shape)
            some = tuple(rng.permutation(np.argwhere(pool))[:n].T)
            row = [relative_error(values, result.values, tested)]
            for places in (some, least, (picks.treatment, picks.context)):
                more = start.copy()
                more[places] = True
                row.append(relative_error(values, kronecker(hide(values, ~more), options).values, tested))
            found.append(row)
        rows.append(line(name, *np.mean(found, axis=0)))
        progress(" ".join(rows[-1]))
    return "What to measure next: relative error", ["tensor", "before", "random", "least confident", "next"], rows


def measured(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values[:, :, 0])


def predicted(
    values: np.ndarray, dealt: FiberFolds, method=kronecker, **more
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict what each fold holds out; return predictions, what was held out, and confidences."""
    found, confidence = np.full_like(values, np.nan), np.full(values.shape[:2], np.nan)
    for mask in dealt:
        result = method(hide(values, mask), **more)
        found[mask] = result.values[mask]
        if result.confidence is not None:
            confidence[mask] = result.confidence[mask]
    return found, dealt.fold >= 0, confidence


def score(values: np.ndarray, found: np.ndarray, held: np.ndarray, *_) -> float:
    where = held[:, :, None]
    return pooled_correlation(np.where(where, values, np.nan), unit_norm(np.where(where, found, np.nan)))


def relative_error(values: np.ndarray, found: np.ndarray, held: np.ndarray) -> float:
    return float(np.square(found - values)[held].sum() / np.square(values)[held].sum())


def fifths(
    values: np.ndarray, found: np.ndarray, held: np.ndarray, confidence: np.ndarray
) -> Iterator[tuple[float, float]]:
    """Yield the mean confidence and the mean cosine reached of fifths by confidence."""
    cosine = (unit_norm(found) * values).sum(axis=2)
    known = held & ~np.isnan(confidence)
    promised, reached = confidence[known], cosine[known]
    for group in np.array_split(np.argsort(promised, kind="stable"), 5):
        yield promised[group].mean(), np.nanmean(reached[group])


def error_of(gain: np.ndarray) -> float:
    return float(gain.std(ddof=1) / np.sqrt(len(gain)))


def coordinates(data: Path, name: str) -> Links:
    """Return distances of contexts in dose and time, which their names say."""
    contexts = list(read_h5mu(data / f"{FILES[name]}.h5mu").mod)
    if name == "L1000 plate":
        return Links(distances={"dose": squared(np.log(np.array(contexts, float)))})
    dose, time = zip(*(context.split("_") for context in contexts), strict=True)
    hours = np.array([float(t.removesuffix("h")) for t in time])
    rank = np.array([["Low", "Middle", "High"].index(d) for d in dose], float)
    return Links(distances={"dose": squared(rank), "time": squared(np.log(hours))})


def squared(points: np.ndarray) -> np.ndarray:
    return np.square(points[:, None] - points)


def by_labels(data: Path, name: str) -> np.ndarray:
    """Return the similarity of drugs by mechanism and target, in the order of :func:`tensors.stacked`."""
    mdata = read_h5mu(data / f"{FILES[name]}.h5mu")
    names = sorted({drug for adata in mdata.mod.values() for drug in adata.obs_names})
    labels = pd.read_csv(data / f"{FILES[name]}.compounds.csv").set_index("treatment").reindex(names)
    obs = labels[["moa", "target"]].astype(object)
    tensor = MuData({key: AnnData(np.zeros((len(names), 1)), obs=obs) for key in "ab"}, axis=-1)
    kx.pp.treatment_similarity(tensor, labels=["moa", "target"])
    return tensor.obsp["annotation"].toarray()


def line(name: str, *numbers: float | None) -> list[str]:
    return [name, *("" if number is None else f"{number:.3f}" for number in numbers)]


PARTS = {
    "folds": folds,
    "one": one,
    "contexts": contexts,
    "sparse": sparse,
    "treatments": treatments,
    "weights": weights,
    "next": following,
}


if __name__ == "__main__":
    main()
