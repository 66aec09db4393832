"""The tensor that ``python -m kronax complete`` starts from: a file of it, of profiles, or of counts of cells."""

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.api.types import is_object_dtype

from kronax import pp
from kronax._cli import effects, files, tables
from kronax._cli.refusals import InputError, refused
from kronax._cli.terminal import note
from kronax._data import doubts, keys, objects
from kronax._logging import logger, warn
from kronax.solvers import checks

TEXT = (".csv", ".tsv", ".txt")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
_OURS = (*keys.OF_PROFILES, keys.N_PROFILES, keys.PREDICTED_VALUES, *keys.OF_EFFECTS)
_TREATMENT, _CONTEXT, _GENE = "treatment", "context", "gene"  # columns of tables, unless others are named
_ABOUT = re.compile(
    r"(^|[\W_])(dose|dosage|conc|concentration|time|timepoint|hours?|days?|duration|plate|batch|replicate|well|row|donor|passage|age|"
    r"n_cells|cells|counts|cluster)(\d*$|[\W_])",
    re.IGNORECASE,
)  # names of columns that hold numbers, and are no genes
_WITH_COMMAS = re.compile(r"[+-]?\d[\d.]*,[\d.,]*(e[+-]?\d+)?", re.IGNORECASE)
_MOST_TEXTS = 0.5  # of the entries of a column that may have been meant as a gene
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
    suffix = Path(args.file.name.removesuffix(".gz")).suffix.lower()
    if suffix in TEXT:
        return _of_table(args)
    if suffix in _SPREADSHEETS:
        msg = f"{args.file} is a spreadsheet; save it as .csv. The others that can be read: .tsv, .csv.gz, .h5mu, .h5ad, .zarr."
        raise InputError(msg)
    if args.not_genes:
        msg = f"--not-genes names columns of a table; the genes of {args.file} are its var."
        raise InputError(msg)
    if args.file.suffix == ".h5mu" or files.has_modalities(args.file):
        given = {"--treatment": args.treatment, "--context": args.context, "--p-max": args.p_max}
        if named := [option for option, value in given.items() if value is not None]:
            msg = f"{args.file} has one modality per context, treatments x genes, already; leave {' and '.join(named)} out."
            raise InputError(msg)
        return files.read_h5mu(args.file), args.layer, None
    return _of_rows(files.read_cells(args.file), args, _AS_OPTIONS)


def _of_rows(
    adata: AnnData, args: argparse.Namespace, words: dict[str, str]
) -> tuple[MuData, str | None, AnnData | None]:
    """Arrange profiles, or the effects in counts of cells; ``words`` say what Python's names are called here."""
    found = None
    if args.control:
        adata = found = effects.compute(adata, args, words=words)
    treatment, context = _columns(adata, args)
    if found is None and effects.KEY not in adata.uns:
        _tell_of_controls(adata, treatment)
    if args.p_max is not None:
        if "p_value" not in adata.obs:
            msg = "--p-max needs effects with a p-value: obs['p_value'], as python -m kronax effects writes it."
            raise InputError(msg)
        adata = effects.sure(adata, args.p_max)
    with refused(words):
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
    table = _read(args)
    context = args.context or _CONTEXT
    if context in table:
        _require_savable(table[context], args.file)
    words = _AS_OPTIONS | _as_in_table(args)
    if args.treatment is None and {_GENE, context} <= set(table):
        if args.not_genes:
            msg = f"--not-genes: the columns of {args.file} are treatments, for it has the columns {context!r} and {_GENE!r}."
            raise InputError(msg)
        return _by_gene(table, context, args.file, words), None, None
    return _of_rows(_profiles(table, args), args, words)


def _read(args: argparse.Namespace) -> pd.DataFrame:
    """Read a table, without the names of rows that an unnamed first column holds."""
    table = tables.read(args.file, _of_names(args))
    if table.columns[0].startswith(tables.UNNAMED.format(0)):
        table = table.iloc[:, 1:]
    with refused():
        for name in filter(None, (args.treatment, args.context, args.replicate, *args.not_genes)):
            checks.known(name, table.columns, "column", where=str(args.file))
    return table


def _of_names(args: argparse.Namespace) -> set[str]:
    """Name the columns that hold names; where treatments have one, a column with the name of the genes' may be a gene."""
    named = {args.treatment or _TREATMENT, args.context or _CONTEXT}
    return named | {args.replicate} - {None} | (set() if args.treatment else {_GENE})


def _require_savable(contexts: pd.Series, path: Path) -> None:
    """Require contexts that can name parts of the file of results."""
    if spoilt := [repr(name) for name in contexts.dropna().unique() if not checks.savable(name)]:
        msg = f"{path}: contexts name parts of the results, and {checks.listed(spoilt)} cannot."
        msg += f" Write others in column {contexts.name!r}, without '/' or a backslash, and neither '.' nor '..'."
        raise InputError(msg)


