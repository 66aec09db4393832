"""kx.pp.treatment_similarity: Jaccard of labels."""

import numpy as np
import pytest
from scipy import sparse

import kronax as kx


@pytest.fixture
def mdata():
    found = kx.datasets.drug_response(n_treatments=4, n_contexts=2, n_genes=5, missing=0.25)
    for adata in found.mod.values():
        adata.obs["moa"] = ["MEK|RAF", "MEK", "EGFR ", None]
        adata.obs["target"] = ["a|b|c", "b|c|d", "a", "a"]
    return found


def test_by_hand(mdata):
    kx.pp.treatment_similarity(mdata, labels=["moa", "target"])
    moa = np.eye(4)
    moa[0, 1] = moa[1, 0] = 1 / 2
    target = np.array([[1, 2 / 4, 1 / 3, 1 / 3], [2 / 4, 1, 0, 0], [1 / 3, 0, 1, 1], [1 / 3, 0, 1, 1]])
    np.testing.assert_allclose(mdata.obsp["annotation"].toarray(), (moa + target) / 2)


def test_one_label_in_every_cell(mdata):
    found = kx.pp.treatment_similarity(mdata, labels="moa", sep=None, key_added="moa", copy=True)
    np.testing.assert_array_equal(found.obsp["moa"].toarray(), np.eye(4))
    assert "moa" not in mdata.obsp


def test_labels_of_several_modalities_count_together(mdata):
    mdata["line0"].obs["moa"] = [None, "RAF|MEK", None, None]
    kx.pp.treatment_similarity(mdata, labels="moa")
    assert mdata.obsp["annotation"][0, 1] == 1


def test_positive_semi_definite(rng):
    mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=2, n_genes=5, missing=0.25)
    for adata in mdata.mod.values():
        adata.obs["target"] = ["|".join(rng.choice(list("abcdefgh"), rng.integers(1, 5))) for _ in range(40)]
    kx.pp.treatment_similarity(mdata, labels="target")
    found = mdata.obsp["annotation"].toarray()
    assert np.linalg.eigvalsh(found).min() > -1e-12
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_no_other_matrix_is_lost(mdata, kind):
    mdata.obsp["annotation"] = kind(np.eye(4))
    for copy in (False, True):
        with pytest.raises(ValueError, match=r"`mdata.obsp\['annotation'\]` is another matrix.* `del mdata.obsp"):
            kx.pp.treatment_similarity(mdata, labels="moa", copy=copy)
    np.testing.assert_array_equal(mdata.obsp["annotation"] @ np.eye(4), np.eye(4))
    kx.pp.treatment_similarity(mdata, labels="moa", key_added="moa")
    kx.pp.treatment_similarity(mdata, labels="moa", key_added="moa")  # the same again
    del mdata.obsp["annotation"]
    kx.pp.treatment_similarity(mdata, labels="moa")
    assert (mdata.obsp["annotation"] != mdata.obsp["moa"]).nnz == 0


def test_refused(mdata):
    with pytest.raises(KeyError, match="moa"):
        kx.pp.treatment_similarity(mdata, labels="mechanism")
    with pytest.raises(KeyError, match=r"Did you mean 'moa'\?"):
        kx.pp.treatment_similarity(mdata, labels="moaa")
    mdata["line0"].obs["empty"] = [None, "", " ", None]
    with pytest.raises(ValueError, match="No treatment has a label in the column 'empty'"):
        kx.pp.treatment_similarity(mdata, labels="empty")
    with pytest.raises(ValueError, match="empty"):
        kx.pp.treatment_similarity(mdata, labels=[])
    assert not mdata.obsp
