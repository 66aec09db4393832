"""``python -m kronax effects``: from counts of cells, some of them controls, to the effects of treatments."""

import argparse
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax import __version__, pl, pp
from kronax._cli import files
from kronax._cli.refusals import InputError, refused
from kronax._cli.report import aligned, next_lines
from kronax._cli.results import Results
from kronax._cli.terminal import in_code
from kronax._data import objects
from kronax._logging import logger

KEY = "effects"  # uns
P_MAX = 0.1  # of an effect that is called sure, as in the paper
_N_SUREST = 5
_AS_OPTIONS = {
    "`treatment_key`": "--treatment",
    "`context_key`": "--context",
    "`replicate_key`": "--replicate",
    "`control`": "--control",
    "`min_cells`": "--min-cells",
    "`rows='replicates'`": "--rows replicates",
    "`layer=…`": "--layer",
    "`log=False`": "--no-log",
    "method='log_fold_change'": "--method log_fold_change",
    "method='characteristic_direction'": "--method characteristic_direction",
    "method='z_score'": "--method z_score",
}


def run(args: argparse.Namespace, results: Results) -> None:
    """Read, compute, write, report and draw."""
    cells = files.read_cells(args.file)
    files.require_writable(AnnData(var=cells.var), args.file, results.beside)
    results.require_room(_n_bytes(cells, args))
    found = compute(
        cells,
        args,
        method=args.method,
        min_cells=args.min_cells,
        rows=args.rows,
        log=not args.no_log,
        words=_AS_OPTIONS,
    )
    text = (
        f"kronax {__version__} on {args.file}\n\n{report(found, cells.n_obs, by_replicates=args.replicate is not None)}"
    )
    results.write_first("effects.h5ad", lambda path: files.write_h5ad(found, path))
    print(f"\n{text}")
    results.add("effects.csv", lambda path: table(found).to_csv(path, index=False, float_format="%.6g"))
    results.add("report.txt", lambda path: path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace"))
    if found.obs["acd"].notna().any():
        results.add("effects.png", lambda path: pl.effects(found, save=path))
    else:
        logger.info("effects.png is not drawn: no effect has replicates that could be compared")
    print(f"\nWritten to {results.folder}: {', '.join(results.names)}.")
    print(following(found, results.folder / results.names[0]))


def compute(cells: AnnData, args: argparse.Namespace, *, words: dict[str, str], **settings) -> AnnData:
    """Compute effects; what errors call the arguments of Python is called as on the command line, by ``words``."""
    with refused(words):
        for column in (args.treatment, args.context, args.replicate):
            if column is not None:
                objects.key_in(column, cells.obs, "adata.obs")
        if args.layer is not None:
            objects.key_in(args.layer, cells.layers, "adata.layers")
        elif cells.X is None:
            msg = f"The file has no X. Name one of the layers {sorted(map(str, cells.layers))} with --layer."
            raise ValueError(msg)
        return pp.effects(
            cells,
            treatment_key=args.treatment,
            control=args.control,
            context_key=args.context,
            replicate_key=args.replicate,
            layer=args.layer,
            **settings,
        )


def sure(found: AnnData, p_max: float) -> AnnData:
    """Keep the effects with a p-value of at most ``p_max``."""
    p = found.obs["p_value"].to_numpy(float)
    if np.isnan(p).all():
        msg = "--p-max: no effect has a p-value. It needs replicates; name them with --replicate, or leave --p-max out."
        raise InputError(msg)
    if not (p <= p_max).any():
        msg = f"--p-max {p_max:g}: no effect is so sure; the smallest p-value is {np.nanmin(p):.2g}."
        raise InputError(msg)
    logger.info("%s of %s effects have a p-value of at most %g", f"{(p <= p_max).sum():,}", f"{len(p):,}", p_max)
    return found[p <= p_max].copy()


def table(found: AnnData) -> pd.DataFrame:
    """Return one row for each effect, the surest first and of these the largest; what is not known of any is left out."""
    params = found.uns[KEY]
    named = {params["treatment_key"]: "treatment", params["context_key"]: "context"}
    columns = [*named, "n_cells", "n_replicates", "effect_size", "acd", "p_value"]
    shown = found.obs[columns].rename(columns=named).dropna(axis=1, how="all")
    by = [key for key in ("p_value", "effect_size") if key in shown]
    return shown.sort_values(by, ascending=[key == "p_value" for key in by], kind="stable", na_position="last")


def _n_bytes(cells: AnnData, args: argparse.Namespace) -> int:
    """Return the size of all effects that there can be, not compressed."""
    groups = [cells.obs[key].nunique() for key in (args.treatment, args.context) if key in cells.obs]
    return 8 * cells.n_vars * min(int(np.prod(groups)), cells.n_obs) + 2**20


def report(found: AnnData, n_rows: int, *, by_replicates: bool) -> str:
    """Tell what was found, in a few aligned lines and the names of the surest effects."""
    obs, params = found.obs, found.uns[KEY]
    contexts = list(obs[params["context_key"]].cat.categories)
    rows = [
        ("cells" if params["rows"] == "cells" else "replicates", f"{n_rows:,}", "in the file, controls included"),
        ("controls", "", ", ".join(params["control"])),
        ("treatments", f"{obs[params['treatment_key']].nunique():,}", "beside the controls"),
        ("contexts", f"{len(contexts):,}", ", ".join(contexts) if len(contexts) <= 6 else ""),
        ("effects", f"{len(obs):,}", f"of a treatment in a context, {found.n_vars:,} genes each"),
        ("method", "", params["method"]),
        (
            "made of",
            f"{obs['n_cells'].median():,.0f}",
            f"{'cells' if params['rows'] == 'cells' else 'replicates'} each, median",
        ),
        (
            "replicates",
            f"{obs['n_replicates'].median():,.0f}",
            f"each, median; {(obs['n_replicates'] == 1).sum():,} have one",
        ),
    ]
    p = obs["p_value"]
    if p.notna().any():
        n = int((p <= P_MAX).sum())
        remark = f"{n / p.notna().sum():.0%} of those with a p-value: p ≤ {P_MAX:g}, their replicates agree"
        rows.append(("sure", f"{n:,}", remark))
    lines = [aligned(rows)]
    if p.notna().any():
        lines += ["", "  The surest, and of these the largest (size: root mean square of the log2 fold changes)"]
        first = table(found).head(_N_SUREST)
        wide = max(map(len, first.index))
        lines += [
            f"    {name:<{wide}}   p {row.p_value:<8.2g} size {row.effect_size:.2f}" for name, row in first.iterrows()
        ]
        lines += [
            "",
            "  An effect that is not sure may be noise, and predictions learn from it: python -m kronax complete takes",
            f"  --p-max {P_MAX:g} to leave such effects out.",
        ]
    elif not by_replicates:
        lines += [
            "",
            "  Which effects are more than noise is not known: that needs replicates, --replicate OBS_COLUMN.",
        ]
    return "\n".join(lines)


def following(found: AnnData, path: Path) -> str:
    """Return the next step on the command line, and in Python."""
    params = found.uns[KEY]
    keys = f"obs_key={in_code(params['treatment_key'])}, context_key={in_code(params['context_key'])}"
    p_max = f" --p-max {P_MAX:g}" if (found.obs["p_value"] <= P_MAX).any() else ""
    lines = [
        "import kronax as kx, scanpy as sc",
        f"effects = sc.read_h5ad({in_code(path.as_posix())})",
        *([f'effects = effects[effects.obs["p_value"] <= {P_MAX:g}].copy()'] if p_max else []),
        f"mdata = kx.pp.tensor(effects, {keys})",
        "kx.tl.complete_tensor(mdata)",
    ]
    command = f"python -m kronax complete {shlex.quote(path.as_posix())}{p_max}"
    return f"Next: {command}\n{next_lines(lines).replace('Next, in Python:', 'Or, in Python:')}"
