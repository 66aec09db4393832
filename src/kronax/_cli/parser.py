"""The words of the command line: which job, and with what. What a job needs is imported when it begins, or its help is asked for."""

import argparse
import difflib
import itertools
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args

from kronax import __version__
from kronax._cli.refusals import InputError, require_there
from kronax._cli.results import Results
from kronax.solvers.tensor.method_name import MethodName

Job = Callable[[argparse.Namespace, Results], None]

MIN_CELLS = 3
MIN_CELLS_OF_SAMPLES = 10
EFFECTS = ("characteristic_direction", "log_fold_change", "z_score")
N_FOLDS = 3
_CELLS = "an .h5ad file or a .zarr store"
_NEEDED = {"graphs": _CELLS, "effects": _CELLS, "tensors": "an .h5mu, .h5ad or .csv file"}

_CODES = """\
Exit codes: 0, done; 2, the input or an option cannot be used, and nothing is written; 3, the data are written, but
something else, such as a figure, could not be made; 130 or 143, interrupted: nothing is written, or what is then named."""
_GRAPHS = """\
Learn a cell graph and a gene graph together from one count matrix; then cluster the cells, group the genes into
modules, draw both and report. FILE is an .h5ad file or a .zarr store. Without FILE, this is done on 700 blood cells
that come with scanpy.
"""
_MORE_ON_GRAPHS = f"""\
Written to DIR, which must not exist yet: first the annotated data (.h5ad), whole or not at all, then umap.png,
gene_modules.png, edges.csv (the edges between genes, the strongest first, with their q values) and genes.csv (the genes of
every module, hubs first). The data have the chosen genes; all genes of FILE, as they were read, are in raw, for marker genes (not
with --out-of-core, nor if FILE has a raw of its own, which is kept). What the file has under the names of results is kept
under other names. The report says how well clusters agree with the labels, how well batches mix, what random factors change
(up to 5,000 cells) and what the gene modules are.
{_CODES}

examples:
  python -m kronax
  python -m kronax cells.h5ad --layer counts --label cell_type --out results
  python -m kronax cells.h5ad --batch donor --label cell_type
  python -m kronax a_million_cells.zarr --out-of-core

Two more jobs, for drugs or other treatments in several cell lines:
  python -m kronax effects --help     from counts of cells, some of them controls, to the effects of treatments
  python -m kronax complete --help    predict the profiles that were not measured
"""
_EFFECTS = """\
Compute the effect of every treatment in every context (cell line, tissue, cell type), relative to controls. FILE is an
.h5ad file or a .zarr store of counts, cells x genes. Cells that share treatment, context and replicate are summed; every
sum is compared with the controls of the same replicate, or of the same context where there are none.
"""
_MORE_ON_EFFECTS = f"""\
Written to DIR, which must not exist yet: first effects.h5ad (treatment and context x genes), whole or not at all, then
effects.csv (a row for each effect, the surest first), effects.png (how large they are, and how well replicates agree) and
report.txt. A p-value needs --replicate: it says how often replicates of different treatments agree as well.
{_CODES}

examples:
  python -m kronax effects screen.h5ad --treatment drug --control DMSO --context cell_line --replicate plate
  python -m kronax complete kronax-screen-effects/effects.h5ad --p-max 0.1
"""
_TENSORS = """\
Predict the profiles that were not measured, from other treatments and other contexts (cell lines, tissues, doses). FILE is
one of these:
  .h5mu    one modality per context, each treatments x genes; a profile is missing where a modality lacks the treatment
  .h5ad    (or a .zarr store) one row for each profile, with --treatment and --context; or for each cell, with
           --control too, and effects are computed first; or effects.h5ad of python -m kronax effects, without these
  .csv     one row for each profile: a column with the treatment, one with the context, and one for each gene; or one row
           for each context and gene, in columns of these names, and a column for each treatment; .csv.gz and .tsv, too
"""
_MORE_ON_TENSORS = """\
A VALUE is a number, a word, true, false or none; several have commas between them, as in alpha=1,0.5,0. The names:
{options}
What they mean stands at kx.tl.KroneckerOptions and so on.

Written to DIR, which must not exist yet: the tensor with a layer 'completed' in every modality (.h5mu), whole or not at
all; profiles.csv, a row for each treatment in each context, measured or predicted, a column for each gene;
confidences.csv, treatments x contexts, empty where nothing was predicted; measured.png, what was measured; report.txt,
with scores of profiles that were held out; and predicted_against_true.png, those profiles.
{codes}

examples:
  python -m kronax complete responses.h5mu --method kronecker --out results
  python -m kronax complete profiles.csv --treatment drug --context cell_line
  python -m kronax complete screen.h5ad --treatment drug --context cell_line --control DMSO --replicate plate --p-max 0.1
  python -m kronax complete responses.h5mu --similarity structure.csv --contexts doses.csv
  python -m kronax complete responses.h5mu --method cp --option rank=6 --option non_negative=context
"""


