"""kx.metrics.cell_specificity on cases worked by hand."""

import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData

import kronax as kx
from kronax._data import tensor as tensors

NAN = np.nan


def test_by_hand():
    values = np.array(
        [
            [[1.0, 0.0], [2.0, 0.0], [5.0, 0.0]],  # alike
            [[1.0, 0.0], [0.0, 1.0], [NAN, NAN]],  # nothing in common
            [[1.0, 1.0], [NAN, NAN], [-1.0, -1.0]],  # opposites
            [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]],  # distances 0, 1, 1
            [[1.0, 0.0], [NAN, NAN], [NAN, NAN]],
        ]
    )
    with tensors.without_pulling():
        mdata = MuData({f"c{c}": AnnData(values[:, c].copy()) for c in range(3)}, axis=-1)
    found = kx.metrics.cell_specificity(mdata)
    np.testing.assert_allclose(found["cell_specificity"], [0, 1, 2, 2 / 3, NAN], atol=1e-15)
    assert found["n_contexts"].tolist() == [3, 2, 2, 3, 1]
    assert found.index.tolist() == [*"01234"]


def test_specific_drugs_are_found_and_completion_keeps_them_apart():
    mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=6, n_genes=60, noise=0.2, missing=0.3)
    kx.tl.complete_tensor(mdata, options=kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.15))
    specific = mdata["line0"].obs["cell_specific"].to_numpy()
    for layer in (None, "completed"):
        found = kx.metrics.cell_specificity(mdata, layer=layer)["cell_specificity"].to_numpy()
        assert np.nanmin(found[specific]) > np.nanmedian(found[~specific])


def test_layer_must_exist():
    with pytest.raises(KeyError, match="completed"):
        kx.metrics.cell_specificity(kx.datasets.drug_response(n_treatments=9, n_genes=5), layer="completed")
