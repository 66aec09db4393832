"""The page "What is in my AnnData afterwards?" names everything that the functions write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

import kronax as kx
from kronax._data import tensor as tensors

PAGE = (Path(__file__).parents[1] / "docs/what_is_written.md").read_text(encoding="utf-8")
PARTS = ("layers", "obs", "var", "obsm", "varm", "obsp", "varp")
NOT_LISTED = ("params", "fallbacks")  # hold arguments, and kinds of means


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = kx.datasets.kronecker_sum(60, 50)
    adata.layers["absolute"] = np.abs(adata.X)
    adata.obs["group"] = np.array(["a", "b"])[np.arange(60) % 2]
    kx.tl.med_magma(adata, n_neighbors=5)
    return adata


@pytest.fixture(scope="module")
def modalities() -> MuData:
    return MuData({name: kx.datasets.kronecker_sum(60, 50, random_state=seed) for seed, name in enumerate("ab")})


@pytest.fixture(scope="module")
def tensor() -> MuData:
    return kx.datasets.skewed_response(n_treatments=40, n_contexts=3, n_genes=12, noise=0.1)


@pytest.fixture(scope="module")
def linked() -> MuData:
    found = kx.datasets.drug_response(n_treatments=20, n_contexts=3, n_genes=12, missing=0.2)
    found["line0"].obs["moa"] = list("abcd") * 5
    kx.pp.treatment_similarity(found, labels="moa", key_added="moa")
    found.uns["contexts"] = pd.DataFrame({"dose": [0.1, 1.0, 10.0]}, index=list(found.mod))
    for adata in found.mod.values():
        adata.X[3] = np.nan
    return found


@pytest.fixture(scope="module")
def completed(linked) -> MuData:
    found = linked.copy()
    kx.tl.complete_tensor(found, options=LINKED)
    return found


@pytest.fixture(scope="module")
def unaligned() -> MuData:
    with tensors.without_pulling():
        return MuData({context: AnnData(np.ones((n, 3))) for context, n in {"a": 4, "b": 5}.items()}, axis=-1)


def by_modules(adata: AnnData) -> None:
    kx.tl.gene_modules(adata)
    kx.tl.module_activity(adata, groupby="group", layer="absolute")


LINKED = kx.tl.KroneckerOptions(treatment_similarity="moa", context_coordinates={"dose": "log"})
FACTORS = kx.tl.FactorizationOptions(rank=3, max_epochs=4, patience=4, batch_size=16)
WRITERS: dict[str, tuple[str, Callable]] = {
    "med_magma": ("cells", lambda a: kx.tl.med_magma(a, n_neighbors=5, key_added="key")),
    "med_magma, modalities": ("modalities", lambda m: kx.tl.med_magma(m, n_neighbors=5, key_added="key")),
    "gmgm": ("cells", lambda a: kx.tl.gmgm(a, n_neighbors=5, key_added="key")),
    "gene_modules, module_activity": ("cells", by_modules),
    "graph_robustness": ("cells", lambda a: kx.tl.graph_robustness(a, shares=[0, 0.2], n_repeats=2)),
    "quotient": ("cells", kx.pp.quotient),
    "batches": ("cells", lambda a: kx.tl.med_magma(a, n_neighbors=5, batch_key="group", key_added="key")),
    "quotient, batches": ("cells", lambda a: kx.pp.quotient(a, batch_key="group")),
    "neighbors": ("cells", lambda a: kx.pp.neighbors(a, "X_med_magma")),
    "kronecker": ("tensor", lambda m: kx.tl.complete_tensor(m, options=kx.tl.KroneckerOptions(variance=True))),
    "kronecker, with side information": ("linked", lambda m: kx.tl.complete_tensor(m, options=LINKED)),
    "next_experiments": ("completed", lambda m: kx.tl.next_experiments(m, n=3)),
    "treatment_similarity": ("linked", lambda m: kx.pp.treatment_similarity(m, labels="moa")),
    "align": ("unaligned", kx.pp.align),
    "cp": ("tensor", lambda m: kx.tl.complete_tensor(m, method="cp", options=FACTORS)),
}


def names(data: AnnData | MuData) -> Iterator[str]:
    """Every place where something is, as the page writes it; of ``uns`` also the names within."""
    for part in PARTS:
        found = getattr(data, part, None)
        keys = [] if found is None else [key for key in found.keys() if key is not None]
        of_mudata = getattr(data, "mod", {})  # mudata keeps places such as "rna" and "rna:measured" itself
        yield from (f'`{part}["{key}"]`' for key in keys if key.split(":")[0] not in of_mudata)
    for key, value in data.uns.items():
        yield f'uns["{key}"]`'
        yield from within(value)
    for adata in getattr(data, "mod", {}).values():
        yield from names(adata)


def within(found: object) -> Iterator[str]:
    for key, value in found.items() if isinstance(found, dict) else ():
        yield f"`{key}`"
        if key not in NOT_LISTED:
            yield from within(value)


@pytest.mark.parametrize("name", WRITERS)
def test_everything_is_named(request, name):
    fixture, write = WRITERS[name]
    before = request.getfixturevalue(fixture)
    after = before.copy()
    write(after)
    written = set(names(after)) - set(names(before))
    assert written
    assert {name for name in written if name not in PAGE} == set()


def test_new_objects(tensor):
    wide = kx.pp.from_wide(kx.get.wide(tensor, layer=None))
    long = kx.pp.tensor(kx.get.profiles(tensor, layer=None), obs_key="treatment", context_key="context")
    written = {*names(wide), *names(long)}
    assert {'`obs["n_profiles"]`', '`obs["measured"]`'} <= written
    assert {name for name in written if name not in PAGE} == set()


def missing_values(found: object, place: str = "uns") -> Iterator[str]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield from missing_values(value, f"{place}/{key}")
    elif found is None:
        yield place


@pytest.mark.parametrize("name", [name for name, (fixture, _) in WRITERS.items() if fixture in ("cells", "modalities")])
def test_nothing_that_an_older_anndata_cannot_read(request, name):
    """None is written as a kind of its own, and a file that holds one cannot be read at all before anndata 0.12."""
    fixture, write = WRITERS[name]
    after = request.getfixturevalue(fixture).copy()
    write(after)
    found = [after, *getattr(after, "mod", {}).values()]
    assert [place for data in found for place in missing_values(dict(data.uns))] == []
