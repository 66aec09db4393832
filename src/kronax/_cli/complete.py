"""``python -m kronax complete``: predict the profiles that a file lacks."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mudata import MuData

from kronax import __version__, tl
from kronax._cli import options as option_text
from kronax._cli.output import InputError, parts_of, require_new, told_to_the_user, write_all
from kronax._data import keys, objects
from kronax._data import tensor as tensors
from kronax._logging import logger
from kronax.solvers.tensor.registry import METHODS

DESCRIPTION = """\
Predict the profiles that were not measured, from other treatments and other contexts. FILE holds one modality per
context (cell line, tissue, dose), each treatments × genes; a profile is missing where a modality lacks the treatment.
"""
EPILOG = f"""\
A VALUE is a number, a word, true, false or none; several have commas between them, as in alpha=1,0.5,0. The names:
{option_text.described()}
What they mean stands at kx.tl.KroneckerOptions and so on.

Written to DIR, which must not exist yet: the file with a layer 'completed' in every modality (.h5mu), and report.txt.
Nothing is written if anything fails. Exit codes: 0, done; 2, the input or an option cannot be used; 130, interrupted.

examples:
  python -m kronax complete responses.h5mu --method kronecker --out results
  python -m kronax complete responses.h5mu --method cp --option rank=6 --option non_negative=context
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    found = argparse.ArgumentParser(
        prog="python -m kronax complete",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("file", type=Path, metavar="FILE.h5mu", help="one modality per context, treatments × genes")
    found.add_argument(
        "--method", choices=list(METHODS), default="kronecker", help="how to predict (default: kronecker)"
    )
    found.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, such as max_iter=200; for several, give it several times",
    )
    found.add_argument("--layer", help="layer with the values (default: X)")
    found.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to make, with its parents (default: kronax-FILE)"
    )
    found.add_argument("--version", action="version", version=f"kronax {__version__}")
    return found


def complete(args: argparse.Namespace) -> None:
    """Read, complete, report and write."""
    out = args.out or Path(f"kronax-{args.file.stem}")
    require_new(out)
    options = option_text.options_from(args.method, args.option)
    mdata = read(args.file)
    start = time.perf_counter()
    with told_to_the_user():
        tensors.check(mdata)
        if args.layer is not None:
            for context, adata in mdata.mod.items():
                objects.key_in(args.layer, adata.layers, f"mdata[{context!r}].layers")
        tl.complete_tensor(mdata, method=args.method, layer=args.layer, options=options)
    text = f"kronax {__version__} on {args.file}\n\n{report(mdata, time.perf_counter() - start, args.option)}"
    print(f"\n{text}")
    logger.info("writing")
    names = write_all(out, lambda folder: write(mdata, text, folder, args.file.stem))
    print(f"\nWritten to {out}: {', '.join(names)}.")
    print(following(out / names[0]))


def read(path: Path) -> MuData:
    """Read an .h5mu file."""
    import mudata

    parts = parts_of(path, "an .h5mu")
    if "mod" not in parts:
        msg = f"{path} is not an .h5mu file: it has no modalities. kx.pp.tensor makes them from a long table in Python."
        raise InputError(msg)
    with tensors.without_pulling():
        return mudata.read_h5mu(path)


def report(mdata: MuData, seconds: float, settings: Sequence[str] = ()) -> str:
    """Say in a few aligned lines what came out."""
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
    return "\n".join(f"  {name:<14}{value:>12}   {remark}".rstrip() for name, value, remark in rows)


def write(mdata: MuData, text: str, folder: Path, name: str) -> list[str]:
    """Write the data and the report; give the names of the files."""
    names = [f"{name}.h5mu", "report.txt"]
    with tensors.without_pulling():
        mdata.write_h5mu(folder / names[0], compression="gzip")
    (folder / names[1]).write_text(text + "\n", encoding="utf-8")
    return names


def following(path: Path) -> str:
    """Give lines of Python that go on from the file as they stand."""
    lines = [
        "import kronax as kx, mudata, scanpy as sc",
        f"mdata = mudata.read_h5mu({json.dumps(path.as_posix(), ensure_ascii=False)})",
        "profiles = kx.get.profiles(mdata)  # treatment × context, measured or predicted",
        "sc.pp.pca(profiles)",
        'sc.pl.pca(profiles, color=["measured", "context"])',
    ]
    return "\n".join(["Next, in Python:", *(f"  {line}" for line in lines)])
