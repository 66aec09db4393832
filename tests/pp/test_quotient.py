"""kx.pp.quotient: what it reads, what it writes, and what it leaves alone."""

import dataclasses
import re
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx
from kronax.solvers.scales.quotient import quotient as solve

N, P = 40, 30


@pytest.fixture
def counts(rng) -> np.ndarray:
    x = rng.poisson(rng.lognormal(0.0, 1.0, (N, 1)) * rng.lognormal(0.0, 1.0, P)).astype(float)
    i = np.arange(N)
    x[i, i % P] += 1
    return x


def annotated(x) -> ad.AnnData:
    names = pd.DataFrame(index=[f"cell{i}" for i in range(N)]), pd.DataFrame(index=[f"gene{j}" for j in range(P)])
    return ad.AnnData(x, *names)


def test_writes_the_quotient(counts):
    adata = annotated(sparse.csr_matrix(counts))
    assert kx.pp.quotient(adata) is None
    expected = solve(sparse.csr_array(counts))
    found = adata.layers["quotient"]
    assert found.format == "csr" and found.dtype == np.float64 and found.shape == (N, P)
    np.testing.assert_array_equal(found.toarray(), expected.matrix.toarray())
    np.testing.assert_array_equal(adata.obs["quotient_log_scale"], expected.log_rows)
    np.testing.assert_array_equal(adata.var["quotient_log_scale"], expected.log_cols)
    scales = np.exp(adata.obs["quotient_log_scale"].to_numpy()[:, None] + adata.var["quotient_log_scale"].to_numpy())
    np.testing.assert_allclose(scales * found.toarray(), counts, rtol=1e-12)


def test_multiplicative_noise_changes_nothing(counts, rng):
    clean = annotated(counts)
    noisy = annotated(rng.lognormal(0.0, 1.5, (N, 1)) * counts * rng.lognormal(0.0, 1.5, P))
    for adata in (clean, noisy):
        kx.pp.quotient(adata)
    np.testing.assert_allclose(noisy.layers["quotient"].toarray(), clean.layers["quotient"].toarray(), rtol=1e-10)


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.asfortranarray,
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint16),
        lambda x: x.astype(np.float32),
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
        sparse.csc_array,
        lambda x: sparse.csc_matrix(x.astype(np.int32)),
    ],
)
def test_formats_and_dtypes(convert, counts):
    adata = annotated(convert(counts))
    kx.pp.quotient(adata)
    expected = solve(sparse.csr_array(counts)).matrix.toarray()
    np.testing.assert_allclose(adata.layers["quotient"].toarray(), expected, rtol=1e-12)


def test_stored_zeros_are_zeros(counts):
    stored = sparse.csr_matrix(counts + 1)
    stored.data -= 1
    adata = annotated(stored)
    kx.pp.quotient(adata)
    assert adata.layers["quotient"].nnz == np.count_nonzero(counts)
    assert adata.X.nnz == N * P


def test_layer_key_and_copy(counts):
    adata = annotated(np.ones((N, P)))
    adata.layers["counts"] = counts
    before = adata.copy()
    found = kx.pp.quotient(adata, layer="counts", key_added="free", copy=True)
    assert set(found.layers) - {None} == {"counts", "free"}  # under None, anndata 0.13 keeps X
    assert list(found.obs) == list(found.var) == ["free_log_scale"]
    np.testing.assert_array_equal(found.layers["free"].toarray(), solve(sparse.csr_array(counts)).matrix.toarray())
    for one in (adata, found):
        np.testing.assert_array_equal(one.X, before.X)
        np.testing.assert_array_equal(one.layers["counts"], counts)
    assert set(adata.layers) - {None} == {"counts"} and adata.obs.empty and adata.var.empty


def test_view_becomes_actual(counts):
    adata = annotated(sparse.csr_matrix(counts))
    view = adata[:, ::2]
    with pytest.warns(ad.ImplicitModificationWarning):
        kx.pp.quotient(view)
    assert not view.is_view and "quotient" in view.layers
    assert "quotient" not in adata.layers


def test_empty_cells_and_genes(counts):
    x = counts.copy()
    x[[3, 7]] = 0
    x[:, 5] = 0
    adata = annotated(x)
    with pytest.warns(UserWarning, match=r"2 of 40 cells \(cell3, cell7\); 1 of 30 genes \(gene5\)") as caught:
        kx.pp.quotient(adata)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(np.flatnonzero(adata.obs["quotient_log_scale"].isna()), [3, 7])
    np.testing.assert_array_equal(np.flatnonzero(adata.var["quotient_log_scale"].isna()), [5])
    cells, genes = np.delete(np.arange(N), [3, 7]), np.delete(np.arange(P), 5)
    expected = solve(sparse.csr_array(x[cells][:, genes])).matrix.toarray()
    np.testing.assert_allclose(adata.layers["quotient"].toarray()[np.ix_(cells, genes)], expected, rtol=1e-12)
    np.testing.assert_array_equal(adata.layers["quotient"].toarray() != 0, x != 0)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda x: np.where(x == x.max(), np.nan, x), ValueError, "NaN or infinite"),
        (lambda x: np.where(x == x.max(), np.inf, x), ValueError, "NaN or infinite"),
        (np.zeros_like, ValueError, "at least 2 of each"),
        (lambda x: x * 1j, TypeError, "complex128"),
        (lambda x: None, ValueError, "is None"),
    ],
)
def test_errors_write_nothing(spoil, error, words, counts):
    adata = annotated(counts)
    adata.X = spoil(counts)
    with pytest.raises(error, match=words):
        kx.pp.quotient(adata)
    assert not adata.layers and adata.obs.empty and adata.var.empty


