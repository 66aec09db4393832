"""How long does ``kx.metrics.cross_validate`` take, and do folds that share a choice find what each finds by itself? See README.md.

Five methods on 75 treatments × 800 genes × 3 contexts. Every line is a process of its own, with a first call, which compiles, and another.
With ``--agreement``: ``kronecker`` alone on simulated tensors, and on those of a folder (``--data``).
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from unittest.mock import patch

import mudata
import numpy as np
from report import header, progress, table

import kronax as kx
from kronax.metrics._compared_methods import ComparedMethod
from kronax.solvers import device

SIZE = {"n_treatments": 75, "n_genes": 800, "n_contexts": 3}
KEYS = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line", "replicate_key": "plate"}
TENSORS = {
    "effects": "effects of a simulated screen, all profiles measured",
    "missing": "simulated responses, 80% of the profiles",
    "gaps": "the same, 1% of the values missing too",
}
WAYS = {"alone": "one fold after the other, each by itself", "default": "`cross_validate`"}


def main() -> None:
    args = arguments()
    if args.way:
        print(json.dumps(measured(args.tensor[0], args.way)))
        return
    print(header())
    if args.agreement:
        columns = ["", "`pct`, by itself", "`pct`", "confidence, from what was reached, by itself", "shared"]
        print("\n" + table("kronecker, ten folds", columns, list(agreement(args.data)), markdown=args.markdown))
        return
    columns = ["", "first call, s", "CPU", "again, s", "CPU", "`pct` of kronecker", "predictions as by itself"]
    for name in args.tensor:
        found = {way: in_a_process(name, way) for way in WAYS}
        alone = np.array(found["alone"]["predicted"])
        rows = [
            [
                text,
                *(f"{seconds:.1f}" for seconds in found[way]["seconds"]),
                f"{found[way]['pct']:.3f}",
                f"r = {np.corrcoef(alone, found[way]['predicted'])[0, 1]:.4f}",
            ]
            for way, text in WAYS.items()
        ]
        print("\n" + table(TENSORS[name], columns, rows, markdown=args.markdown), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensor", nargs="*", choices=TENSORS, default=list(TENSORS), help="which (default: all)")
    parser.add_argument("--agreement", action="store_true", help="compare scores instead of times")
    parser.add_argument("--data", type=Path, help="folder with tensors as .h5mu files, for --agreement")
    parser.add_argument("--way", choices=WAYS, help="measure one way alone, in this process")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def in_a_process(name: str, way: str) -> dict:
    progress(f"{name}, {way}")
    command = [sys.executable, __file__, "--tensor", name, "--way", way]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measured(name: str, way: str) -> dict:
    """Time two calls, on the clock and of all CPUs."""
    logging.getLogger("kronax").setLevel("ERROR")
    mdata, seconds = tensor(name), []
    with ExitStack() as stack:
        if way == "alone":
            stack.enter_context(by_itself())
            stack.enter_context(patch.object(device, "_cores", lambda: 1))
        for _ in range(2):
            start, cpu = time.perf_counter(), time.process_time()
            result = kx.metrics.cross_validate(mdata)
            seconds += [time.perf_counter() - start, time.process_time() - cpu]
    predicted = result.profiles.layers["kronecker"].ravel()
    pct = float(result.table.loc["kronecker", "pct"])
    return {"seconds": seconds, "pct": pct, "predicted": predicted[~np.isnan(predicted)].astype(np.float32).tolist()}


def by_itself() -> AbstractContextManager:
    """Let every fold choose its own prior."""
    return patch.object(ComparedMethod, "known", lambda self, values, fold, n, *_: [None] * n)


def agreement(folder: Path | None) -> Iterator[list[str]]:
    """Score folds by themselves, and those that share."""
    logging.getLogger("kronax").setLevel("ERROR")
    mudata.set_options(pull_on_update=False)
    for name, mdata in tensors(folder):
        progress(name)
        with by_itself():
            alone = kx.metrics.cross_validate(mdata, methods="kronecker")
        found = alone, kx.metrics.cross_validate(mdata, methods="kronecker")
        off = [(groups["promised"] - groups["reached"]).abs().mean() for groups in (one.promises() for one in found)]
        scores = [one.table.loc["kronecker", "pct"] for one in found]
        yield [name, *(f"{score:.3f}" for score in scores), *(f"{distance:.3f}" for distance in off)]


def tensors(folder: Path | None) -> Iterator[tuple[str, mudata.MuData]]:
    """Yield simulated tensors of three shapes, and those in files; of more than a thousand genes, evenly chosen ones."""
    for n, contexts, genes, missing, seeds in ((75, 3, 800, 0.2, 3), (60, 6, 200, 0.4, 2), (60, 6, 100, 0.7, 2)):
        for seed in range(seeds):
            sizes = {"n_treatments": n, "n_contexts": contexts, "n_genes": genes, "missing": missing}
            name = f"simulated, {n} × {contexts} × {genes}, {1 - missing:.0%}, seed {seed}"
            yield name, kx.datasets.drug_response(**sizes, random_state=seed)
    for path in sorted(folder.glob("*.h5mu")) if folder else []:
        whole = mudata.read_h5mu(path)
        step = -(-whole.mod[next(iter(whole.mod))].n_vars // 1000)
        yield path.stem, mudata.MuData({name: adata[:, ::step].copy() for name, adata in whole.mod.items()}, axis=-1)


def tensor(name: str) -> mudata.MuData:
    mudata.set_options(pull_on_update=False)
    if name == "effects":
        found = kx.pp.effects(kx.datasets.screen(**SIZE), **KEYS)
        return kx.pp.tensor(found, obs_key="perturbation", context_key="cell_line")
    mdata, rng = kx.datasets.drug_response(**SIZE, missing=0.2), np.random.default_rng(0)
    if name == "gaps":
        for adata in mdata.mod.values():
            adata.X = np.where(rng.random(adata.shape) < 0.01, np.nan, adata.X)
    return mdata


if __name__ == "__main__":
    main()
