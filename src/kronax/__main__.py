"""``python -m kronax``: the quickstart, on the data that come with scanpy or on a file; ``complete``: see there."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from anndata import AnnData

from kronax import __version__
from kronax._cli import complete, quickstart
from kronax._cli.output import InputError, parts_of, require_new, write_all
from kronax._data import keys
from kronax._logging import logger

DESCRIPTION = """\
Learn a cell graph and a gene graph together from one count matrix; then cluster the cells, group the genes into
modules, draw both and report. Without FILE, this is done on 700 blood cells that come with scanpy.
"""
EPILOG = """\
Written to DIR, which must not exist yet: the annotated data (.h5ad), umap.png and gene_modules.png. Nothing is written
if anything fails. Exit codes: 0, done; 2, the input or an option cannot be used; 130, interrupted.

examples:
  python -m kronax
  python -m kronax cells.h5ad --layer counts --label cell_type --out results

To predict the profiles that a table of treatments and contexts lacks: python -m kronax complete --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 if all went well, 2 if what was given cannot be used, 130 if interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["complete"]:
        job, args = complete.complete, complete.parser().parse_args(words[1:])
    else:
        job, args = run_quickstart, parser().parse_args(words)
    try:
        with plain_warnings():
            job(args)
    except InputError as error:
        print(f"python -m kronax: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print every warning once, on one line and without the line of code that it comes from."""
    told = set()

    def tell(message: Warning | str, *_args: object, **_kwargs: object) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            print(f"warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


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
    found.add_argument("--gene-symbols", metavar="VAR_COLUMN", help="names of the genes to draw (default: var_names)")
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
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to make, with its parents (default: kronax-quickstart, or kronax-FILE)",
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


def run_quickstart(args: argparse.Namespace) -> None:
    """Read, run, report and write."""
    name = "quickstart" if args.file is None else args.file.stem
    out = args.out or Path(f"kronax-{name}")
    if args.file is None and (args.layer or args.label or args.gene_symbols):
        msg = "--layer, --label and --gene-symbols belong to a file: python -m kronax FILE.h5ad …"
        raise InputError(msg)
    require_new(out)
    adata = quickstart.example() if args.file is None else read(args.file)
    label = "bulk_labels" if args.file is None else args.label
    quickstart.check(adata, args.layer, label, args.gene_symbols)
    result = quickstart.run(
        adata,
        layer=args.layer,
        label=label,
        n_top_genes=args.n_top_genes,
        n_neighbors=args.n_neighbors,
        resolution=args.resolution,
        gene_symbols=args.gene_symbols,
    )
    print(f"\nkronax {__version__} on {args.file or 'pbmc68k_reduced, which comes with scanpy'}\n")
    print(quickstart.report(result))
    logger.info("writing")
    names = write(result, out, name)
    print(f"\nWritten to {out}: {', '.join(names)}.")
    print(following(result, out / names[0]))
    if args.file is None:
        print("Your own data: python -m kronax FILE.h5ad --layer counts --label OBS_COLUMN")


def following(result: quickstart.Result, path: Path) -> str:
    """Give lines of Python that go on from the file as they stand."""
    lines = [
        "import scanpy as sc",
        f"adata = sc.read_h5ad({json.dumps(path.as_posix(), ensure_ascii=False)})",
        f'sc.pl.embedding(adata, "{quickstart.UMAP}", color="{quickstart.CLUSTERS}")',
        f'sc.tl.paga(adata, groups="{quickstart.CLUSTERS}", neighbors_key="{keys.MED_MAGMA}")',
    ]
    if result.has_modules:
        lines.append(f'print(*adata.var_names[adata.var["{keys.GENE_MODULE}"] == "0"])  # the largest module')
    return "\n".join(["Next, in Python:", *(f"  {line}" for line in lines)])


def read(path: Path) -> AnnData:
    """Read an .h5ad file."""
    import anndata

    parts = parts_of(path, "an .h5ad")
    if "mod" in parts:
        msg = (
            f"{path} holds several modalities. In Python, kx.tl.med_magma(mudata.read_h5mu(path)) makes one cell graph of "
            "all; here, write one of them to an .h5ad file."
        )
        raise InputError(msg)
    if not {"obs", "var"} <= parts:
        msg = f"{path} is not an .h5ad file: it has no obs and var, but {sorted(parts)}."
        raise InputError(msg)
    return anndata.read_h5ad(path)


def write(result: quickstart.Result, out: Path, name: str) -> list[str]:
    """Write all files, or none, into a new folder, made with its parents; give their names."""
    return write_all(out, lambda folder: quickstart.write(result, folder, name))


if __name__ == "__main__":
    sys.exit(main())
