"""Columns of obs, var or a table in uns that have one name: every function refuses them before the work, and the remedy is code."""

import re

import anndata as ad
import mudata
import pandas as pd
import pytest

import kronax as kx

KEYS = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line"}


def twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(moa="x")[["moa"]], table.assign(moa="y")[["moa"]]], axis=1)


def tensor() -> mudata.MuData:
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=3, n_genes=8, random_state=0)
    mdata.uns["contexts"] = pd.DataFrame({"dose": [1.0, 2.0, 3.0]}, index=list(mdata.mod))
    return mdata


def cells() -> ad.AnnData:
    return kx.datasets.screen(n_treatments=4, n_contexts=2, n_genes=20, n_cells=20, random_state=0)


def graphs() -> ad.AnnData:
    adata = cells()
    adata.var["symbol"] = adata.var_names
    kx.tl.med_magma(adata)
    kx.tl.gene_modules(adata)
    return adata


def of_two_kinds() -> mudata.MuData:
    rna = cells()
    return mudata.MuData({"rna": rna, "atac": rna[:, ::2].copy()})


def labelled() -> mudata.MuData:
    mdata = tensor()
    for adata in mdata.mod.values():
        adata.obs["moa"] = "x"
    return mdata


def wide() -> ad.AnnData:
    return kx.get.wide(tensor(), layer=None)


COORDINATES = kx.tl.KroneckerOptions(context_coordinates={"dose": "log"})


@pytest.mark.parametrize(
    ("made", "place", "function"),
    [
        (cells, "adata.obs", lambda adata: kx.pp.effects(adata, **KEYS, method="log_fold_change")),
        (cells, "adata.obs", lambda adata: kx.pp.tensor(adata, obs_key="perturbation", context_key="cell_line")),
        (cells, "adata.var", lambda adata: kx.pp.tensor(adata, obs_key="perturbation", context_key="cell_line")),
        (wide, "adata.obs", lambda adata: kx.pp.from_wide(adata)),
        (wide, "adata.var", lambda adata: kx.pp.from_wide(adata)),
        (tensor, "mdata['line1'].obs", lambda mdata: kx.pp.align(mdata)),
        (tensor, "mdata['line1'].obs", lambda mdata: kx.get.profiles(mdata, layer=None)),
        (tensor, "mdata['line1'].var", lambda mdata: kx.get.profiles(mdata, layer=None)),
        (tensor, "mdata['line1'].obs", lambda mdata: kx.tl.complete_tensor(mdata, method="mean_1d")),
        (tensor, "mdata.uns['contexts']", lambda mdata: kx.tl.complete_tensor(mdata, options=COORDINATES)),
    ],
)
def test_repeated_columns_are_refused_in_words(made, place, function):
    data = made()
    names = {"adata": data, "mdata": data, "twice": twice}
    exec(f"{place} = twice({place})", names)
    with pytest.raises(ValueError, match=re.escape(f"`{place}` has more than one column called 'moa'.")) as refusal:
        function(data)
    (code,) = re.findall(r"run `(.*)`", str(refusal.value))
    exec(code, names)
    assert set(eval(place, names)["moa"]) == {"x"}
    function(data)


@pytest.mark.parametrize(
    ("made", "place", "key", "function"),
    [
        (graphs, "adata.obs", "plate", lambda adata: kx.tl.med_magma(adata, batch_key="plate")),
        (graphs, "adata.obs", "plate", lambda adata: kx.tl.module_activity(adata, groupby="plate")),
        (graphs, "adata.var", "gene_module", kx.tl.module_activity),
        (graphs, "adata.var", "gene_module", kx.get.modules),
        (graphs, "adata.var", "symbol", lambda adata: kx.get.edges(adata, gene_symbols="symbol")),
        (of_two_kinds, "mdata.obs", "plate", lambda mdata: kx.tl.med_magma(mdata, batch_key="plate")),
        (of_two_kinds, "mdata['atac'].obs", "plate", lambda mdata: kx.tl.med_magma(mdata, batch_key="plate")),
        (labelled, "mdata.obs", "moa", lambda mdata: kx.pp.treatment_similarity(mdata, labels="moa")),
    ],
)
def test_a_key_names_one_column(made, place, key, function):
    data = made()
    names = {"adata": data, "mdata": data, "pd": pd, "key": key}
    if place == "mdata.obs":
        data.obs[key] = "x"
    exec(f"{place} = pd.concat([{place}, {place}[[key]]], axis=1)", names)
    with pytest.raises(ValueError, match=re.escape(f"`{place}` has more than one column called '{key}'.")):
        function(data)
