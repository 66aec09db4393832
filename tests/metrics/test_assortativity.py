"""kx.metrics.assortativity against igraph and networkx."""

import anndata as ad
import igraph
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx


def random_graph(n=60, share=0.1, seed=0):
    rng = np.random.default_rng(seed)
    upper = np.triu((rng.random((n, n)) < 2 * share) * rng.random((n, n)), 1)
    return sparse.csr_matrix(upper + upper.T)


def with_graph(graph, labels) -> ad.AnnData:
    adata = ad.AnnData(np.zeros(graph.shape), obs=pd.DataFrame({"type": labels}, index=[*map(str, range(len(labels)))]))
    adata.var["module"] = labels
    adata.obsp["mine"] = graph
    adata.varp["mine"] = graph
    adata.uns["my_graph"] = {"connectivities_key": "mine"}
    return adata


@pytest.fixture
def graph():
    return random_graph()


@pytest.fixture
def labels():
    return np.random.default_rng(1).choice(["a", "b", "c"], 60, p=[0.5, 0.3, 0.2])


def test_as_igraph(graph, labels):
    edges = np.transpose(sparse.triu(graph, k=1).nonzero())
    expected = igraph.Graph(60, edges.tolist()).assortativity_nominal(pd.factorize(labels)[0].tolist(), directed=False)
    assert kx.metrics.assortativity(graph, labels=labels) == pytest.approx(expected, abs=1e-12)


def test_weights_as_networkx(graph, labels):
    rounded = graph.copy()
    rounded.data = np.ceil(10 * rounded.data)  # networkx knows no weights: as many edges as the weight instead
    multi = nx.MultiGraph()
    for i, j, weight in zip(*sparse.find(sparse.triu(rounded)), strict=True):
        multi.add_edges_from([(int(i), int(j))] * int(weight))
    nx.set_node_attributes(multi, dict(enumerate(labels)), "type")
    expected = nx.attribute_assortativity_coefficient(multi, "type")
    found = kx.metrics.assortativity(rounded, labels=labels, weighted=True)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found != pytest.approx(kx.metrics.assortativity(rounded, labels=labels))


def test_ends_of_the_scale(labels):
    equal = (labels[:, None] == labels).astype(float)
    assert kx.metrics.assortativity(equal, labels=labels) == pytest.approx(1)
    halves = np.repeat([0, 1], 30)
    assert kx.metrics.assortativity((halves[:, None] != halves).astype(float), labels=halves) == pytest.approx(-1)
    assert abs(kx.metrics.assortativity(random_graph(800, 0.05), labels=np.arange(800) % 4)) < 0.02


def test_stored_graph(graph, labels):
    adata = with_graph(graph, labels)
    expected = kx.metrics.assortativity(graph, labels=labels)
    assert kx.metrics.assortativity(adata, labels="type", neighbors_key="my_graph") == expected
    assert kx.metrics.assortativity(adata, labels=list(labels), neighbors_key="my_graph") == expected
    assert kx.metrics.assortativity(adata, labels="module", neighbors_key="my_graph", axis="var") == expected


@pytest.mark.parametrize("form", [sparse.csc_matrix, sparse.coo_array, lambda graph: graph.toarray()])
def test_form_of_the_matrix(graph, labels, form):
    found = kx.metrics.assortativity(form(graph), labels=labels)
    assert found == kx.metrics.assortativity(graph, labels=labels)


def test_edges_to_itself_are_none(graph, labels):
    expected = kx.metrics.assortativity(graph, labels=labels, weighted=True)
    assert kx.metrics.assortativity(graph + sparse.eye_array(60), labels=labels, weighted=True) == expected


@pytest.mark.parametrize("missing", [None, np.nan])
def test_missing_labels(graph, labels, missing):
    known = np.arange(60) % 5 > 0
    with_gaps = pd.Series(labels, dtype=object).where(known, missing)
    expected = kx.metrics.assortativity(graph[known][:, known], labels=labels[known])
    assert kx.metrics.assortativity(graph, labels=with_gaps) == pytest.approx(expected, abs=1e-12)
    categorical = pd.Categorical(with_gaps)
    assert kx.metrics.assortativity(graph, labels=categorical) == pytest.approx(expected, abs=1e-12)


