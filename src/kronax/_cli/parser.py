"""The words of the command line: which job, and with what."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from kronax import __version__
from kronax._cli import graphs, options, tensors
from kronax._cli.refusals import InputError
from kronax._cli.results import Results
from kronax.solvers.tensor.registry import METHODS

Job = Callable[[argparse.Namespace, Results], None]

MIN_CELLS = 3

_CODES = """\
Exit codes: 0, done; 2, the input or an option cannot be used, and nothing is written; 3, the data are written, but
something else, such as a figure, could not be made; 130 or 143, interrupted: nothing is written, or what is then named."""
_GRAPHS = """\
Learn a cell graph and a gene graph together from one count matrix; then cluster the cells, group the genes into
modules, draw both and report. FILE is an .h5ad file or a .zarr store. Without FILE, this is done on 700 blood cells
that come with scanpy.
"""
_MORE_ON_GRAPHS = f"""\
Written to DIR, which must not exist yet: first the annotated data (.h5ad), whole or not at all, then umap.png and
gene_modules.png. What the file has under the names of results is kept under other names. The report says how well clusters
agree with the labels, how well batches mix, what random factors change (up to 5,000 cells) and what the gene modules are.
{_CODES}

examples:
  python -m kronax
  python -m kronax cells.h5ad --layer counts --label cell_type --out results
  python -m kronax cells.h5ad --batch donor --label cell_type
  python -m kronax a_million_cells.zarr --out-of-core

To predict the profiles that a table of treatments and contexts lacks: python -m kronax complete --help
"""
_TENSORS = """\
Predict the profiles that were not measured, from other treatments and other contexts. FILE holds one modality per
context (cell line, tissue, dose), each treatments × genes; a profile is missing where a modality lacks the treatment.
"""
_MORE_ON_TENSORS = f"""\
A VALUE is a number, a word, true, false or none; several have commas between them, as in alpha=1,0.5,0. The names:
{options.names_of_all()}
What they mean stands at kx.tl.KroneckerOptions and so on.

Written to DIR, which must not exist yet: the file with a layer 'completed' in every modality (.h5mu), whole or not at
all, then report.txt.
{_CODES}

examples:
  python -m kronax complete responses.h5mu --method kronecker --out results
  python -m kronax complete responses.h5mu --similarity structure.csv --contexts doses.csv
  python -m kronax complete responses.h5mu --method cp --option rank=6 --option non_negative=context
"""


def parse(words: Sequence[str]) -> tuple[Job, argparse.Namespace]:
    """Return the job that is asked for, and its settings."""
    if words[:1] == ["complete"]:
        args = _of_tensors().parse_args(words[1:])
        args.out = args.out or Path(f"kronax-{args.file.stem}")
        return tensors.run, args
    args = _of_graphs().parse_args(words)
    of_file = (args.layer, args.label, args.batch, args.gene_symbols, args.raw, args.out_of_core)
    if args.file is None and any(of_file):
        msg = "--layer, --raw, --label, --batch, --gene-symbols and --out-of-core belong to a file: python -m kronax FILE.h5ad …"
        raise InputError(msg)
    if args.layer is not None and args.raw:
        msg = "--layer and --raw name two matrices; give one of them."
        raise InputError(msg)
    args.out = args.out or Path(f"kronax-{'quickstart' if args.file is None else args.file.stem}")
    return graphs.run, args


def _of_graphs() -> argparse.ArgumentParser:
    found = _parser("python -m kronax", _GRAPHS, _MORE_ON_GRAPHS)
    add = found.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="cells × genes, .h5ad or .zarr (default: the example)")
    add("--layer", help="layer with counts or log-normalised values (default: X)")
    add("--raw", action="store_true", help="read the matrix in raw, with its own genes, in the place of X")
    add("--out-of-core", action="store_true", help="leave the matrix in FILE, and read it in parts (kronax[dask])")
    add("--label", metavar="OBS_COLUMN", help="known labels of the cells, to compare and draw")
    add("--batch", metavar="OBS_COLUMN", help="batches of the cells: every gene has a scale of its own in each")
    add("--gene-symbols", metavar="VAR_COLUMN", help="names of the genes to draw (default: var_names)")
    add(
        "--min-cells",
        type=_at_least(1),
        default=MIN_CELLS,
        metavar="N",
        help=f"leave genes out that have values in fewer cells (default: {MIN_CELLS})",
    )
    add(
        "--n-top-genes",
        type=_at_least(2),
        default=2000,
        metavar="N",
        help="highly variable genes to keep, if there are more (default: 2000)",
    )
    add(
        "--n-neighbors",
        type=_at_least(2),
        default=15,
        metavar="N",
        help="neighbours of every cell and every gene (default: 15)",
    )
    add("--resolution", type=_positive, default=1.0, metavar="R", help="of the Leiden clusters (default: 1)")
    _add_common(found, "kronax-quickstart, or kronax-FILE")
    return found


def _of_tensors() -> argparse.ArgumentParser:
    found = _parser("python -m kronax complete", _TENSORS, _MORE_ON_TENSORS)
    add = found.add_argument
    add("file", type=Path, metavar="FILE.h5mu", help="one modality per context, treatments × genes")
    add("--method", choices=list(METHODS), default="kronecker", help="how to predict (default: kronecker)")
    add(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method, such as max_iter=200; for several, give it several times",
    )
    add("--layer", help="layer with the values (default: X)")
    add(
        "--similarity",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.csv",
        help="treatments x treatments with their names, to predict those never measured; of several, the best is used",
    )
    add(
        "--contexts",
        type=Path,
        metavar="FILE.csv",
        help="a row for each context: coordinates such as doses and times (as ranks, texts as categories; other scales with "
        "--option context_coordinates=dose=log,time=log), or similarities, contexts x contexts",
    )
    _add_common(found, "kronax-FILE")
    return found


def _parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_common(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder to make, with its parents (default: {out}, in this folder)"
    )
    parser.add_argument("--version", action="version", version=f"kronax {__version__}")


def _at_least(low: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            msg = f"{text!r} is not a whole number of at least {low}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return read


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return number
