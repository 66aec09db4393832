"""kx.get.edges: every edge once, with what the graph says of it, ready for other packages."""

import io

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx


def symmetric(entries: dict[tuple[int, int], float], n: int, diagonal: float = 0.0) -> sparse.csr_matrix:
    matrix = sparse.lil_matrix((n, n))
    for (i, j), value in entries.items():
        matrix[i, j] = matrix[j, i] = value
    return sparse.csr_matrix(matrix + diagonal * sparse.eye(n))


@pytest.fixture
def adata() -> ad.AnnData:
    """Five genes: three positive edges and a negative one, whose p- and q-values were written by hand; one gene has none."""
    rho = {(0, 1): 0.2, (1, 2): 0.4, (0, 3): -0.3, (2, 3): 0.05}
    found = ad.AnnData(np.ones((3, 5)), var=pd.DataFrame(index=[*"abcde"]))
    found.varp["med_magma_connectivities"] = symmetric({pair: value for pair, value in rho.items() if value > 0}, 5)
    found.varp["med_magma_precision"] = symmetric({pair: -2 * value for pair, value in rho.items()}, 5, diagonal=1.0)
    found.varp["med_magma_p_value"] = symmetric({(0, 1): 1e-4, (1, 2): 1e-9, (0, 3): 1e-6, (2, 3): 0.3}, 5)
    found.varp["med_magma_q_value"] = symmetric({(0, 1): 1e-3, (1, 2): 1e-8, (0, 3): 1e-5, (2, 3): 0.6}, 5)
    found.uns["med_magma"] = {
        f"{what}_key": f"med_magma_{what}" for what in ("connectivities", "precision", "p_value", "q_value")
    }
    found.var["gene_module"] = pd.Categorical(["0", "0", "0", "1", None])
    found.obsp["g"] = symmetric({(0, 2): 0.5, (0, 1): 0.7}, 3)
    found.uns["cells"] = {"connectivities_key": "g"}
    return found


def test_every_edge_once_the_strongest_first(adata):
    table = kx.get.edges(adata)
    expected = pd.DataFrame(
        {
            "source": ["b", "a", "a", "c"],
            "target": ["c", "d", "b", "d"],
            "weight": [0.4, 0.0, 0.2, 0.05],
            "partial_correlation": [0.4, -0.3, 0.2, 0.05],
            "p_value": [1e-9, 1e-6, 1e-4, 0.3],
            "q_value": [1e-8, 1e-5, 1e-3, 0.6],
            "indirect": [False, False, False, False],
            "source_module": ["0", "0", "0", "0"],
            "target_module": ["0", "1", "0", "1"],
        }
    )
    pd.testing.assert_frame_equal(table, expected, rtol=1e-12)


def test_names_from_a_column(adata):
    """As in kx.get.modules, so that tables of edges and of genes can be joined; regulators have these names too."""
    adata.var["symbol"] = ["A", "B", None, "D", "E"]
    plain, named = kx.get.edges(adata), kx.get.edges(adata, gene_symbols="symbol")
    called = {"a": "A", "b": "B", "c": "c", "d": "D"}
    pd.testing.assert_frame_equal(named, plain.replace({"source": called, "target": called}))
    table = kx.get.edges(adata, gene_symbols="symbol", regulators=["D", "a"])
    assert table[["source", "target", "rank"]].to_numpy().tolist() == [["D", "A", 1], ["D", "c", 2]]
    with pytest.raises(KeyError, match=r"None of the `regulators` \(d\).*whose names are A, B, c, …"):
        kx.get.edges(adata, gene_symbols="symbol", regulators=["d"])
    with pytest.raises(KeyError, match=r"'name' not found in `adata\.var`"):
        kx.get.edges(adata, gene_symbols="name")
    with pytest.raises(ValueError, match="`gene_symbols` belongs to axis='genes'"):
        kx.get.edges(adata, "cells", neighbors_key="cells", gene_symbols="symbol")


@pytest.mark.parametrize("of", [iter, set, np.array, pd.Series, pd.Categorical])
def test_regulators_in_any_collection(adata, of):
    pd.testing.assert_frame_equal(
        kx.get.edges(adata, regulators=of(["d", "a"])), kx.get.edges(adata, regulators=["d", "a"])
    )