def parse(words: Sequence[str]) -> tuple[Job, argparse.Namespace]:
    """Return the job that is asked for, and its settings."""
    known = {"effects": _parse_effects, "complete": _parse_completion}
    job, args = known[words[0]](words[1:]) if words and words[0] in known else _parse_graphs(words, known)
    if args.file is not None:
        require_there(args.file, _NEEDED[job])
    return _when_called(job), args


def _require_no_command(file: Path, commands: Iterable[str]) -> None:
    """Refuse a command that is not the first word, or is misspelt, and was taken for a file."""
    if file.suffix or not (meant := difflib.get_close_matches(str(file).lower(), commands, n=1)):
        return
    if str(file) == meant[0]:
        msg = f"The command comes first: python -m kronax {file} …"
    else:
        msg = f"There is no command {str(file)!r}. Did you mean {meant[0]!r}? python -m kronax {meant[0]} …"
    raise InputError(msg)


def _require_single_control(words: Sequence[str], unknown: Sequence[str]) -> None:
    """Refuse several names after one --control, of which the second or third was taken for something else."""
    for at in (at for at, word in enumerate(words) if word == "--control"):
        run = itertools.takewhile(lambda word: not word.startswith("-"), words[at + 1 :])
        names = [word for word in run if not os.path.exists(word)]  # FILE may stand among them
        if len(names) > 1 and not set(names).isdisjoint(unknown):
            msg = f"--control takes one name; give it once for each: --control {shlex.quote(names[0])} --control {shlex.quote(names[1])}"
            raise InputError(msg)


