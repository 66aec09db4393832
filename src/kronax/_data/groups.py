"""Groups of cells, such as types, within which genes are looked at too: a column of ``obs``, read and checked."""

from anndata import AnnData
from mudata import MuData

from kronax._data import labels
from kronax._data.graph_in import Matrices
from kronax._logging import warn
from kronax.solvers import checks
from kronax.solvers.rows.groups import Groups


def check(groupby: str | None, **others: tuple[object, tuple[object, ...]]) -> None:
    """Require the name of a column, and that other arguments, ``name=(value, needed)``, are as groups need them."""
    if groupby is None:
        return
    checks.text(groupby, "groupby", "one column of `obs`")
    for name, (value, needed) in others.items():
        if value not in needed:
            meant = " or ".join(f"{name}={option!r}" for option in needed)
            msg = f"`groupby` looks at genes within groups of cells too, which needs {meant}; found {name}={value!r}."
            raise ValueError(msg)


def read(data: AnnData | MuData, groupby: str | None, matrices: Matrices) -> dict[str, Groups | None]:
    """Read the groups of the cells of every matrix; None without a key, or where there is one alone."""
    if groupby is None:
        return dict.fromkeys(matrices.counts)
    return {name: _read_one(column, matrices, name) for name, column in labels.columns(data, groupby).items()}


def _read_one(column: labels.Column, matrices: Matrices, name: str) -> Groups | None:
    cells = matrices.counts[name].cells
    codes, names = labels.categories(column, cells, "group")
    if 2 * len(names) > len(cells):
        msg = (
            f"{column[1]} has {len(names):,} values for {checks.number(len(cells), 'cell')}: fewer than two cells for a group, "
            "within which little or nothing varies. Name a column of cell types or clusters."
        )
        raise ValueError(msg)
    if len(names) == 1:
        warn(
            f"All cells of {column[1]} are of one group ({names[0]}): genes are looked at in all of them together, and no clusters are looked for."
        )
        return None
    return Groups(codes, len(names))
