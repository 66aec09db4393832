"""kx.metrics.edge_average_precision and edge_precision_recall against scikit-learn and by counting."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score

import kronax as kx


@pytest.fixture
def truth(rng):
    upper = np.triu(np.where(rng.random((30, 30)) < 0.15, rng.choice([-1.0, 1.0], (30, 30)), 0.0), 1)
    return upper + upper.T + np.eye(30)


@pytest.fixture
def estimate(truth, rng):
    noise = rng.normal(size=truth.shape)
    return truth + 0.5 * (noise + noise.T)


def pairs(matrix):
    return np.array([matrix[i, j] for i in range(len(matrix)) for j in range(i + 1, len(matrix))])


def test_as_scikit_learn(truth, estimate):
    found = kx.metrics.edge_average_precision(estimate, truth=truth)
    assert found == pytest.approx(average_precision_score(pairs(truth) != 0, np.abs(pairs(estimate))), abs=1e-12)


def test_sign_as_scikit_learn(truth, estimate):
    found = kx.metrics.edge_average_precision(estimate, truth=truth, by="sign")
    t, s = pairs(truth), pairs(estimate)
    assert found == pytest.approx(average_precision_score(np.r_[t > 0, t < 0], np.r_[s, -s]), abs=1e-12)
    assert kx.metrics.edge_average_precision(-estimate, truth=truth, by="sign") < 0.5 * found
    assert kx.metrics.edge_average_precision(-estimate, truth=truth) == pytest.approx(
        kx.metrics.edge_average_precision(estimate, truth=truth)
    )


def test_ends_of_the_scale(truth, rng):
    assert kx.metrics.edge_average_precision(3 * truth, truth=truth) == 1
    assert kx.metrics.edge_average_precision(3 * truth, truth=truth, by="sign") == 1
    share = np.mean(pairs(truth) != 0)
    assert kx.metrics.edge_average_precision(np.eye(30), truth=truth) == pytest.approx(share)  # all tied
    random = rng.normal(size=(30, 30))
    assert kx.metrics.edge_average_precision(random + random.T, truth=truth) == pytest.approx(share, abs=0.1)


def test_diagonal_does_not_matter(truth, estimate):
    expected = kx.metrics.edge_average_precision(estimate, truth=truth)
    assert kx.metrics.edge_average_precision(estimate + 9 * np.eye(30), truth=truth - np.eye(30)) == expected


@pytest.mark.parametrize("by", ["absolute", "sign"])
def test_curve_by_counting(truth, estimate, by):
    curve = kx.metrics.edge_precision_recall(estimate, truth=truth, by=by)
    t, s = pairs(truth), pairs(estimate)
    true = t != 0 if by == "absolute" else np.r_[t > 0, t < 0]
    score = np.abs(s) if by == "absolute" else np.r_[s, -s]
    assert (np.diff(curve["threshold"]) < 0).all()
    assert len(curve) == len(np.unique(score))
    for row in curve.iloc[::20].itertuples():
        chosen = score >= row.threshold
        assert row.precision == pytest.approx(true[chosen].mean(), abs=1e-12)
        assert row.recall == pytest.approx(true[chosen].sum() / true.sum(), abs=1e-12)
    area = np.sum(np.diff(curve["recall"], prepend=0) * curve["precision"])
    assert area == pytest.approx(kx.metrics.edge_average_precision(estimate, truth=truth, by=by), abs=1e-12)


@pytest.mark.parametrize("axis", ["obs", "var"])
def test_stored_estimate(truth, estimate, axis):
    adata = ad.AnnData(np.zeros((30, 30)))
    place = adata.obsp if axis == "obs" else adata.varp
    place["mine_precision"], place["truth"], place["other"] = sparse.csr_matrix(estimate), truth, -truth
    adata.uns["mine"] = {"precision_key": "mine_precision"}
    for by in ("absolute", "sign"):
        found = kx.metrics.edge_average_precision(adata, neighbors_key="mine", axis=axis, by=by)
        assert found == kx.metrics.edge_average_precision(estimate, truth=truth, by=by)
    found = kx.metrics.edge_average_precision(adata, truth="other", neighbors_key="mine", axis=axis, by="sign")
    assert found == kx.metrics.edge_average_precision(-estimate, truth=truth, by="sign")
    with pytest.raises(KeyError, match="'none' not found"):
        kx.metrics.edge_average_precision(adata, truth="none", neighbors_key="mine", axis=axis)


def test_what_is_refused(truth, estimate):
    with pytest.raises(ValueError, match="The truth has no edges"):
        kx.metrics.edge_average_precision(estimate, truth=np.eye(30))
    with pytest.raises(ValueError, match=r"The estimate has shape \(30, 30\), but the truth \(29, 29\)"):
        kx.metrics.edge_average_precision(estimate, truth=truth[1:, 1:])
    with pytest.raises(ValueError, match="The truth is not symmetric"):
        kx.metrics.edge_average_precision(estimate, truth=np.triu(truth))
    with pytest.raises(ValueError, match="The estimate has NaN or infinite values"):
        kx.metrics.edge_average_precision(np.full((30, 30), np.nan), truth=truth)
    with pytest.raises(ValueError, match="`truth` names a matrix, 'truth', but the estimate is not in an AnnData"):
        kx.metrics.edge_average_precision(estimate)
    with pytest.raises(ValueError, match=r"`by` must be one of \['absolute', 'sign'\]"):
        kx.metrics.edge_average_precision(estimate, truth=truth, by="size")