def _known(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a command that takes controls, and refuse what is not known."""
    args, unknown = parser.parse_known_args(words)
    _require_single_control(words, unknown)
    _require_all_known(parser, unknown)
    return args


def _require_all_known(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> None:
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")


def _when_called(module: str) -> Job:
    """Import a job when it begins, so that an error in the words is told at once."""

    def job(args: argparse.Namespace, results: Results) -> None:
        import_module(f"kronax._cli.{module}").run(args, results)

    return job


def _parse_graphs(words: Sequence[str], commands: Iterable[str]) -> tuple[str, argparse.Namespace]:
    parser = _of_graphs()
    args, unknown = parser.parse_known_args(words)
    if args.file is not None and (unknown or not os.path.exists(args.file)):
        _require_no_command(args.file, commands)
    _require_all_known(parser, unknown)
    of_file = (args.layer, args.label, args.batch, args.gene_symbols, args.raw, args.out_of_core)
    if args.file is None and any(of_file):
        msg = "--layer, --raw, --label, --batch, --gene-symbols and --out-of-core belong to a file: python -m kronax FILE.h5ad …"
        raise InputError(msg)
    if args.layer is not None and args.raw:
        msg = "--layer and --raw name two matrices; give one of them."
        raise InputError(msg)
    args.out = args.out or Path(f"kronax-{'quickstart' if args.file is None else args.file.stem}")
    return "graphs", args


def _parse_effects(words: Sequence[str]) -> tuple[str, argparse.Namespace]:
    args = _known(_of_effects(), words)
    args.out = args.out or Path(f"kronax-{args.file.stem}-effects")
    return "effects", args


def _parse_completion(words: Sequence[str]) -> tuple[str, argparse.Namespace]:
    args = _known(_of_tensors(with_epilog=not {"-h", "--help"}.isdisjoint(words)), words)
    if args.replicate is not None and not args.control:
        msg = "--replicate belongs to the effects that are computed with --control; name the controls, too."
        raise InputError(msg)
    if args.control and (args.treatment is None or args.context is None):
        msg = "--control is a value of a column of obs: name the columns with --treatment and --context."
        raise InputError(msg)
    args.out = args.out or Path(f"kronax-{Path(args.file.name.removesuffix('.gz')).stem}")
    return "tensors", args


def _of_graphs() -> argparse.ArgumentParser:
    found = _parser("python -m kronax", _GRAPHS, _MORE_ON_GRAPHS)
    add = found.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="cells × genes, .h5ad or .zarr (default: the example)")
    add("--layer", help="layer with counts or log-normalised values (default: X)")
    add("--raw", action="store_true", help="read the matrix in raw, with its own genes, in the place of X")
    add("--out-of-core", action="store_true", help="leave the matrix in FILE, and read it in parts (kronax[dask])")
    add("--label", metavar="OBS_COLUMN", help="known labels of the cells, to compare and draw")
    add("--batch", metavar="OBS_COLUMN", help="batches of the cells: every gene has a scale of its own in each")
    add("--gene-symbols", metavar="VAR_COLUMN", help="names of the genes to draw and to print (default: var_names)")
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


def _of_effects() -> argparse.ArgumentParser:
    found = _parser("python -m kronax effects", _EFFECTS, _MORE_ON_EFFECTS)
    add = found.add_argument
    add("file", type=Path, metavar="FILE", help="counts, cells × genes, .h5ad or .zarr")
    add("--treatment", required=True, metavar="OBS_COLUMN", help="the treatments, among them the controls")
    _add_control(found, required=True)
    add("--context", required=True, metavar="OBS_COLUMN", help="the contexts: cell lines, tissues, cell types")
    _add_replicate(found)
    add("--layer", help="layer with the counts (default: X)")
    add("--method", choices=EFFECTS, default=EFFECTS[0], help=f"kind of effect (default: {EFFECTS[0]})")
    add(
        "--min-cells",
        type=_at_least(1),
        default=MIN_CELLS_OF_SAMPLES,
        metavar="N",
        help=f"leave samples out that have fewer cells (default: {MIN_CELLS_OF_SAMPLES})",
    )
    add(
        "--rows",
        choices=("cells", "replicates"),
        default="cells",
        help="what a row of the file is: 'replicates' for bulk data, which are not summed (default: cells)",
    )
    add("--no-log", action="store_true", help="values are logarithms already; they are averaged, not summed")
    _add_common(found, "kronax-FILE-effects")
    return found


def _of_tensors(*, with_epilog: bool) -> argparse.ArgumentParser:
    found = _parser("python -m kronax complete", _TENSORS, _more_on_tensors() if with_epilog else "")
    add = found.add_argument
    add("file", type=Path, metavar="FILE", help="a tensor, profiles or counts: see above")
    add("--treatment", metavar="COLUMN", help="of .h5ad and .csv: the treatments")
    add("--context", metavar="COLUMN", help="of .h5ad and .csv: the contexts")
    _add_control(found, required=False)
    _add_replicate(found)
    add("--p-max", type=_share, metavar="P", help="complete only the effects with a p-value of at most P, such as 0.1")
    add("--method", choices=get_args(MethodName), default="kronecker", help="how to predict (default: kronecker)")
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
        "--not-genes",
        action="append",
        default=[],
        metavar="COLUMN",
        help="of .csv with a row for each profile: a column of numbers that is no gene, such as a dose; for several, give it several times",
    )
    add(
        "--contexts",
        type=Path,
        metavar="FILE.csv",
        help="a row for each context: coordinates such as doses and times (as ranks, texts as categories; other scales with "
        "--option context_coordinates=dose=log,time=log), or similarities, contexts x contexts",
    )
    add(
        "--folds",
        type=_folds,
        default=N_FOLDS,
        metavar="N",
        help=f"folds of the cross-validation, each as long as the completion; 0: none (default: {N_FOLDS})",
    )
    _add_common(found, "kronax-FILE")
    return found


def _more_on_tensors() -> str:
    """Describe the options of all methods, which are imported for that."""
    from kronax._cli import options

    return _MORE_ON_TENSORS.format(options=options.names_of_all(), codes=_CODES)


def _parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_control(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--control",
        action="append",
        default=None if required else [],
        required=required,
        metavar="NAME",
        help=("" if required else "of counts of cells: ")
        + "value of the --treatment column that marks controls; for several, give it several times",
    )


def _add_replicate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replicate",
        metavar="OBS_COLUMN",
        help="what was treated apart: donors, plates or wells, with controls in each",
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


def _folds(text: str) -> int:
    if not text.isdecimal() or int(text) == 1:
        msg = f"{text!r} is neither 0 nor a whole number of at least 2"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _share(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        msg = f"{text!r} is not a number above 0 and up to 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < float("inf"):
        msg = f"{text!r} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