def test_regulators_are_counted(adata, caplog):
    kx.get.edges(adata, regulators=["d", "a", "e", "not a gene"])
    assert "edges: 3 of 4 regulators are genes of the object; 1 of these have no edge" in caplog.text


def test_from_regulators(adata):
    """Each from the regulator, with its rank; between two regulators from both."""
    table = kx.get.edges(adata, regulators=["d", "a", "not a gene"])
    assert table[["source", "target", "rank"]].to_numpy().tolist() == [
        ["a", "d", 1],
        ["d", "a", 1],
        ["a", "b", 2],
        ["d", "c", 2],
    ]
    assert table["partial_correlation"].tolist() == pytest.approx([-0.3, -0.3, 0.2, 0.05])
    assert table["source_module"].tolist() == ["0", "1", "0", "1"]
    assert table["target_module"].tolist() == ["1", "0", "0", "0"]
    assert list(kx.get.edges(adata, regulators=["e"]).columns) == list(table.columns)  # a gene without an edge


def test_indirect_edges(adata):
    """Whatever their signs; with regulators, if a third gene is joined by edges that are in the table."""
    adata.varp["med_magma_precision"][[1, 3], [3, 1]] = 2 * 0.1  # b and d: a is joined to both more strongly
    assert kx.get.edges(adata).set_index(["source", "target"])["indirect"].to_dict() == {
        ("b", "c"): False,
        ("a", "d"): False,
        ("a", "b"): False,
        ("b", "d"): True,
        ("c", "d"): True,  # b is joined to both
    }
    of_regulators = kx.get.edges(adata, regulators=["d"]).set_index("target")["indirect"]
    assert of_regulators.to_dict() == {"a": False, "b": False, "c": False}
    assert kx.get.edges(adata, regulators=["b", "d"]).set_index(["source", "target"])["indirect"].loc["d", "c"]


@pytest.mark.parametrize(
    ("margin", "kept"), [(1.9, {"ab", "ad", "bc"}), (2.1, {"ad", "bc"}), (3.1, {"bc"}), (8.1, set())]
)
def test_edges_that_are_little_stronger_than_those_through_a_third(adata, margin, kept):
    """a and b are joined by .2, through d by .1; a and d by .3, through b by .1; b and c by .4, through d by .05."""
    adata.varp["med_magma_precision"][[1, 3], [3, 1]] = 2 * 0.1
    table = kx.get.edges(adata, margin=margin)
    assert set(table["source"] + table["target"]) == {"ab", "ad", "bc", "bd", "cd"}
    direct = table[~table["indirect"]]
    assert set(direct["source"] + direct["target"]) == kept


@pytest.mark.parametrize("margin", [0.9, np.nan, np.inf, "1", True])
def test_refuses_margins_below_one(adata, margin):
    with pytest.raises(ValueError, match="`margin` must be a number of at least 1"):
        kx.get.edges(adata, margin=margin)


def test_judged_before_edges_are_left_out(adata):
    adata.varp["med_magma_precision"][[1, 3], [3, 1]] = 2 * 0.1
    adata.varp["med_magma_q_value"][[1, 3], [3, 1]] = 1e-9
    table = kx.get.edges(adata, q_max=1e-8).set_index(["source", "target"])
    assert table["indirect"].to_dict() == {("b", "c"): False, ("b", "d"): True}


@pytest.mark.parametrize(("n_tested", "m"), [(None, 4), ([4, 4, 4, 3, 3], 3), ([1, 0, 1, 2, 0], 2)])
def test_q_values_among_the_pairs_of_regulators(adata, n_tested, m):
    """Benjamini and Hochberg over the pairs of d that were tested: all four, if that is not known, and never more than all pairs."""
    if n_tested is not None:
        adata.var["tested"], adata.uns["med_magma"]["n_tested_key"] = n_tested, "tested"
    table = kx.get.edges(adata, regulators=["d"])
    assert table["p_value"].tolist() == [1e-6, 0.3]
    assert table["q_value"].tolist() == pytest.approx([m * 1e-6, min(m * 0.3 / 2, 1)])
    assert len(kx.get.edges(adata, regulators=["d"], q_max=0.29)) == 1


