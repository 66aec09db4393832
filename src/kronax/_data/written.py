"""What all results have in common: where they stand, that files can hold them, and that nothing of an earlier one stays."""

from collections.abc import Iterable, Mapping
from typing import Any

from anndata import AnnData
from mudata import MuData

from kronax._data import keys
from kronax._data.aside import Place, set_aside


def without_none(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments without those that are None: older versions of anndata cannot read a file that holds None."""
    return {
        name: without_none(value) if isinstance(value, Mapping) else value
        for name, value in params.items()
        if value is not None
    }


def params_of(data: AnnData | MuData, key: str) -> Mapping[str, Any]:
    """Return the parameters of the result that an entry of uns describes; none if it describes no result."""
    entry = data.uns.get(key)
    params = entry.get("params") if isinstance(entry, Mapping) else None
    return params if isinstance(params, Mapping) else {}


# Where results stand, besides the entry of uns that describes them


def of_cells(key: str, matrices: Iterable[str] = keys.MATRICES) -> list[Place]:
    """Name the places of a cell graph."""
    names = keys.graph_keys(key)
    return [*(("obsp", getattr(names, matrix)) for matrix in matrices), ("obsm", names.obsm)]


def of_genes(key: str, matrices: Iterable[str] = keys.OF_GENES, *, scales: bool = True) -> list[Place]:
    """Name the places of a gene graph, and of the scales."""
    names = keys.graph_keys(key)
    found = [*(("varp", getattr(names, matrix)) for matrix in matrices), ("varm", names.varm)]
    found += [("var", names.n_tested)] if "p_value" in matrices else []
    return [*found, *((part, names.log_scale) for part in ("obs", "var", "varm"))] if scales else found


def of_modules(key: str) -> list[Place]:
    """Name the places of gene modules."""
    return [("var", key), ("var", keys.stability(key))]


def of_activity(key: str) -> list[Place]:
    """Name the place of modules' activities."""
    return [("obsm", key)]


def of_quotient(key: str) -> list[Place]:
    """Name the places of a quotient."""
    return [("layers", key), ("obs", keys.log_scale(key)), ("var", keys.log_scale(key))]


def clear(data: AnnData | MuData, key: str, places: Iterable[Place] = ()) -> dict[Place, Place]:
    """Make room for a result under a name and at these places.

    The result that the entry of uns describes is removed. What is left there is the user's own: it gets another name.
    Return the old and new names, to be told.
    """
    if not params_of(data, key):
        return set_aside([data], [("uns", key), *places])
    for part, name in _described(data.uns[key], key):
        content = getattr(data, part)
        if name in content:
            del content[name]
    del data.uns[key]
    return set_aside([data], places)


def _described(entry: Mapping[str, Any], key: str) -> list[Place]:
    """Name the places, besides ``uns``, of the result that an entry of ``uns`` describes."""
    if "connectivities_key" in entry:
        if entry["params"].get("method") in (keys.MED_MAGMA, keys.GMGM):
            matrices = [name for name in keys.OF_GENES if f"{name}_key" in entry]
            return of_cells(key) + of_genes(key, matrices)
        return [("obsp", str(entry[name])) for name in ("connectivities_key", "distances_key") if name in entry]
    if "agreement" in entry:
        return of_modules(key)
    return of_activity(key) if "modules" in entry else []
