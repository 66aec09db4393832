"""What all results have in common: files can hold them, and nothing of an earlier one is left beside them."""

from collections.abc import Iterator, Mapping
from typing import Any

from anndata import AnnData
from mudata import MuData

from kronax._data import keys
from kronax._data.measured import make_room


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


def forget(data: AnnData | MuData, key: str) -> None:
    """Remove the result that an entry of uns describes; an entry that is the user's own gets another name, which is told."""
    if key not in data.uns:
        return
    if not params_of(data, key):
        make_room(data.uns, key, "uns")
        return
    for part, name in _places(data.uns[key], key):
        stored = getattr(data, part)
        if name in stored:
            del stored[name]
    del data.uns[key]


def _places(entry: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    """Name the places, besides ``uns``, of the result that an entry of ``uns`` describes; none if it is not kronax's."""
    if entry["params"].get("method") in (keys.MED_MAGMA, keys.GMGM) and "connectivities_key" in entry:
        names = keys.graph_keys(key)
        for part in ("obsp", "varp"):
            yield from ((part, name) for name in (names.connectivities, names.distances, names.precision))
        yield from (("obsm", names.obsm), ("varm", names.varm))
        yield from ((part, names.log_scale) for part in ("obs", "var", "varm"))
    elif entry["params"].get("method") == keys.EMBEDDING:
        names = keys.graph_keys(key)
        yield from (("obsp", name) for name in (names.connectivities, names.distances))
    elif "agreement" in entry:
        yield from (("var", key), ("var", keys.stability(key)))
    elif "modules" in entry:
        yield "obsm", key
