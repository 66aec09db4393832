import gzip
import os
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import objects
from kronax.solvers import checks

_MISSING = "-666"  # in the files of the Connectivity Map
_MATRIX, _ROWS, _COLUMNS = "0/DATA/0/matrix", "0/META/ROW", "0/META/COL"
_VERSIONS = ("#1.2", "#1.3")
_NO_VALUE = ("", "na", "n/a", "nan", "null", "none", "value")  # in small letters, without "#", "-" and "!"


def from_gct(
    path: str | os.PathLike, *, samples: Iterable[str] | None = None, genes: Iterable[str] | None = None
) -> AnnData:
    r"""Read a GCT or GCTX file, such as those of the L1000, or a part of it.

    In these files, genes are rows and samples columns. Of a GCTX file, only the part asked for is read.

    Parameters
    ----------
    path
        ``.gctx``, ``.gct`` or ``.gct.gz`` file.
    samples
        Identifiers of samples (signatures), in the order wanted; all if None.
    genes
        Identifiers of genes, likewise.

    Returns
    -------
    AnnData, samples × genes:

    ``X`` : dense
        The values: float32 from GCTX files as they store it, float64 from text.
    ``obs``, ``var``
        What the file tells of samples and genes, with their identifiers as names. ``-666``, which stands for a missing value,
        is NaN; a column of numbers in text becomes numeric.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If an identifier is not in the file.
    ValueError
        If the file is neither GCT nor GCTX, is cut off, or has texts in its matrix.

    See Also
    --------
    kronax.pp.effects : From replicates with controls to effects, with ``rows="replicates"`` and ``log=False``.
    kronax.pp.tensor : From signatures, which are effects already, to a tensor.

    References
    ----------
    :cite:t:`Enache2019`, for the formats.

    Examples
    --------
    >>> import kronax as kx
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "small.gct"
    >>> _ = path.write_text("#1.3\n2\t2\t0\t1\nid\ts1\ts2\npert\tDMSO\tdrug\ng1\t0.5\t1\ng2\t2\t3\n")
    >>> kx.pp.from_gct(path).to_df()
         g1   g2
    s1  0.5  2.0
    s2  1.0  3.0
    """
    path = Path(path)
    if not path.is_file():
        msg = f"There is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    wanted = {
        name: None if ids is None else checks.texts(ids, name, f"identifiers of {name}")
        for name, ids in (("samples", samples), ("genes", genes))
    }
    read = _read_hdf5 if h5py.is_hdf5(path) else _read_text
    return read(path, wanted["samples"], wanted["genes"])


def _read_hdf5(path: Path, samples: list[str] | None, genes: list[str] | None) -> AnnData:
    with h5py.File(path, "r") as file:
        if missing := [name for name in (_MATRIX, f"{_ROWS}/id", f"{_COLUMNS}/id") if name not in file]:
            msg = f"{str(path)!r} is an HDF5 file but no GCTX file: it has no {checks.listed(missing)}."
            raise ValueError(msg)
        obs, var = _table(file[_COLUMNS]), _table(file[_ROWS])
        if (shape := file[_MATRIX].shape) != (len(obs), len(var)):
            msg = f"{str(path)!r} is damaged: its matrix, samples × genes, is {' × '.join(map(str, shape))}, and it names {len(obs)} samples and {len(var)} genes."
            raise ValueError(msg)
        rows, cols = _positions(obs.index, samples, "sample"), _positions(var.index, genes, "gene")
        values = _part(file[_MATRIX], rows, cols)
    return AnnData(values, obs=obs.iloc[rows], var=var.iloc[cols])