def test_missing_layer(counts):
    adata = annotated(counts)
    adata.layers["raw_counts"] = counts
    with pytest.raises(KeyError, match=re.escape("Available keys: ['raw_counts']")):
        kx.pp.quotient(adata, layer="counts")


def test_no_anndata(counts):
    with pytest.raises(TypeError, match=r"numpy\.ndarray"):
        kx.pp.quotient(counts)


def test_survives_h5ad(counts, tmp_path):
    adata = annotated(sparse.csr_matrix(counts))
    kx.pp.quotient(adata)
    adata.write_h5ad(tmp_path / "quotient.h5ad")
    back = ad.read_h5ad(tmp_path / "quotient.h5ad")
    np.testing.assert_array_equal(back.layers["quotient"].toarray(), adata.layers["quotient"].toarray())
    pd.testing.assert_frame_equal(back.obs, adata.obs)
    pd.testing.assert_frame_equal(back.var, adata.var)


@pytest.mark.parametrize("name", ["a/b", "", None, 5])
def test_names_that_no_file_can_hold(name):
    adata = ad.AnnData(np.ones((3, 3)))
    with pytest.raises(ValueError, match="`key_added` must be"):
        kx.pp.quotient(adata, key_added=name)
    assert not adata.layers and adata.obs.empty


def test_scales_that_were_not_found(monkeypatch):
    place = sys.modules["kronax.pp._quotient"]
    solve = place.solve
    monkeypatch.setattr(place, "solve", lambda matrix: dataclasses.replace(solve(matrix), residual=np.nan))
    adata = ad.AnnData(np.ones((3, 3)))
    with pytest.raises(FloatingPointError, match="scales were not found"):
        kx.pp.quotient(adata)
    assert not adata.layers and adata.obs.empty


def in_batches(x) -> ad.AnnData:
    adata = annotated(x)
    adata.obs["batch"] = np.array(["b", "a"])[np.arange(N) % 2]
    return adata


def test_every_batch_by_itself(counts):
    adata = in_batches(sparse.csr_matrix(counts))
    kx.pp.quotient(adata, batch_key="batch")
    for batch in ("a", "b"):
        rows = (adata.obs["batch"] == batch).to_numpy()
        part = annotated(counts)[rows].copy()
        kx.pp.quotient(part)
        np.testing.assert_allclose(
            adata.layers["quotient"][rows].toarray(), part.layers["quotient"].toarray(), rtol=1e-9
        )
        np.testing.assert_allclose(adata.obs["quotient_log_scale"][rows], part.obs["quotient_log_scale"], atol=1e-9)
        found = adata.varm["quotient_log_scale"][batch]
        np.testing.assert_allclose(found, part.var["quotient_log_scale"], atol=1e-9)


def test_scale_of_a_gene_is_the_mean_over_its_entries_in_all_batches(counts):
    """And in a batch in which it has none, it has no scale."""
    adata = annotated(counts)
    first = np.arange(N) < 20
    adata.obs["batch"] = np.where(first, "a", "b")
    adata.X[first, 4] = 0.0
    kx.pp.quotient(adata, batch_key="batch")
    of_batch = adata.varm["quotient_log_scale"]
    assert np.isnan(of_batch["a"].iloc[4])
    for batch, rows in (("a", first), ("b", ~first)):
        np.testing.assert_array_equal(of_batch[batch].notna(), adata.X[rows].any(axis=0))
    of_entries = np.where(adata.X != 0, of_batch[["a", "b"]].to_numpy().T[1 - first], np.nan)
    np.testing.assert_allclose(adata.var["quotient_log_scale"], np.nanmean(of_entries, axis=0), atol=1e-12)


def test_factors_of_a_gene_in_a_batch_change_nothing(counts, rng):
    clean, noisy = in_batches(counts), in_batches(counts * rng.lognormal(0.0, 1.0, (2, P))[np.arange(N) % 2])
    for adata in (clean, noisy):
        kx.pp.quotient(adata, batch_key="batch")
    np.testing.assert_allclose(noisy.layers["quotient"].toarray(), clean.layers["quotient"].toarray(), rtol=1e-10)


def test_one_batch_is_told(counts):
    adata, expected = annotated(counts), annotated(counts)
    adata.obs["batch"] = 1
    with pytest.warns(UserWarning, match="of one batch"):
        kx.pp.quotient(adata, batch_key="batch")
    kx.pp.quotient(expected)
    np.testing.assert_array_equal(adata.layers["quotient"].toarray(), expected.layers["quotient"].toarray())
    with pytest.raises(KeyError, match="Key 'plate' not found in `adata.obs`"):
        kx.pp.quotient(expected, batch_key="plate")
