"""Entries of a file under the names of our results: the user's own are kept under another name."""

from collections.abc import Mapping, Set
from typing import Any

from anndata import AnnData
from mudata import MuData

from kronax._cli.terminal import note
from kronax._data import keys
from kronax._data.measured import aside, completed, flags

Place = tuple[str, str]  # a part of an object, such as "obs", and a name in it

_GRAPH = keys.graph_keys(keys.MED_MAGMA)
GRAPH_RESULTS: dict[str, list[Place]] = {  # by the entry of uns that comes with them
    keys.MED_MAGMA: [
        *((part, key) for part in ("obsp", "varp") for key in _GRAPH[1:4]),
        ("obs", _GRAPH.log_scale),
        ("var", _GRAPH.log_scale),
        ("obsm", _GRAPH.obsm),
        ("varm", _GRAPH.varm),
    ],
    keys.GENE_MODULE: [("var", keys.GENE_MODULE), ("var", f"{keys.GENE_MODULE}_stability")],
    keys.QUICKSTART_CLUSTERS: [("obs", keys.QUICKSTART_CLUSTERS)],
    keys.QUICKSTART_UMAP: [("obsm", keys.QUICKSTART_UMAP)],
}
COMPLETION_RESULTS: list[Place] = [
    ("layers", keys.COMPLETED),
    *(("obs", key) for key in keys.OF_PROFILES),
    ("obsm", keys.TREATMENT_FACTORS),
    ("varm", keys.GENE_FACTORS),
]


def clear_for_graphs(adata: AnnData, needed: Set[Place]) -> dict[Place, Place]:
    """Empty the places of our results: rename what is the user's or needed, and remove what an earlier run wrote."""
    earlier = {record for record in GRAPH_RESULTS if _is_ours(adata, record)}
    moved: dict[Place, Place] = {}
    for record, places in GRAPH_RESULTS.items():
        for part, key in [("uns", record), *places]:
            content = getattr(adata, part)
            if key in content:
                if record not in earlier or (part, key) in needed:
                    moved[part, key] = (part, _keep(content, key))
                del content[key]
            if part == "obs" and (colours := adata.uns.pop(f"{key}_colors", None)) is not None and (part, key) in moved:
                adata.uns[f"{moved[part, key][1]}_colors"] = colours
    _tell(moved)
    return moved


def keep_before_completion(mdata: MuData) -> dict[Place, Place]:
    """Rename, in every context, what is not an earlier completion's; return the old and new names."""
    moved: dict[Place, Place] = {}
    if _is_record(mdata.uns.get(keys.COMPLETION), "method", "n_entries") or any(map(completed, mdata.mod.values())):
        return moved
    if keys.COMPLETION in mdata.uns:
        moved["uns", keys.COMPLETION] = ("uns", _keep(mdata.uns, keys.COMPLETION))
        del mdata.uns[keys.COMPLETION]
    for part, key in COMPLETION_RESULTS:
        holders = [content for adata in mdata.mod.values() if key in (content := getattr(adata, part))]
        if holders and not (key == keys.MEASURED and all(flags(content[key]) is not None for content in holders)):
            new = aside(key, {name for content in holders for name in content})
            for content in holders:
                content[new] = content[key]
                del content[key]
            moved[part, key] = (part, new)
    _tell(moved)
    return moved


def _is_ours(adata: AnnData, record: str) -> bool:
    """Return whether something comes from an earlier run; clusters that a user has renamed do not."""
    ours = _is_record(adata.uns.get(keys.MED_MAGMA), "params", "version", "converged")
    if record == keys.MED_MAGMA:
        return ours
    if record == keys.QUICKSTART_CLUSTERS and record in adata.obs:
        names = set(adata.obs[record].astype(str))
        ours &= names == set(map(str, range(len(names))))
    return ours and _is_record(adata.uns.get(record), "params")


def _is_record(found: Any, *fields: str) -> bool:
    return isinstance(found, Mapping) and all(field in found for field in fields)


def _keep(content: Any, key: str) -> str:
    """Copy a value to a free name, which is returned."""
    new = aside(key, content)
    content[new] = content[key]
    return new


def _tell(moved: Mapping[Place, Place]) -> None:
    for (part, old), (_, new) in moved.items():
        note(f"kept: {part}[{old!r}] of the file is now {part}[{new!r}]; results have the old name.")
