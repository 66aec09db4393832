"""kx.datasets.kronecker_sum: the graphs, the noise and the zeros are what they are said to be."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx

KINDS = [(graph, signs) for graph in ("barabasi_albert", "block") for signs in ("positive", "random")]


@pytest.mark.parametrize(("graph", "signs"), KINDS)
def test_precision(graph, signs):
    adata = kx.datasets.kronecker_sum(60, 47, graph=graph, signs=signs)
    for truth in (adata.obsp["truth"], adata.varp["truth"]):
        psi = truth.toarray()
        np.testing.assert_array_equal(psi, psi.T)
        np.testing.assert_array_equal(np.diag(psi), 1)
        assert np.linalg.eigvalsh(psi)[0] == pytest.approx(1 - 1 / 1.1, abs=1e-12)
        edges = psi[np.triu_indices(len(psi), 1)]
        edges = edges[edges != 0]
        share = np.mean(edges > 0)
        assert share == 1 if signs == "positive" else 0.25 < share < 0.75


@pytest.mark.parametrize("signs", ["positive", "random"])
def test_tree_is_the_papers(signs):
    psi = kx.datasets.kronecker_sum(300, 2, signs=signs).obsp["truth"]
    off = psi - sparse.eye_array(300)
    adjacency = (off != 0).astype(float).toarray()
    assert adjacency.sum() == 2 * 299
    assert connected_components(adjacency)[0] == 1
    degree = adjacency.sum(0)
    assert degree.max() > 12  # without preference for large degrees, about 8 in a tree of 300
    np.testing.assert_allclose(np.abs(off.toarray()), adjacency / np.sqrt(np.outer(degree, degree)) / 1.1, rtol=1e-12)


def test_blocks():
    psi = kx.datasets.kronecker_sum(23, 2, graph="block", block_size=5).obsp["truth"]
    n_blocks, block = connected_components(psi)
    assert n_blocks == 5
    assert list(np.bincount(block)) == [5, 5, 5, 5, 3]
    assert psi.nnz == 4 * 25 + 9


def test_last_block_of_one():
    psi = kx.datasets.kronecker_sum(11, 2, graph="block", block_size=5).obsp["truth"].toarray()
    np.testing.assert_array_equal(psi[10], np.eye(11)[10])


@pytest.mark.parametrize("distribution", ["chi2", "lognormal"])
def test_noise(distribution):
    adata = kx.datasets.kronecker_sum(30, 20, noise=0.7, noise_distribution=distribution)
    scales = np.outer(adata.obs["scale"], adata.var["scale"])
    np.testing.assert_allclose(adata.X, scales * adata.layers["latent"], rtol=1e-12)
    assert (scales > 0).all()
    assert adata.obs["scale"].std() > 0.2


def test_noise_and_zeros_change_nothing_else():
    clean = kx.datasets.kronecker_sum(30, 20, random_state=4)
    noisy = kx.datasets.kronecker_sum(30, 20, noise=1.0, zeros=0.5, random_state=4)
    np.testing.assert_array_equal(clean.layers["latent"], noisy.layers["latent"])
    np.testing.assert_array_equal(clean.X, clean.layers["latent"])
    assert (clean.obsp["truth"] != noisy.obsp["truth"]).nnz == 0
    assert (clean.varp["truth"] != noisy.varp["truth"]).nnz == 0


def test_share_of_zeros():
    adata = kx.datasets.kronecker_sum(200, 100, zeros=0.8)
    assert np.mean(adata.X == 0) == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 20_000))
    assert np.all(adata.layers["latent"] != 0)


def test_seed():
    first, again, other = (kx.datasets.kronecker_sum(20, 15, noise=1, random_state=seed) for seed in (3, 3, 5))
    np.testing.assert_array_equal(first.X, again.X)
    assert (first.obsp["truth"] != again.obsp["truth"]).nnz == 0
    assert not np.isclose(first.X, other.X).any()
    assert (first.obsp["truth"] != other.obsp["truth"]).nnz


def test_seed_does_not_depend_on_what_was_drawn_before():
    np.random.default_rng().random()
    state = np.random.get_state()[1].copy()
    kx.datasets.kronecker_sum(20, 15)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_the_gene_graph_is_found():
    adata = kx.datasets.kronecker_sum(100, 60, graph="block", random_state=1)
    z = adata.layers["latent"]
    found = kx.metrics.edge_average_precision(np.linalg.inv(z.T @ z), truth=adata.varp["truth"])
    assert found > 4 * 0.15  # the share of pairs that are edges is 9 of 59


def test_files(tmp_path):
    adata = kx.datasets.kronecker_sum(12, 9, noise=0.5, zeros=0.2)
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(store := MemoryStore())
    for again in (ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_zarr(store)):
        np.testing.assert_array_equal(again.X, adata.X)
        np.testing.assert_array_equal(again.layers["latent"], adata.layers["latent"])
        assert (again.varp["truth"] != adata.varp["truth"]).nnz == 0
        np.testing.assert_array_equal(again.obs["scale"], adata.obs["scale"])
        assert again.uns["kronecker_sum"]["params"] == adata.uns["kronecker_sum"]["params"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"graph": "star"}, r"`graph` must be one of \['barabasi_albert', 'block'\]"),
        ({"signs": "negative"}, "`signs` must be one of"),
        ({"noise": -0.1}, "`noise` must be a number of at least 0, found -0.1"),
        ({"noise_distribution": "normal"}, "`noise_distribution` must be one of"),
        ({"zeros": 1.0}, "`zeros` must be a number of at least 0 and less than 1, found 1.0"),
        ({"block_size": 1}, "`block_size` must be an integer of at least 2"),
        ({"n_obs": 1}, "`n_obs` must be an integer of at least 2"),
        ({"random_state": None}, "`random_state` must be an integer"),
    ],
)
def test_arguments_that_are_none(argument, message):
    with pytest.raises(ValueError, match=message):
        kx.datasets.kronecker_sum(**argument)
