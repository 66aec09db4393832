"""The gene precision on simulated gene networks: what the benchmark's table says, on one replicate."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import kronax as kx
from kronax.solvers.gaussian.simulate import noise_scales


@pytest.fixture(scope="module")
def network(shared_data):
    """A replicate without noise and its undirected edges; skips where the data are not there."""
    folder = shared_data / "grn"
    if not folder.is_dir():
        pytest.skip("no gene networks beside the checkout")
    adata = ad.read_h5ad(folder / "sergio_DS4_rep0_clean.h5ad")
    regulator, target = np.loadtxt(folder / "sergio_DS4_gt_GRN.csv", delimiter=",", dtype=int).T
    truth = np.zeros((adata.n_vars, adata.n_vars))
    truth[regulator, target] = truth[target, regulator] = 1.0
    adata.varp["truth"] = truth
    return adata


def precision_of_edges(adata):
    kx.tl.med_magma(adata, n_neighbors=None)
    return kx.metrics.edge_average_precision(adata, axis="var")


def test_noise_changes_nothing_and_correlation_is_beaten(network, rng):
    clean, noisy = network.copy(), network.copy()
    scales = [sparse.diags_array(noise_scales(n, 1.0, "lognormal", rng)) for n in network.shape]
    noisy.X = sparse.csr_matrix(scales[0] @ network.X.astype(np.float64) @ scales[1])
    without, with_noise = precision_of_edges(clean), precision_of_edges(noisy)
    assert with_noise == pytest.approx(without, abs=1e-3)  # the values are float32 in one, float64 in the other
    logs = noisy.copy()
    sc.pp.normalize_total(logs)
    sc.pp.log1p(logs)
    correlation = np.corrcoef(logs.to_df().to_numpy().T)
    assert with_noise > 2 * kx.metrics.edge_average_precision(
        0.5 * (correlation + correlation.T), truth=network.varp["truth"]
    )
