"""Entries of a file under the names of our results: the user's own are kept under another name."""

from collections.abc import Mapping, Set
from typing import Any

from anndata import AnnData
from mudata import MuData

from kronax._cli.terminal import note
from kronax._data import completion_out, keys
from kronax._data.aside import Place, called, set_aside
from kronax._data.written import of_cells, of_genes, of_modules

GRAPH_RESULTS: dict[str, list[Place]] = {  # by the entry of uns that comes with them
    keys.MED_MAGMA: of_cells(keys.MED_MAGMA) + of_genes(keys.MED_MAGMA),
    keys.GENE_MODULE: of_modules(keys.GENE_MODULE),
    keys.QUICKSTART_CLUSTERS: [("obs", keys.QUICKSTART_CLUSTERS)],
    keys.QUICKSTART_UMAP: [("obsm", keys.QUICKSTART_UMAP)],
}


def clear_for_graphs(adata: AnnData, needed: Set[Place]) -> dict[Place, Place]:
    """Empty the places of our results: rename what is the user's or needed, and remove what an earlier run wrote."""
    earlier = {record for record in GRAPH_RESULTS if _is_ours(adata, record)}
    moved: dict[Place, Place] = {}
    for record, places in GRAPH_RESULTS.items():
        of_record = [("uns", record), *places]
        moved |= set_aside([adata], [place for place in of_record if record not in earlier or place in needed])
        for part, key in of_record:
            content = getattr(adata, part)
            if key in content:
                del content[key]
            if part == "obs":
                adata.uns.pop(f"{key}_colors", None)
    _tell(moved)
    return moved


def keep_before_completion(mdata: MuData) -> dict[Place, Place]:
    """Rename, in every context, what is not an earlier completion's; return the old and new names."""
    moved = completion_out.set_own_aside(mdata, keys.COMPLETED, keys.OF_PROFILES, factors=True)
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


def _tell(moved: Mapping[Place, Place]) -> None:
    for old, new in moved.items():
        note(f"kept: {called(old)} of the file is now {called(new)}; results have the old name.")