def test_pairs_that_were_not_tested_are_not_counted_among_the_regulators(adata):
    """They have p = 1, and would make q-values smaller if they were."""
    adata.varp["med_magma_p_value"][[2, 3], [3, 2]] = adata.varp["med_magma_q_value"][[2, 3], [3, 2]] = 1.0
    adata.var["tested"], adata.uns["med_magma"]["n_tested_key"] = [1, 0, 0, 1, 0], "tested"
    table = kx.get.edges(adata, regulators=["d"])
    assert table["q_value"].tolist() == pytest.approx([1e-6, 1.0])


def test_regulators_in_a_part_of_the_genes(adata):
    """Of pairs that were tested, those with genes that were left out do not count."""
    adata.var["tested"], adata.uns["med_magma"]["n_tested_key"] = [40, 40, 40, 40, 40], "tested"
    assert kx.get.edges(adata, regulators=["d"])["q_value"].iloc[0] == pytest.approx(4e-6)


def test_regulators_without_p_values(adata):
    """Nothing can be compared, and q-values stay those of the graph."""
    del adata.uns["med_magma"]["p_value_key"]
    assert kx.get.edges(adata, regulators=["d"])["q_value"].tolist() == pytest.approx([1e-5, 0.6])


def test_of_all_pairs_among_all_genes():
    """With every gene a regulator, they are those of the graph, which ranks p-values up to .3."""
    x = kx.datasets.kronecker_sum(200, 60, noise=0.3)
    kx.tl.med_magma(x, graphs="genes", n_neighbors=None)
    np.testing.assert_array_equal(x.var["med_magma_n_tested"], 59)
    all_genes = kx.get.edges(x, regulators=x.var_names).drop_duplicates("p_value").set_index("p_value")["q_value"]
    plain = kx.get.edges(x).drop_duplicates("p_value").set_index("p_value")["q_value"]
    some = plain[plain < 0.3]
    assert (some < 0.05).any()
    np.testing.assert_allclose(all_genes.loc[some.index], some, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"regulators": ["x", "y"]},
            KeyError,
            r"None of the `regulators` \(x, y\) is a gene of the object, whose names are a, b, c, …",
        ),
        ({"regulators": []}, ValueError, "`regulators` is empty"),
        ({"regulators": "a"}, TypeError, r"found 'a'. A single one is written `regulators=\['a'\]`"),
        (
            {"regulators": ["a"], "axis": "cells", "neighbors_key": "cells"},
            ValueError,
            "`regulators` belongs to axis='genes'",
        ),
        ({"margin": 2.0, "axis": "cells", "neighbors_key": "cells"}, ValueError, "`margin` belongs to axis='genes'"),
    ],
)
def test_refuses_what_genes_alone_have_and_no_regulators(adata, arguments, error, message):
    with pytest.raises(error, match=message):
        kx.get.edges(adata, **arguments)


def test_significant_ones_alone(adata):
    table = kx.get.edges(adata, q_max=1e-5)
    assert table[["source", "target"]].to_numpy().tolist() == [["b", "c"], ["a", "d"]]
    assert len(kx.get.edges(adata, q_max=1.0)) == 4
    assert kx.get.edges(adata, q_max=1e-30).empty


def test_what_the_graph_lacks_is_no_column(adata):
    del adata.uns["med_magma"]["p_value_key"], adata.uns["med_magma"]["q_value_key"], adata.var["gene_module"]
    assert list(kx.get.edges(adata)) == ["source", "target", "weight", "partial_correlation", "indirect"]
    with pytest.raises(KeyError, match=r"no q-values\. Run kx\.tl\.med_magma"):
        kx.get.edges(adata, q_max=0.05)
    del adata.uns["med_magma"]["precision_key"]
    assert list(kx.get.edges(adata)) == ["source", "target", "weight"]
    with pytest.raises(
        ValueError, match="`margin` compares partial correlations, which the graph 'med_magma' does not have"
    ):
        kx.get.edges(adata, margin=2.0)


