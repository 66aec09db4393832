"""Signed partial correlations from what was stored, against the graph and against a closed form."""

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import kronax as kx
from kronax._data.partial_correlations import partial_correlations


@pytest.fixture(scope="module")
def learnt() -> AnnData:
    adata = kx.datasets.kronecker_sum(60, 50, signs="random")
    kx.tl.med_magma(adata, n_neighbors=5, weights="partial_correlation")
    kx.tl.med_magma(adata, n_neighbors=None, key_added="full", weights="partial_correlation")
    return adata


@pytest.mark.parametrize("axis", ["obs", "var"])
@pytest.mark.parametrize("key", ["med_magma", "full"])
def test_positive_ones_are_the_weights_of_the_graph(learnt, axis, key):
    found = partial_correlations(learnt, key, axis).toarray()
    weights = getattr(learnt, f"{axis}p")[f"{key}_connectivities"].toarray()
    np.testing.assert_allclose(np.maximum(found, 0)[weights > 0], weights[weights > 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(found, found.T)
    assert not found.diagonal().any()


def test_complete_matrices_have_both_signs(learnt):
    found = partial_correlations(learnt, "full", "var").toarray()
    precision = learnt.varp["full_precision"].toarray()
    off = ~np.eye(len(found), dtype=bool)
    np.testing.assert_array_equal(np.sign(found[off]), -np.sign(precision[off]))
    assert (found > 0).any()
    assert (found < 0).any()


def test_the_axis_itself_where_the_other_is_not_at_hand():
    phi = np.array([[2.0, -0.5, 0.0], [-0.5, 4.0, 0.25], [0.0, 0.25, 0.0]])  # the last took no part
    adata = AnnData(np.ones((2, 3)), varp={"p": sparse.csr_matrix(phi)}, uns={"key": {"precision_key": "p"}})
    found = partial_correlations(adata, "key", "var").toarray()
    assert found[0, 1] == pytest.approx(0.5 / np.sqrt((2 + 3) * (4 + 3)))  # mean diagonal: 3
    adata.obsp["p"] = sparse.csr_matrix(np.diag([1.0, 3.0]))
    found = partial_correlations(adata, "key", "var").toarray()
    assert found[0, 1] == pytest.approx(0.5 / np.sqrt((2 + 2) * (4 + 2)))
