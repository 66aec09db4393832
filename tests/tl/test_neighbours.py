"""How ``med_magma`` and ``gmgm`` find neighbouring cells: the recall asked for, and transformers of every kind."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

import kronax as kx

N, P, K = 120, 40, 7


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    return AnnData(rng.poisson(rng.gamma(0.5, size=(N, 4)) @ rng.gamma(0.5, size=(4, P)) * 4.0 + 0.3).astype(float))


def graph(adata: AnnData, verb=kx.tl.med_magma, **arguments) -> AnnData:
    return verb(adata, n_neighbors=K, copy=True, key_added="key", **arguments)


def assert_same(one: AnnData, other: AnnData):
    for kind in ("connectivities", "distances", "precision"):
        first, second = (result.obsp[f"key_{kind}"] for result in (one, other))
        np.testing.assert_array_equal(first.indices, second.indices)
        np.testing.assert_allclose(first.data, second.data, rtol=1e-10)


class Changed:
    """A transformer whose distances are changed before they are returned."""

    def __init__(self, change, n_neighbors: int = K):
        self.change, self.n_neighbors = change, n_neighbors

    def fit_transform(self, rows):
        found = KNeighborsTransformer(n_neighbors=self.n_neighbors, algorithm="brute").fit_transform(rows)
        return self.change(found.tocoo())


def without_self(found):
    kept = found.row != found.col
    return sparse.csr_array((found.data[kept], (found.row[kept], found.col[kept])), shape=found.shape)


def unsorted(found):
    """The farthest first, the row itself in the middle or at the end."""
    order = np.lexsort((-found.data, found.row))
    starts = np.arange(0, len(order) + 1, len(order) // found.shape[0])
    return sparse.csr_matrix((found.data[order], found.col[order], starts), shape=found.shape)


def some_short(found):
    """Two rows lack neighbours, one all of them, and even its own place."""
    kept = ~np.isin(found.row, [3, 50]) | (found.row == 50) & (found.data < np.median(found.data[found.row == 50]))
    return sparse.coo_array((found.data[kept], (found.row[kept], found.col[kept])), shape=found.shape)


@pytest.mark.parametrize("verb", [kx.tl.med_magma, kx.tl.gmgm])
@pytest.mark.parametrize(
    "transformer",
    [
        "sklearn",
        KNeighborsTransformer(n_neighbors=K, algorithm="brute"),
        KNeighborsTransformer(n_neighbors=3 * K, algorithm="brute", metric="cosine"),
        Changed(without_self),
        Changed(unsorted),
        Changed(unsorted, K + 4),
        Changed(some_short),
    ],
    ids=["by name", "with self", "more, cosine", "without self", "unsorted", "more, unsorted", "some short"],
)
def test_an_exact_transformer_gives_the_same_graph(verb, transformer, adata):
    assert_same(graph(adata, verb, transformer=transformer), graph(adata, verb))


def test_the_neighbours_are_those_of_the_transformer(adata):
    """A transformer that knows but a ring."""

    class Ring:
        def fit_transform(self, rows):
            assert rows.shape[0] == N
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0)
            row, step = np.divmod(np.arange(N * K), K)
            return sparse.csr_array((1.0 + step, (row, (row + step + 1) % N)), shape=(N, N))

    found = graph(adata, transformer=Ring())
    row, col = found.obsp["key_connectivities"].nonzero()
    assert len(row)
    assert (np.minimum((row - col) % N, (col - row) % N) <= K).all()
    sc.tl.leiden(found, neighbors_key="key", flavor="igraph", n_iterations=2, directed=False)


def test_equal_cells(adata):
    """Distances of 0 are neighbours, whether or not they are stored."""
    adata.X[: 2 * K] = adata.X[0]
    for drop in (lambda found: found, lambda found: (found.eliminate_zeros(), found)[1]):
        found = graph(adata, transformer=Changed(drop)).obsp["key_distances"][: 2 * K]
        near = np.add.reduceat(found.data < 1e-6, found.indptr[:-1])
        assert (near >= K).all()


def test_pynndescent_by_name(adata, monkeypatch):
    """The real one compiles for a minute."""

    class PyNNDescentTransformer(KNeighborsTransformer):
        def __init__(self, n_neighbors, random_state):
            assert random_state == 5
            self.random_state = random_state
            super().__init__(n_neighbors=n_neighbors, algorithm="brute")

    module = ModuleType("pynndescent")
    module.__spec__ = ModuleSpec("pynndescent", None)
    module.PyNNDescentTransformer = PyNNDescentTransformer
    monkeypatch.setitem(sys.modules, "pynndescent", module)
    assert_same(graph(adata, transformer="pynndescent", random_state=5), graph(adata, random_state=5))
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    refused(adata, ImportError, "pip install pynndescent", transformer="pynndescent")


def test_what_is_stored(adata, tmp_path):
    transformer = KNeighborsTransformer(n_neighbors=K + 1, algorithm="brute", metric="cosine", n_jobs=1)
    found = graph(adata, transformer=transformer)
    found.write_h5ad(tmp_path / "a.h5ad")
    found.write_zarr(tmp_path / "a.zarr")
    params = found.uns["key"]["params"]
    assert "recall" not in params
    assert params["transformer"].startswith("KNeighborsTransformer(") and "\n" not in params["transformer"]
    assert graph(adata, transformer="sklearn").uns["key"]["params"]["transformer"] == "sklearn"
    params = graph(adata, recall=1).uns["key"]["params"]
    assert (params["recall"], type(params["recall"])) == (1.0, float) and "transformer" not in params
    for others in ({"weights": "absolute"}, {"graphs": "genes"}):
        assert not {"recall", "transformer"} & graph(adata, **others).uns["key"]["params"].keys()


def refused(adata: AnnData, error: type[Exception], words: str, **arguments):
    """With nothing written, and before any work: a transformer that would be called fails differently."""
    before = {part: list(getattr(adata, part)) for part in ("obs", "obsm", "obsp", "uns", "varp")}
    for verb in (kx.tl.med_magma, kx.tl.gmgm):
        with pytest.raises(error, match=words):
            verb(adata, **({"n_neighbors": K} | arguments))
    assert before == {part: list(getattr(adata, part)) for part in before}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        *(
            ({"recall": value}, ValueError, "`recall` must be a number above 0")
            for value in (0, 1.01, "all", None, True)
        ),
        ({"recall": 0.99, "weights": "absolute"}, ValueError, 'for weights="affinity".*recall=0.99'),
        ({"transformer": "sklearn", "graphs": "genes"}, ValueError, "found graphs='genes' and transformer='sklearn'"),
        ({"recall": 0.5, "graphs": "genes"}, ValueError, "found graphs='genes' and recall=0.5"),
        ({"transformer": "sklearn", "weights": "partial_correlation"}, ValueError, 'for weights="affinity".*sklearn'),
        ({"transformer": "sklearn", "n_neighbors": None}, ValueError, "n_neighbors=None connects all"),
        ({"transformer": "sklearn", "recall": 0.99}, ValueError, "`recall` is for kronax's own search"),
        ({"transformer": "rapids"}, ValueError, "`transformer` must be one of .*found 'rapids'"),
        ({"transformer": KNeighborsTransformer}, TypeError, "`fit_transform`.*the class KNeighborsTransformer"),
        ({"transformer": 3}, TypeError, "`transformer` must be 'pynndescent' or 'sklearn' or have"),
        (
            {"transformer": KNeighborsTransformer()},
            ValueError,
            r"looks for 5 .*n_neighbors=7.*set its n_neighbors to 8",
        ),
        ({"transformer": KNeighborsTransformer(n_neighbors=9, metric="manhattan")}, ValueError, "metric='manhattan'"),
        ({"transformer": KNeighborsTransformer(n_neighbors=9, p=1)}, ValueError, "p=1"),
        ({"transformer": KNeighborsTransformer(n_neighbors=9, mode="connectivity")}, ValueError, 'mode="distance"'),
        (
            {"transformer": Changed(without_self, K - 1)},
            ValueError,
            "found 6 neighbours of most cells.*n_neighbors to 8",
        ),
        (
            {"transformer": Changed(lambda found: found.tocsr()[:5])},
            ValueError,
            "must return 120 × 120 .*, found 5 × 120",
        ),
    ],
)
def test_unfit_arguments(arguments, error, words, adata):
    refused(adata, error, words, **arguments)


def test_many_cells():
    """Above 8,192 cells the search is approximate, unless all neighbours are asked for."""
    rng = np.random.default_rng(0)
    adata = AnnData(rng.gamma(0.3, size=(8300, 20)) @ rng.gamma(0.5, size=(20, P)) + 0.1 * rng.normal(size=(8300, P)))
    some, all_ = (graph(adata, kx.tl.gmgm, recall=recall).obsp["key_connectivities"] > 0 for recall in (0.6, 1.0))
    assert 0.6 < some.multiply(all_).nnz / all_.nnz < 0.99