def test_masked_labels_are_missing(graph, labels):
    names = np.array(labels, dtype=object)
    masked = np.ma.array(names, mask=np.arange(len(names)) % 3 == 0)
    expected = kx.metrics.assortativity(graph, labels=np.where(masked.mask, None, names))
    assert kx.metrics.assortativity(graph, labels=masked) == expected


def test_labels_are_found_by_name(graph, labels):
    adata = with_graph(graph, labels)
    of = {"neighbors_key": "my_graph"}
    shuffled = adata.obs["type"].sample(frac=1, random_state=0)
    expected = kx.metrics.assortativity(adata, labels="type", **of)
    assert kx.metrics.assortativity(adata, labels=shuffled, **of) == expected
    others = pd.Series(list(labels), index=[f"row {i}" for i in range(len(labels))])  # other names: by place
    assert kx.metrics.assortativity(adata, labels=others, **of) == expected
    with pytest.raises(
        ValueError, match="names of `labels` and of `obs_names` do not agree: there is not one '3' in both"
    ):
        kx.metrics.assortativity(adata, labels=shuffled.rename({"3": "another"}), **of)
    levels = pd.MultiIndex.from_product([["batch"], adata.obs_names])  # no names of cells: by place
    assert kx.metrics.assortativity(adata, labels=adata.obs["type"].set_axis(levels), **of) == expected


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_repeated_names_are_not_told_apart(graph, labels):
    adata = with_graph(graph, labels)
    unique = adata.obs["type"].copy()
    adata.obs_names = ["1", *adata.obs_names[1:]]
    for series in (unique, unique.rename({"0": "2"})):
        with pytest.raises(ValueError, match="there is not one '1' in both"):
            kx.metrics.assortativity(adata, labels=series, neighbors_key="my_graph")


def test_nothing_to_compare(graph):
    assert np.isnan(kx.metrics.assortativity(graph, labels=["a"] * 60))
    assert np.isnan(kx.metrics.assortativity(sparse.csr_matrix((3, 3)), labels=["a", "b", "b"]))


def test_what_is_refused(graph, labels):
    adata = with_graph(graph, labels)
    with pytest.raises(
        KeyError, match=r"'med_magma' not found in `adata\.uns`.*Pass `neighbors_key=`, one of \['my_graph'\]"
    ):
        kx.metrics.assortativity(adata, labels="type")
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.obs`.*\['type'\]"):
        kx.metrics.assortativity(adata, labels="none", neighbors_key="my_graph")
    with pytest.raises(ValueError, match="`labels` names a column, 'type', but a matrix has none"):
        kx.metrics.assortativity(graph, labels="type")
    with pytest.raises(ValueError, match="`labels` has 59 values, but the graph has 60 vertices"):
        kx.metrics.assortativity(graph, labels=labels[1:])
    with pytest.raises(ValueError, match="All values of `labels` are missing"):
        kx.metrics.assortativity(graph, labels=[None] * 60)
    with pytest.raises(ValueError, match="must be a square matrix, found shape"):
        kx.metrics.assortativity(graph[:, 1:], labels=labels)
    with pytest.raises(ValueError, match="not symmetric"):
        kx.metrics.assortativity(sparse.triu(graph).tocsr(), labels=labels)
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        kx.metrics.assortativity(-graph, labels=labels)
    with pytest.raises(
        TypeError, match="Expected an AnnData or MuData object, an array or a sparse matrix, found list"
    ):
        kx.metrics.assortativity([[0, 1], [1, 0]], labels=[0, 1])
    with pytest.raises(ValueError, match=r"`axis` must be one of \['obs', 'var'\]"):
        kx.metrics.assortativity(adata, labels="type", axis="rows")
