"""How long does ``kx.metrics.cross_validate`` take, and do folds that share a choice find what each finds by itself? See README.md.

Five methods on 75 treatments × 800 genes × 3 contexts. Every line is a process of its own, with a first call, which compiles, and another.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from contextlib import ExitStack
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
            stack.enter_context(patch.object(ComparedMethod, "known", lambda self, values, fold, n, *_: [None] * n))
            stack.enter_context(patch.object(device, "_cores", lambda: 1))
        for _ in range(2):
            start, cpu = time.perf_counter(), time.process_time()
            result = kx.metrics.cross_validate(mdata)
            seconds += [time.perf_counter() - start, time.process_time() - cpu]
    predicted = result.profiles.layers["kronecker"].ravel()
    pct = float(result.table.loc["kronecker", "pct"])
    return {"seconds": seconds, "pct": pct, "predicted": predicted[~np.isnan(predicted)].astype(np.float32).tolist()}


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