def _as_in_table(args: argparse.Namespace) -> dict[str, str]:
    """Say what Python's names of parts of an object are called in a table, and leave code for such an object out."""
    return {re.escape(f"`adata.obs[{name!r}]`"): f"column {name!r} of {args.file}" for name in _of_names(args)} | {
        "`adata.X`": str(args.file),
        "a missing value is NaN": "leave what is missing empty",
        ", `adata = [^`]*`": "",
    }


def _by_gene(table: pd.DataFrame, context: str, path: Path, words: dict[str, str]) -> MuData:
    """Convert a row for each context and gene, a column for each treatment."""
    values = table.drop(columns=[context, _GENE])
    texts = [name for name in values if not _is_number(values[name])]
    if texts or values.empty:
        msg = f"{path} has the columns {context!r} and {_GENE!r}; the others must hold the values of one treatment each"
        msg += f", but {texts[0]!r} holds texts." if texts else ", but there is none."
        raise InputError(msg)
    names = table[[context, _GENE]].set_axis(values.index.astype(str))
    adata = AnnData(values.to_numpy(np.float64), obs=names, var=pd.DataFrame(index=values.columns))
    with refused(words):
        return pp.from_wide(adata, context_key=context, gene_key=_GENE)


def _profiles(table: pd.DataFrame, args: argparse.Namespace) -> AnnData:
    """Convert a row for each profile or cell: columns with numbers are genes, except those that are named, and our own."""
    named = _of_names(args) | set(args.not_genes)
    about = [name for name in table if name in named or name in _OURS or not _is_number(table[name])]
    genes = [name for name in table if name not in about]
    if _GENE in about and len(genes) == 1:
        pair = [args.treatment or _TREATMENT, args.context or _CONTEXT]
        msg = (
            f"{args.file} has a row for every gene of a profile, with its value in column {genes[0]!r}; rows must be profiles, and columns "
            f"genes. With pandas: `pd.read_csv({args.file.name!r}, dtype=dict.fromkeys({pair!r}, str)).pivot(index={pair!r}, columns={_GENE!r}, "
            f"values={genes[0]!r}).reset_index().to_csv('profiles.csv', index=False)`."
        )
        raise InputError(msg)
    texts = [name for name in about if name not in named and name not in _OURS]
    if not genes:
        raise InputError(_no_genes(table, texts, args.file))
    logger.info(
        "%s: %d columns with numbers are genes (%s); of the others: %s",
        args.file.name,
        len(genes),
        genes[0] if len(genes) == 1 else f"{genes[0]} to {genes[-1]}",
        ", ".join(about),
    )
    _tell_of_columns(table, genes, texts)
    obs = table[about].set_axis(table.index.astype(str))
    obs = obs.astype(
        {name: "boolean" for name in obs if _is_flag(obs[name])}
    )  # with missing ones, objects cannot be written
    return AnnData(table[genes].to_numpy(np.float64), obs=obs, var=pd.DataFrame(index=genes))


def _no_genes(table: pd.DataFrame, texts: list[str], path: Path) -> str:
    """Say why a table has no genes, and what to do."""
    if "effect_size" in table:
        return f"{path} says how large effects are, and has no genes. Complete effects.h5ad, which python -m kronax effects writes too."
    for name in texts:
        if with_comma := next(filter(_WITH_COMMAS.fullmatch, map(str, table[name].dropna())), None):
            return (
                f"{path}: {name!r} has numbers with commas, such as {with_comma}. Write them with a decimal point and nothing between "
                "thousands; decimal commas will do where semicolons stand between columns."
            )
    columns = checks.listed(list(table.columns), most=8)
    return f"{path} has no column of numbers that could be a gene; its columns: {columns}"


def _is_flag(column: pd.Series) -> bool:
    """Return whether a column holds true, false and missing values."""
    there = column.dropna()
    return is_object_dtype(column) and len(there) > 0 and all(isinstance(value, bool) for value in there)


def _tell_of_columns(table: pd.DataFrame, genes: list[str], texts: list[str]) -> None:
    """Warn of genes with names of something else, and of columns that would be genes without a few entries."""
    if about := [name for name in genes if _ABOUT.search(name)]:
        options = " ".join(f"--not-genes {shlex.quote(name)}" for name in about[:5])
        warn(
            f"{checks.listed(about)} may be no gene{'s' if len(about) > 1 else ''}, but what a row is about: {options} leaves {'them' if len(about) > 1 else 'it'} out."
        )
    found = {name: _not_numbers(table[name]) for name in texts}
    if spoilt := [
        name for name, entries in found.items() if 0 < len(entries) <= _MOST_TEXTS * table[name].notna().sum()
    ]:
        first = spoilt[0]
        warn(
            f"{checks.listed(spoilt)} {'is' if len(spoilt) == 1 else 'are'} not taken for genes: {checks.number(len(found[first]), 'value')} "
            f"of {first!r} {'is' if len(found[first]) == 1 else 'are'} no number, such as {found[first].iloc[0]!r}. Leave what is missing empty."
        )


def _not_numbers(column: pd.Series) -> pd.Series:
    """Return the entries that are there and no number."""
    there = column.dropna()
    return there[pd.to_numeric(there, errors="coerce").isna()]


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
