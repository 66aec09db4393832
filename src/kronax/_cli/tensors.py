"""``python -m kronax complete``: predict the profiles that a file lacks."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mudata import MuData

from kronax import __version__, metrics, pl, tl
from kronax._cli import effects, files, names, side_information, tensor_in, tensor_out, validation
from kronax._cli.options import options_from
from kronax._cli.refusals import refused
from kronax._cli.report import aligned, next_lines
from kronax._cli.results import Results
from kronax._cli.terminal import in_code
from kronax._data import align, keys, objects
from kronax._data import tensor as tensors
from kronax._logging import logger


def run(args: argparse.Namespace, results: Results) -> None:
    """Read, complete, write, score what was held out, report and draw."""
    options = options_from(args.method, args.option)
    mdata, layer, found = tensor_in.read(args)
    options = side_information.add(mdata, options, args.similarity, args.contexts)
    with refused():
        if layer is not None:
            for context, adata in mdata.mod.items():
                objects.key_in(layer, adata.layers, f"mdata[{context!r}].layers")
    moved = names.keep_before_completion(mdata)
    layer = moved.get(("layers", layer), ("layers", layer))[1]
    with refused():
        tensors.require_measured(mdata, layer)
    with refused():
        trial = with_all_rows(mdata)
    files.require_writable(trial, args.file, results.beside)
    del trial
    results.require_room(_n_bytes(mdata))
    start = time.perf_counter()
    with refused(side_information.as_files(options, args.similarity, args.contexts)):
        tl.complete_tensor(mdata, method=args.method, layer=layer, options=options)
    text = f"kronax {__version__} on {args.file}\n\n{report(mdata, time.perf_counter() - start, args.option)}"
    logger.info("writing")
    stem = Path(args.file.name.removesuffix(".gz")).stem
    results.write_first(f"{stem}.h5mu", lambda path: files.write_h5mu(mdata, path))
    tensor_out.add_tables(mdata, results)
    if found is not None:
        results.add("effects.csv", lambda path: effects.table(found).to_csv(path, index=False, float_format="%.6g"))
    if args.folds:
        with results.extra("a cross-validation"):
            held_out = validation.of(mdata, args.method, options, layer, args.folds)
            text += "\n\n" + "\n".join(validation.lines(held_out, args.method))
            results.add("predicted_against_true.png", lambda path: _draw_scores(held_out, args.method, path))
    print(f"\n{text}")
    results.add("report.txt", lambda path: path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace"))
    results.add("measured.png", lambda path: pl.measured_fibers(mdata, layer=layer, save=path))
    print(f"\nWritten to {results.folder}: {', '.join(results.names)}.")
    print(following(results.folder / results.names[0]))


def _draw_scores(held_out: metrics.CrossValidation, method: str, path: Path) -> None:
    pl.predicted_against_true(held_out, method=method, save=path)


def with_all_rows(mdata: MuData) -> MuData:
    """Return the modalities with the rows that they will have."""
    if tensors.is_aligned(mdata):
        return mdata
    treatments, found = tensors.union(mdata), align.copied(mdata)
    align.replace(found, align.aligned(mdata, treatments, dict.fromkeys(mdata.mod, np.ones(len(treatments), bool))))
    return found


def _n_bytes(mdata: MuData) -> int:
    """Add up the matrices there, with a row for every treatment, and in each modality those of the results, not compressed."""
    n, total = len(tensors.union(mdata)), files.bytes_in_memory(files.matrices(mdata))
    for adata in mdata.mod.values():
        there = files.bytes_in_memory(files.matrices(adata)) * n // max(adata.n_obs, 1)
        total += there + 9 * n * adata.n_vars + 60 * 8 * (n + adata.n_vars)  # predictions with their mark; factors
    return total + 2**20  # and the overhead of any file


def report(mdata: MuData, seconds: float, settings: Sequence[str] = ()) -> str:
    """Return a summary of the results in a few aligned lines."""
    found = mdata.uns[keys.COMPLETION]
    tables = [adata.obs for adata in mdata.mod.values()]
    measured = np.concatenate([table[keys.MEASURED].to_numpy(bool) for table in tables])
    confidence = np.concatenate([table[keys.CONFIDENCE].to_numpy() for table in tables])[~measured]
    n_single = found["n_entries"] - found["n_predicted"] * len(tensors.shared_genes(mdata))
    fallbacks = ", ".join(f"{n:,} by {kind.replace('_', ' ')}" for kind, n in found["fallbacks"].items() if n)
    rows = [
        ("treatments", f"{len(tables[0]):,}", ""),
        ("contexts", f"{len(tables):,}", ", ".join(mdata.mod) if len(tables) <= 6 else ""),
        ("genes", f"{len(tensors.shared_genes(mdata)):,}", "in all contexts"),
        ("measured", f"{measured.sum():,}", f"{measured.mean():.0%} of all profiles"),
        ("predicted", f"{found['n_predicted']:,}", "profiles"),
        ("and", f"{n_single:,}", "single entries of measured profiles"),
        ("method", found["method"], f"with {', '.join(settings)}" if settings else ""),
        ("iterations", f"{found['n_iter']:,}", ""),
        ("converged", "yes" if found["converged"] else "no", found["reason"]),
        ("seconds", f"{seconds:.1f}", "compilation included"),
    ]
    if np.isfinite(confidence).any():
        low, middle, high = np.nanquantile(confidence, [0.1, 0.5, 0.9])
        rows.append(("confidence", f"{middle:.2f}", f"of the median profile; {low:.2f} to {high:.2f} for 80% of them"))
    if fallbacks:
        rows.append(("fallbacks", f"{sum(found['fallbacks'].values()):,}", fallbacks))
    return aligned(rows)


def following(path: Path) -> str:
    """Return lines of Python that continue from the file and run as they are."""
    return next_lines(
        [
            "import kronax as kx, mudata, scanpy as sc",
            f"mdata = mudata.read_h5mu({in_code(path.as_posix())})",
            "profiles = kx.get.profiles(mdata)  # treatment × context, measured or predicted",
            "sc.pp.pca(profiles)",
            'sc.pl.pca(profiles, color=["measured", "context"])',
        ]
    )
