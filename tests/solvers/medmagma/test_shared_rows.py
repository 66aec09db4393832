"""Several matrices with common rows: what must follow from the equations, and what a missing row may not change."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.medmagma import em, shared_rows

N, SIZES = 60, (40, 15)


def matrices(rng, n: int = N) -> list[np.ndarray]:
    """Two matrices whose rows have three directions in common."""
    scores = rng.normal(size=(n, 3)) * 3.0
    return [scores @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) for p in SIZES]


def fitted(x: np.ndarray, **arguments) -> em.Structure:
    return em.fit_without_noise(sparse.csr_array(x), **arguments)


def combined(fits, members, **penalty) -> shared_rows.SharedRows:
    embeddings = [fit.rows.embedding for fit in fits]
    return shared_rows.combine(
        [fit.spectrum for fit in fits], embeddings, members, N, penalty=m_step.Penalty(**penalty)
    )


def product(spectrum: Spectrum) -> np.ndarray:
    return (spectrum.rows.array() * np.sqrt(spectrum.eigenvalues)) @ spectrum.cols.array().T


def everywhere(count: int = 2) -> list[np.ndarray]:
    return [np.arange(N)] * count


@pytest.mark.parametrize("n", [N, 30])
def test_spectrum_is_that_of_the_matrices_side_by_side(n, rng):
    fits = [fitted(x) for x in matrices(rng, n)]
    found = shared_rows.side_by_side([fit.spectrum for fit in fits], [np.arange(n)] * 2, n)
    z = np.hstack([product(fit.spectrum) for fit in fits])
    expected = np.linalg.svd(z, compute_uv=False)[: min(n - 1, sum(SIZES))] ** 2
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-8)
    assert found.dims == (n - 1, sum(SIZES))
    np.testing.assert_allclose(product(found), z, atol=1e-8)


def test_solves_the_equations_of_the_shared_model(rng):
    """Where the gradient of the common objective in Ψ and in every Φ vanishes, with the shrunk spectra as its data."""
    spectra = [fitted(x, center=False).spectrum for x in matrices(rng)]
    joint = shared_rows.side_by_side(spectra, everywhere(), N)
    found = m_step.estimate_shared(joint, spectra, m_step.Penalty(joint=True))
    assert found.status.converged
    psi, phis = dense(found.rows), [dense(phi) for phi in found.cols]
    lam, u = np.linalg.eigh(psi)
    mus = [np.linalg.eigvalsh(phi) for phi in phis]
    # the model's second moments have the eigenvectors found, the shrunk traces, and shrunk eigenvalues that decrease
    moments = [1.0 / (lam[:, None] + mu) for mu in mus]
    total = sum(moment.sum(1) for moment in moments)
    assert total.sum() == pytest.approx(sum((s.eigenvalues).sum() for s in spectra), rel=1e-8)
    for moment, spectrum in zip(moments, spectra, strict=True):
        assert moment.sum() == pytest.approx(spectrum.eigenvalues.sum(), rel=1e-8)
    along = joint.rows.array().T @ psi @ joint.rows.array()
    np.testing.assert_allclose(along, np.diag(np.diag(along)), atol=1e-8 * np.abs(lam).max())
    mean = np.concatenate([np.diag(phi) for phi in phis]).mean()
    assert np.diag(psi).mean() == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("joint", [False, True])
def test_one_matrix_is_the_model_of_one_matrix(joint, rng):
    fit = fitted(matrices(rng)[0], penalty=m_step.Penalty(joint=joint))
    found = combined([fit], everywhere(1), joint=joint)
    np.testing.assert_allclose(dense(found.rows), dense(fit.rows.precision), atol=1e-7)
    np.testing.assert_allclose(dense(found.cols[0]), dense(fit.cols.precision), atol=1e-7)
    np.testing.assert_allclose(
        found.embedding @ found.embedding.T, fit.rows.embedding @ fit.rows.embedding.T, atol=1e-8
    )
    assert found.status.objective[-1] == pytest.approx(float(fit.status.objective[-1]), rel=1e-8)


def test_order_of_the_matrices(rng):
    fits = [fitted(x) for x in matrices(rng)]
    one, other = combined(fits, everywhere(), joint=True), combined(fits[::-1], everywhere(), joint=True)
    np.testing.assert_allclose(dense(one.rows), dense(other.rows), atol=1e-7)
    for a, b in zip(one.cols, other.cols[::-1], strict=True):
        np.testing.assert_allclose(dense(a), dense(b), atol=1e-7)
    np.testing.assert_allclose(one.embedding @ one.embedding.T, other.embedding @ other.embedding.T, atol=1e-8)


@pytest.mark.parametrize(("n", "n_missing"), [(N, 10), (6000, 3000)], ids=["in one block", "in two blocks"])
def test_missing_rows_are_placed_where_they_belong(rng, n, n_missing):
    """Rows of ten kinds, all alike but for their length: a row's place is what it would have been."""
    kinds = np.arange(n) % 10
    embeddings = [(rng.normal(size=(10, 3)) * 5.0)[kinds], rng.normal(size=(10, 4))[kinds]]
    embeddings[0] *= rng.uniform(0.5, 2.0, (n, 1))
    complete = shared_rows.joint_embedding(embeddings, [np.arange(n)] * 2, n)
    members = [np.arange(n), np.arange(n_missing, n)]
    found = shared_rows.joint_embedding([embeddings[0], embeddings[1][n_missing:]], members, n)
    some = np.arange(0, n, max(1, n // 500))
    expected = complete[some] @ complete.T
    np.testing.assert_allclose(found[some] @ found.T, expected, atol=1e-10 * np.abs(expected).max())


def test_a_modality_that_shares_no_rows_adds_nothing_to_the_others(rng):
    embeddings = [rng.normal(size=(20, 3)), rng.normal(size=(N - 20, 2))]
    found = shared_rows.joint_embedding(embeddings, [np.arange(20), np.arange(20, N)], N)
    gram = np.zeros((N, N))
    gram[:20, :20], gram[20:, 20:] = (part @ part.T for part in embeddings)
    np.testing.assert_allclose(found @ found.T, gram, atol=1e-10)


def test_memory_grows_with_entries_and_the_smaller_side():
    bytes_needed = shared_rows.bytes_needed
    assert bytes_needed(2000, 300, 10**6) > bytes_needed(2000, 300, 10**5)
    assert bytes_needed(2000, 300, 0) == bytes_needed(300, 2000, 0) > bytes_needed(2000, 200, 0)
