"""``python -m kronax``: the quickstart, on the data that come with scanpy or on a file."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from anndata import AnnData

from kronax import __version__, _quickstart
from kronax._quickstart import InputError

DESCRIPTION = """\
Learn a cell graph and a gene graph together from one count matrix; then cluster the cells, group the genes into
modules, draw both and report. Without FILE, this is done on 700 blood cells that come with scanpy.
"""
EPILOG = """\
Written to DIR, which must not exist yet: the annotated data (.h5ad), umap.png and gene_modules.png. Nothing is written
if anything fails. Exit codes: 0, done; 2, the input or an option cannot be used.

examples:
  python -m kronax
  python -m kronax cells.h5ad --layer counts --label cell_type --out results
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 if all went well, 2 if what was given cannot be used."""
    args = parser().parse_args(argv)
    try:
        quickstart(args)
    except InputError as error:
        print(f"python -m kronax: error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    found = argparse.ArgumentParser(
        prog="python -m kronax",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("file", nargs="?", type=Path, metavar="FILE.h5ad", help="cells × genes (default: the example)")
    found.add_argument("--layer", help="layer with counts or log-normalised values (default: X)")
    found.add_argument("--label", metavar="OBS_COLUMN", help="known labels of the cells, to compare and draw")
    found.add_argument(
        "--n-top-genes",
        type=_at_least_two,
        default=2000,
        metavar="N",
        help="highly variable genes to keep, if there are more (default: 2000)",
    )
    found.add_argument(
        "--n-neighbors",
        type=_at_least_two,
        default=15,
        metavar="N",
        help="neighbours of every cell and every gene (default: 15)",
    )
    found.add_argument(
        "--resolution", type=_positive, default=1.0, metavar="R", help="of the Leiden clusters (default: 1)"
    )
    found.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to make (default: kronax-quickstart, or kronax-FILE)"
    )
    found.add_argument("--version", action="version", version=f"kronax {__version__}")
    return found


def _at_least_two(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        msg = f"{text!r} is not a whole number of at least 2"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return number


def quickstart(args: argparse.Namespace) -> None:
    """Read, run, report and write."""
    name = "quickstart" if args.file is None else args.file.stem
    out = args.out or Path(f"kronax-{name}")
    if args.file is None and (args.layer or args.label):
        msg = "--layer and --label belong to a file: python -m kronax FILE.h5ad …"
        raise InputError(msg)
    require_new(out)
    adata = _quickstart.example() if args.file is None else read(args.file)
    label = "bulk_labels" if args.file is None else args.label
    _quickstart.check(adata, args.layer, label)
    result = _quickstart.run(
        adata,
        layer=args.layer,
        label=label,
        n_top_genes=args.n_top_genes,
        n_neighbors=args.n_neighbors,
        resolution=args.resolution,
    )
    print(f"\nkronax {__version__} on {args.file or 'pbmc68k_reduced, which comes with scanpy'}\n")
    print(_quickstart.report(result))
    names = write(result, out, name)
    print(f"\nWritten to {out}: {', '.join(names)}.")
    print(f'Next: adata = sc.read_h5ad("{(out / names[0]).as_posix()}"); scanpy takes neighbors_key="med_magma".')
    if args.file is None:
        print("Your own data: python -m kronax FILE.h5ad --layer counts --label OBS_COLUMN")
    else:
        print('The genes of module 0: adata.var_names[adata.var["gene_module"] == "0"]')


def read(path: Path) -> AnnData:
    """Read an .h5ad file."""
    import anndata
    import h5py

    if not path.is_file():
        msg = f"{path} is {'a folder' if path.is_dir() else 'not there'}; an .h5ad file is needed."
        raise InputError(msg)
    try:
        with h5py.File(path) as file:
            parts = set(file)
    except OSError as error:
        msg = f"{path} cannot be read as an .h5ad file: {error}."
        raise InputError(msg) from error
    if "mod" in parts:
        msg = f"{path} holds several modalities; write one of them to an .h5ad file."
        raise InputError(msg)
    if not {"obs", "var"} <= parts:
        msg = f"{path} is not an .h5ad file: it has no obs and var, but {sorted(parts)}."
        raise InputError(msg)
    return anndata.read_h5ad(path)


def require_new(out: Path) -> None:
    """Require that a folder can be made, before the work begins."""
    if out.exists():
        msg = f"{out} is already there; name a new folder with --out, or remove it."
        raise InputError(msg)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".kronax-"):
            pass
    except OSError as error:
        msg = f"{out} cannot be made: {error.strerror or error}."
        raise InputError(msg) from error


def write(result: _quickstart.Result, out: Path, name: str) -> list[str]:
    """Write all files, or none, into a new folder; give their names."""
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".kronax-") as scratch:
            folder = Path(scratch, out.name)
            folder.mkdir()
            names = _quickstart.write(result, folder, name)
            folder.rename(out)
    except OSError as error:
        msg = f"{out} cannot be written: {error.strerror or error}."
        raise InputError(msg) from error
    return names


if __name__ == "__main__":
    sys.exit(main())
