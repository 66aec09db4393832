"""The tensor that ``python -m kronax complete`` starts from: a file of it, of profiles, or of counts of cells."""

import argparse
import gzip
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax import pp
from kronax._cli import effects, files
from kronax._cli.refusals import InputError, in_words, refused
from kronax._cli.terminal import note
from kronax._data import doubts, keys, objects
from kronax._logging import logger

TEXT = (".csv", ".tsv", ".txt")
PREDICTED_VALUES = "predicted_values"  # a column of our own tables
_OURS = (*keys.OF_PROFILES, keys.N_PROFILES, PREDICTED_VALUES, *keys.OF_EFFECTS)
_TREATMENT, _CONTEXT, _GENE = "treatment", "context", "gene"  # columns of tables, unless others are named
_FIRST = "run python -m kronax effects {} first, and complete its effects.h5ad"
_AS_OPTIONS = {
    "`treatment_key`": "--treatment",
    "`context_key`": "--context",
    "`replicate_key`": "--replicate",
    "`control`": "--control",
    "`obs_key`": "--treatment",
    "`layer=…`": "--layer",
    "`min_cells`": "--min-cells of python -m kronax effects",
    "use method='log_fold_change'": _FIRST.format("--method log_fold_change"),
    "Use method='log_fold_change'": _FIRST.format("--method log_fold_change").capitalize(),
    "pass `log=False`": _FIRST.format("--no-log"),
    "pass `rows='replicates'`": _FIRST.format("--rows replicates"),
}


def read(args: argparse.Namespace) -> tuple[MuData, str | None, AnnData | None]:
    """Read a tensor; return it, the layer to complete, and the effects that it was made of, if it was."""
    if Path(args.file.name.removesuffix(".gz")).suffix.lower() in TEXT:
        return _of_table(args)
    if args.file.suffix == ".h5mu" or files.has_modalities(args.file):
        given = {"--treatment": args.treatment, "--context": args.context, "--p-max": args.p_max}
        if named := [option for option, value in given.items() if value is not None]:
            msg = f"{args.file} has one modality per context, treatments x genes, already; leave {' and '.join(named)} out."
            raise InputError(msg)
        return files.read_h5mu(args.file), args.layer, None
    return _of_rows(files.read_cells(args.file), args)


def _of_rows(adata: AnnData, args: argparse.Namespace) -> tuple[MuData, str | None, AnnData | None]:
    """Arrange profiles, or the effects in counts of cells."""
    found = None
    if args.control:
        adata = found = effects.compute(adata, args, words=_AS_OPTIONS)
    treatment, context = _columns(adata, args)
    if found is None and effects.KEY not in adata.uns:
        _tell_of_controls(adata, treatment)
    if args.p_max is not None:
        if "p_value" not in adata.obs:
            msg = "--p-max needs effects with a p-value: obs['p_value'], as python -m kronax effects writes it."
            raise InputError(msg)
        adata = effects.sure(adata, args.p_max)
    with refused(_AS_OPTIONS):
        mdata = pp.tensor(adata, obs_key=treatment, context_key=context, layer=None if args.control else args.layer)
    return mdata, None, found


def _tell_of_controls(adata: AnnData, treatment: str) -> None:
    """Say that effects could be computed, where treatments have names like controls."""
    if names := doubts.controls(adata.obs[treatment].dropna().unique()):
        control = " ".join(f"--control {shlex.quote(name)}" for name in names)
        note(
            f"{treatment} has controls: if the rows are counts of cells, name them, {control}, and effects are computed first."
        )


def _columns(adata: AnnData, args: argparse.Namespace) -> tuple[str, str]:
    """Name the columns of treatments and contexts: as asked for, or as effects say, or a table usually has them."""
    known = adata.uns.get(effects.KEY, {})
    known = known if isinstance(known, dict) else {}
    found = []
    for option, key, usual in (("treatment", "treatment_key", _TREATMENT), ("context", "context_key", _CONTEXT)):
        column = getattr(args, option) or known.get(key, usual if usual in adata.obs else None)
        if column is None:
            there = ", ".join(map(str, adata.obs)) or "none"
            msg = f"{args.file} has a row for each profile or cell; name the column with the {option}s: --{option} COLUMN. There are: {there}."
            raise InputError(msg)
        with refused():
            objects.key_in(column, adata.obs, "adata.obs")
        found.append(column)
    return found[0], found[1]


def _of_table(args: argparse.Namespace) -> tuple[MuData, str | None, AnnData | None]:
    """Read a table, in either of two layouts."""
    if args.layer is not None:
        msg = f"--layer: {args.file} is a table, and has no layers."
        raise InputError(msg)
    table = _read(args.file)
    context = args.context or _CONTEXT
    if args.treatment is None and {_GENE, context} <= set(table):
        return _by_gene(table, context, args.file), None, None
    return _of_rows(_profiles(table, args), args)


def _read(path: Path) -> pd.DataFrame:
    """Read a table with commas, semicolons or tabs; names in an unnamed first column are left out."""
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig") as file:
            header, first = file.readline(), file.readline()
        separator = max(",;\t", key=header.count)
        decimal = "," if separator == ";" and re.search(r";-?\d+,\d+(;|$)", first) else "."  # as spreadsheets write
        table = pd.read_csv(path, sep=separator, decimal=decimal, encoding="utf-8-sig", low_memory=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path} cannot be read as a table with names in its first row: {in_words(error)}."
        raise InputError(msg) from error
    table.columns = table.columns.astype(str)
    if table.shape[1] and table.columns[0].startswith("Unnamed: 0"):
        table = table.iloc[:, 1:]
    return table


def _by_gene(table: pd.DataFrame, context: str, path: Path) -> MuData:
    """Convert a row for each context and gene, a column for each treatment."""
    values = table.drop(columns=[context, _GENE])
    texts = [name for name in values if not _is_number(values[name])]
    if texts or values.empty:
        msg = f"{path} has the columns {context!r} and {_GENE!r}; the others must hold the values of one treatment each"
        msg += f", but {texts[0]!r} holds texts." if texts else ", but there is none."
        raise InputError(msg)
    names = table[[context, _GENE]].astype(str).set_axis(values.index.astype(str))
    adata = AnnData(values.to_numpy(np.float64), obs=names, var=pd.DataFrame(index=values.columns))
    with refused():
        return pp.from_wide(adata, context_key=context, gene_key=_GENE)


def _profiles(table: pd.DataFrame, args: argparse.Namespace) -> AnnData:
    """Convert a row for each profile or cell: columns with numbers are genes, except those that are named, and our own."""
    named = {args.treatment or _TREATMENT, args.context or _CONTEXT, args.replicate}
    about = [name for name in table if name in named or name in _OURS or not _is_number(table[name])]
    genes = [name for name in table if name not in about]
    if not genes:
        msg = f"{args.file} has no column of numbers that could be a gene; its columns: {', '.join(map(str, table.columns[:8]))}, …"
        raise InputError(msg)
    logger.info(
        "%s: %d columns with numbers are genes; of the others: %s", args.file.name, len(genes), ", ".join(about)
    )
    obs = table[about].set_axis(table.index.astype(str))
    return AnnData(table[genes].to_numpy(np.float64), obs=obs, var=pd.DataFrame(index=genes))


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
