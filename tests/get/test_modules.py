"""kx.get.modules: the genes of every module, its hubs first."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx


@pytest.fixture
def adata() -> ad.AnnData:
    """A star of eight genes around gene 0 beside one strong pair, genes 8 and 9, tied to the star by weak edges; two others."""
    weights = np.zeros((13, 13))
    weights[0, 1:8] = 0.1
    weights[8, [0, 1, 2]] = weights[9, [0, 1, 2]] = 0.02
    weights[8, 9] = 0.9
    weights[10, 11] = 0.3
    found = ad.AnnData(np.eye(13)[:12].repeat(2, axis=0) + 0.0)
    found.var_names = [f"g{j}" for j in range(13)]
    found.varp["c"] = sparse.csr_matrix(weights + weights.T)
    found.uns["med_magma"] = {"connectivities_key": "c"}
    found.var["gene_module"] = pd.Categorical(["0"] * 10 + ["1"] * 2 + [None])
    found.var["gene_module_stability"] = np.linspace(0, 1, 13)
    table = pd.DataFrame({"n_genes": [10, 2], "noise": [False, True]}, index=pd.Index(["0", "1"], name="module"))
    found.uns["gene_module"] = {"table": table, "params": {"neighbors_key": "med_magma"}}
    return found


def test_one_strong_pair_does_not_lead(adata):
    table = kx.get.modules(adata)
    assert table["gene"].tolist()[:3] == ["g0", "g8", "g9"]
    assert adata.varp["c"].sum(axis=1).argmax() in (8, 9)  # of the plain sums, it would
    # the strongest edges of the ten genes are 0.1 eight times and 0.9 twice: no edge counts for more than 0.1
    assert table["weighted_degree"].tolist()[:4] == pytest.approx([0.74, 0.16, 0.16, 0.14])


def test_columns(adata, tmp_path):
    table = kx.get.modules(adata, min_cells=2)
    assert list(table) == [
        *("module", "gene", "rank", "weighted_degree", "stability", "share_of_cells", "rare", "noise"),
        *("source", "target", "weight"),
    ]
    assert len(table) == 12  # the gene in no module is in none
    assert table["module"].tolist() == ["0"] * 10 + ["1"] * 2
    assert table["rank"].tolist() == [*range(1, 11), 1, 2]
    assert table["noise"].tolist() == [False] * 10 + [True] * 2
    np.testing.assert_allclose(table["share_of_cells"], 2 / 24)
    assert not table["rare"].any() and kx.get.modules(adata, min_cells=3)["rare"].all()
    assert (table["source"] == table["module"]).all() and (table["target"] == table["gene"]).all()
    best = table.groupby("source")["weight"].max()
    assert best.tolist() == [1.0, 1.0]
    order = adata.var_names.get_indexer(table["gene"])
    np.testing.assert_array_equal(table["stability"], adata.var["gene_module_stability"].to_numpy()[order])
    adata.write_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(kx.get.modules(ad.read_h5ad(tmp_path / "a.h5ad"), min_cells=2), table)


def test_the_smallest_q_value_of_a_gene_within_its_module(adata):
    """Not that of an edge that leaves it; NaN for a gene all of whose edges were not tested, or leave it."""
    q_values = np.zeros((13, 13))
    q_values[0, 1:6] = 0.01, 0.2, 0.3, 0.4, 0.5
    q_values[8, 9] = 1e-5
    q_values[9, 2] = 0.1
    q_values[10, 0] = 1e-9
    adata.varp["q"] = sparse.csr_matrix(q_values + q_values.T)
    adata.uns["med_magma"]["q_value_key"] = "q"
    found = kx.get.modules(adata).set_index("gene")["q_value"]
    expected = [0.01, 0.01, 0.1, 0.3, 0.4, 0.5, np.nan, np.nan, 1e-5, 1e-5, np.nan, np.nan]
    np.testing.assert_array_equal(found.loc[[f"g{j}" for j in range(12)]], expected)


def test_modules_of_others(adata):
    """A column that kx.tl.gene_modules did not write has no stability, and nothing is known of noise."""
    adata.var["mine"] = np.where(np.arange(13) < 6, "A", "B")
    del adata.uns["gene_module"]
    table = kx.get.modules(adata, modules="mine", neighbors_key="med_magma")
    assert "stability" not in table and "noise" not in table
    assert table["module"].tolist() == ["A"] * 6 + ["B"] * 7
    with pytest.raises(KeyError, match="does not say in which graph"):
        kx.get.modules(adata, modules="mine")
    adata.var["mine"] = pd.Series([1, "1"] + [1] * 11, adata.var_names, dtype=object)
    with pytest.raises(ValueError, match=r"`adata.var\['mine'\]` has different values that are written alike \(1\)"):
        kx.get.modules(adata, modules="mine", neighbors_key="med_magma")


def test_marks_of_noise_are_those_of_the_modules_that_were_described(adata):
    """Of some of their genes as well; not of modules that have other names."""
    assert set(kx.get.modules(adata)["noise"]) == {False, True}
    some = kx.get.modules(adata[:, 5:].copy()).set_index("module")["noise"]
    assert not some["0"].any() and some["1"].all()
    for renamed in ({"0": "M0", "1": "M1"}, {"0": "1", "1": "0"}):
        other = adata.copy()
        other.var["gene_module"] = other.var["gene_module"].cat.rename_categories(renamed)
        with pytest.warns(UserWarning, match="holds other modules than .* rename the rows of the table too"):
            assert "noise" not in kx.get.modules(other)
        other.uns["gene_module"]["table"] = other.uns["gene_module"]["table"].rename(renamed)
        assert set(kx.get.modules(other)["noise"]) == {False, True}


def test_a_module_without_an_edge(adata):
    adata.varp["c"] = sparse.csr_matrix((13, 13))
    table = kx.get.modules(adata)
    assert not table["weighted_degree"].any() and (table["weight"] == 1).all()


@pytest.mark.parametrize("missing", [None, "", " "])
def test_symbols_and_layer(adata, missing):
    adata.var["symbol"] = ["A", missing, *"CDEFGHIJKLM"]
    adata.layers["all"] = np.ones((24, 13))
    table = kx.get.modules(adata, gene_symbols="symbol", layer="all")
    assert table["gene"].tolist()[:5] == ["A", "I", "J", "g1", "C"]
    assert (table["share_of_cells"] == 1).all()


def test_it_is_what_figures_and_reports_show():
    """One definition of hubs: the figures' and the report's are the first of the table."""
    from kronax._cli import named_modules

    rng = np.random.default_rng(0)
    group = np.arange(60) % 3
    module = np.arange(30) // 10
    adata = ad.AnnData(rng.poisson(1 + 4.0 * (group[:, None] == module)).astype(float))
    adata.var_names = [f"g{j}" for j in range(30)]
    adata.obs["type"] = pd.Categorical(group.astype(str))
    kx.tl.med_magma(adata, n_neighbors=5)
    kx.tl.gene_modules(adata)
    table = kx.get.modules(adata)
    first = {name: part["gene"].tolist() for name, part in table.groupby("module", observed=True)}
    (ax, _) = kx.pl.gene_modules(adata, groupby="type", n_hubs=3).axes
    shown = {text.get_text() for text in ax.get_yticklabels()}
    assert shown == {", ".join(genes[:3]) for genes in first.values()}
    said = "\n".join(named_modules.lines(adata, None, "type", None))
    assert all(", ".join(genes[:5]) in said for genes in first.values())
    (ax,) = kx.pl.gene_network(adata, module="0", n_genes=4).axes
    assert {text.get_text() for text in ax.texts} == set(first["0"][:4])


def test_what_is_not_there(adata):
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.var`.*Run kx\.tl\.gene_modules first"):
        kx.get.modules(adata, modules="none")
    with pytest.raises(ValueError, match="`min_cells` must be an integer"):
        kx.get.modules(adata, min_cells=-1)
    with pytest.raises(TypeError, match="Expected an AnnData object"):
        kx.get.modules(adata.X)
