"""Tables in files, with commas, semicolons or tabs; names stay the text that is there."""

import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import pandas as pd

from kronax._cli.refusals import InputError, in_words
from kronax.solvers import checks

UNNAMED = "Unnamed: {}"  # as pandas calls such columns
_MARK = "="  # before texts while pandas reads them, which would take some, such as NA, for missing
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")


def read(path: Path, of_names: Collection[str | int]) -> pd.DataFrame:
    """Read a table with names in its first row; of columns ``of_names``, by name or place, only an empty entry is missing."""
    try:
        header, form = _form(path)
        names = [name or UNNAMED.format(place) for place, name in enumerate(header)]
        as_text = [place for place, name in enumerate(names) if place in of_names or name in of_names]
        table = pd.read_csv(
            path,
            **form,
            encoding="utf-8-sig",
            header=0,
            names=range(len(names)),
            index_col=False,
            converters=dict.fromkeys(as_text, _MARK.__add__),
            low_memory=False,
        )
        for place in as_text:
            entries = table[place].astype(object).str.removeprefix(_MARK)
            table[place] = entries.where(entries != "")
    except (OSError, ValueError, EOFError, csv.Error, zlib.error) as error:
        msg = f"{path} cannot be read as a table with names in its first row: {in_words(error)}."
        raise InputError(msg) from error
    if table.empty:
        msg = f"{path} has names in its first row and no row below."
        raise InputError(msg)
    named = pd.Series([name for name in header if name])
    if repeated := list(named[named.duplicated()].unique()):
        msg = f"{path} has several columns of one name: {checks.listed(repeated)}. Rename or remove all but one."
        raise InputError(msg)
    spare = [place for place in table if place > 0 and not header[place] and table[place].isna().all()]
    return table.set_axis(names, axis=1).drop(columns=[names[place] for place in spare])


def _form(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the names of columns, empty where there is none, and what stands between columns and before decimals."""
    with _opened(path) as file:
        lines = (line for line in file if line.strip())
        start, second = next(lines, ""), next(lines, "")
        separator = _separator(start, second)
        rows = csv.reader(itertools.chain([start, second], lines), delimiter=separator)
        header, first = next(rows, []), next(rows, [])
        if len(first) > len(header) + 1:
            msg = f"the first row has {len(header)} names, the second {len(first)} entries"
            raise ValueError(msg)
        if len(first) == len(header) + 1:
            full = (row for row in itertools.chain([first], rows) if len(row) == len(first))
            ends_with_separator = all(not row[-1] for row in full)
            header = [*header, ""] if ends_with_separator else ["", *header]  # the latter as R writes row names
    commas = separator == ";" and any(_DECIMAL_COMMA.fullmatch(entry) for entry in first[1:])  # as spreadsheets write
    return header, {"sep": separator, "decimal": "," if commas else "."}


def _separator(first: str, second: str) -> str:
    """Return what stands between columns; the last two where nothing else does, a blank as R writes by default."""
    for line, signs in ((first, ",;\t"), (second, ",;\t"), (first, "|"), (first, " ")):
        if (sign := max(signs, key=line.count)) in line:
            return sign
    return ","


def _opened(path: Path) -> IO[str]:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="")