def _part(stored: h5py.Dataset, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Read rows and columns in any order; h5py takes those of one axis, ascending."""
    if len(rows) == stored.shape[0]:
        return stored[:][np.ix_(rows, cols)]
    order = np.argsort(rows)
    found = np.empty((len(rows), len(cols)), stored.dtype)
    found[order] = stored[rows[order], :][:, cols]
    return found


def _table(group: h5py.Group) -> pd.DataFrame:
    columns = {name: _decoded(dataset[:]) for name, dataset in group.items()}
    index = pd.Index(columns.pop("id").astype(str))
    return pd.DataFrame({name: _numbers(pd.Series(values)).to_numpy() for name, values in columns.items()}, index=index)


def _decoded(values: np.ndarray) -> np.ndarray:
    texts = [objects.text(value) if isinstance(value, bytes) else value for value in values.tolist()]
    return np.array([text.strip("\0 ") if isinstance(text, str) else text for text in texts], dtype=object)


def _numbers(column: pd.Series) -> pd.Series:
    """Return a column with NaN for what is missing, as numbers if all others are."""
    column = column.where(column.astype(str) != _MISSING, np.nan)
    try:
        numbers = pd.to_numeric(column)
    except (TypeError, ValueError):
        return column.map(str, na_action="ignore")
    return numbers.where(numbers != float(_MISSING))  # also "-666.0"


def _positions(index: pd.Index, wanted: list[str] | None, what: str) -> np.ndarray:
    if wanted is None:
        return np.arange(len(index))
    where = {name: number for number, name in enumerate(index)}
    for name in wanted:
        checks.known(name, where, what)
    return np.array([where[name] for name in wanted], dtype=np.intp)


def _sizes(line: str, version: str, path: Path) -> list[int]:
    """Read how many genes and samples there are, and columns that describe them: one of genes, in version 1.2."""
    found, n = line.split(), 2 if version == "#1.2" else 4
    if len(found) < n or not all(text.isdecimal() for text in found[:n]):
        msg = f"{str(path)!r} is no GCT file: its second line should have {n} numbers, found {line.strip()[:40]!r}."
        raise ValueError(msg)
    return [*map(int, found[:n]), 1, 0][:4]


def _matrix(table: pd.DataFrame, path: Path) -> np.ndarray:
    """Return numbers, NaN where a value is missing."""
    texts = table.to_numpy(dtype=object)
    values = pd.to_numeric(pd.Series(texts.ravel()), errors="coerce").to_numpy(np.float64).reshape(texts.shape)
    odd = [text for text in texts[np.isnan(values)] if text.strip().casefold().strip("#-!") not in _NO_VALUE]
    if odd:
        msg = f"{str(path)!r} has {checks.number(len(odd), 'value')} in its matrix that are no numbers: {checks.listed(odd)}."
        raise ValueError(msg)
    return values


def _is_compressed(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read_text(path: Path, samples: list[str] | None, genes: list[str] | None) -> AnnData:
    try:
        with (gzip.open if _is_compressed(path) else open)(path, "rt", encoding="utf-8-sig") as file:
            version = file.readline().strip()
            if version not in _VERSIONS:
                msg = f"{str(path)!r} is no GCT file: its first line is {version[:40]!r}, not {' or '.join(_VERSIONS)}."
                raise ValueError(msg)
            n_genes, n_samples, n_of_genes, n_of_samples = _sizes(file.readline(), version, path)
            text = file.read()
        # no header, or repeated names would be changed
        table = pd.read_csv(StringIO(text), sep="\t", dtype=str, keep_default_na=False, header=None)
    except UnicodeDecodeError as error:
        msg = f"{str(path)!r} is no text in UTF-8: {error}. Write it anew in that encoding."
        raise ValueError(msg) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, EOFError) as error:
        msg = f"{str(path)!r} is cut off or damaged: {error}."
        raise ValueError(msg) from error
    table = table.iloc[1:].set_axis(table.iloc[0].tolist(), axis=1)
    n_lines, width = n_of_samples + n_genes, 1 + n_of_genes + n_samples
    n_last = 1 + text.rstrip("\r\n ").rpartition("\n")[2].count("\t")
    if n_last == table.shape[1] == width + 1 and table.columns[width] == "" and (table.iloc[:, width] == "").all():
        table, n_last = table.iloc[:, :width], width  # every line ends with a tab
    if (*table.shape, n_last) != (n_lines, width, width):
        msg = (
            f"{str(path)!r} is cut off or damaged: {n_genes} genes and {n_samples} samples are announced, which makes "
            f"{n_lines} lines of {width} fields; found {table.shape[0]} of {table.shape[1]}, the last of {n_last}."
        )
        raise ValueError(msg)
    first = 1 + n_of_genes
    names = pd.Index(table.iloc[n_of_samples:, 0].tolist())
    obs = pd.DataFrame(
        {table.iloc[row, 0]: _numbers(table.iloc[row, first:]).to_numpy() for row in range(n_of_samples)},
        index=pd.Index(table.columns[first:].astype(str)),
    )
    var = pd.DataFrame(
        {table.columns[col]: _numbers(table.iloc[n_of_samples:, col]).to_numpy() for col in range(1, first)},
        index=names,
    )
    rows, cols = _positions(obs.index, samples, "sample"), _positions(var.index, genes, "gene")
    values = _matrix(table.iloc[n_of_samples:, first:].iloc[cols, rows], path)
    return AnnData(np.ascontiguousarray(values.T), obs=obs.iloc[rows], var=var.iloc[cols])