def test_an_edge_that_was_not_tested_has_no_q(adata):
    adata.varp["med_magma_q_value"] = symmetric({(0, 1): 1e-3}, 5)
    assert kx.get.edges(adata)["q_value"].notna().tolist() == [False, False, True, False]
    assert len(kx.get.edges(adata, q_max=1.0)) == 1


def test_cells(adata):
    table = kx.get.edges(adata, "cells", neighbors_key="cells")
    assert list(table) == ["source", "target", "weight"]
    assert table.to_numpy().tolist() == [["0", "1", 0.7], ["0", "2", 0.5]]
    with pytest.raises(KeyError, match="Only those of genes have some"):
        kx.get.edges(adata, "cells", neighbors_key="cells", q_max=0.05)
    mdata = mudata.MuData({"rna": ad.AnnData(np.ones((3, 2)), obs=adata.obs)})
    mdata.obsp["g"], mdata.uns["cells"] = adata.obsp["g"], adata.uns["cells"]
    pd.testing.assert_frame_equal(kx.get.edges(mdata, "cells", neighbors_key="cells"), table)
    with pytest.raises(TypeError, match="Expected an AnnData object"):
        kx.get.edges(mdata)


def test_the_graph_that_was_learnt():
    adata = kx.datasets.kronecker_sum(60, 50, signs="random")
    kx.tl.med_magma(adata, n_neighbors=None)
    table = kx.get.edges(adata)
    assert len(table) == 50 * 49 / 2  # complete
    negative = table["partial_correlation"] < 0
    assert negative.any() and not table.loc[negative, "weight"].any()
    np.testing.assert_allclose(table.loc[~negative, "weight"], table.loc[~negative, "partial_correlation"], rtol=1e-12)
    assert (table["partial_correlation"].abs().diff().dropna() <= 1e-15).all()
    cells = kx.get.edges(adata, "cells")
    assert cells["weight"].is_monotonic_decreasing


def test_other_packages_take_it(adata, tmp_path):
    import igraph
    import networkx

    table = kx.get.edges(adata)
    text = table.to_csv(index=False)
    again = pd.read_csv(io.StringIO(text), dtype={"source_module": str, "target_module": str})
    pd.testing.assert_frame_equal(again, table)
    graph = networkx.from_pandas_edgelist(table, edge_attr=True)
    networkx.write_graphml(graph, tmp_path / "genes.graphml")
    read = networkx.read_graphml(tmp_path / "genes.graphml")
    assert read.edges["a", "d"]["partial_correlation"] == pytest.approx(-0.3)
    assert read.number_of_edges() == 4
    other = igraph.Graph.DataFrame(table, directed=False, use_vids=False)
    assert other.ecount() == 4 and other.es["q_value"] == table["q_value"].tolist()


def test_names_that_are_no_text(adata):
    adata.var_names = pd.Index([1, 2, 3, 4, 5])
    adata.var["gene_module"] = [0, 0, 0, 1, 1]
    table = kx.get.edges(adata)
    assert table["source"].tolist() == ["2", "1", "1", "3"]
    assert table["target_module"].tolist() == ["0", "1", "0", "1"]
    assert set(kx.get.edges(adata, regulators=adata.var_names[:1])["source"]) == {"1"}
    adata.var["gene_module"] = pd.array(["x", pd.NA, "x", "y", "y"], dtype="string")
    assert kx.get.edges(adata)["source_module"].map(type).isin([str, float]).all()


@pytest.mark.parametrize("q_max", [0, -0.1, 1.5, "0.05", True])
def test_bounds_that_are_none(adata, q_max):
    with pytest.raises(ValueError, match="`q_max` must be a positive number of at most 1"):
        kx.get.edges(adata, q_max=q_max)


def test_axes_that_are_none(adata):
    with pytest.raises(ValueError, match=r"`axis` must be one of \['genes', 'cells'\]"):
        kx.get.edges(adata, "var")
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.uns`"):
        kx.get.edges(adata, neighbors_key="none")
