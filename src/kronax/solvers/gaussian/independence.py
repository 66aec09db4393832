"""How many independent samples some samples are worth.

Shrinkage asks what a sample shows that had no part in an estimate. Where samples come in near copies, as cells do that are taken one after
the other from one history, nearly the same sample has had its part, and hardly anything is shrunk. ``n`` samples with correlations ``ρ_ik``
estimate a covariance as well as

    ``n_eff = n² / Σ_ik ρ_ik²``                                                                                     (21)

independent ones. Whatever variables depend on, independent Gaussian samples ``UE^{1/2}Vᵀ`` have a ``U`` that is uniformly distributed. Of its
columns, ``a`` of them ``A`` and ``b`` others ``B``,

    ``E[(BBᵀ)_ik | A] = −b/(n − a) (AAᵀ)_ik``,   ``i ≠ k``:                                                          (22)

which samples are alike along some directions does not tell which are along others. Near copies are alike along all of them; cells of one type
only along the few that differ between types. So every sample's nearest others are found along ``A``, and how alike they are along ``B``, beyond
Eq. 22, takes the place of ``ρ``. Where noise makes the nearest along ``A`` others than the true ones, that is less than ``ρ``, and too many
samples are counted, not too few.
"""

import numpy as np

MOST = 10_000  # samples: more are enough, alike or not
_FEWEST = 40  # samples, of which ten have a nearest tenth
_DIRECTIONS, _FEWEST_DIRECTIONS = 80, 20  # in A and B together: among few, those in which types differ are not few
_STRUCTURE = 0.25  # of the directions, the first, in which cell types differ
_PAIRS = 2**22  # of samples, of which the nearest are found: all of two thousand
_NEAREST = 250  # others
_ALIKE = 0.25  # correlation: rare values that a few samples have in common look like less


def directions(rank: int, n_samples: int) -> np.ndarray:
    """Choose directions of so many, the largest first: up to a third of the samples, without those of most structure."""
    end = min(rank, n_samples // 3)
    start = int(_STRUCTURE * end)
    return np.linspace(start, end - 1, min(_DIRECTIONS, end - start)).astype(int)


def independent_share(u: np.ndarray) -> float:
    """Return ``n_eff/n`` for the rows of some columns of ``U``, (n, k), as :func:`directions` chooses them."""
    if not _FEWEST <= len(u) <= MOST or u.shape[1] < _FEWEST_DIRECTIONS:
        return 1.0
    alike = nearest_alike(u)
    return float(1.0 / (1.0 + (alike[alike >= _ALIKE] ** 2).sum()))


def nearest_alike(u: np.ndarray) -> np.ndarray:
    """Return how alike samples are to their nearest, second nearest and so on, in the mean: 0 for independent ones."""
    n, u = len(u), u.astype(np.float32)
    a, b = u[:, ::2], u[:, 1::2]
    by_size = np.argsort((u**2).sum(axis=1), kind="stable")  # which does not depend on the order of the samples
    queries = by_size[np.linspace(0, n - 1, min(n, _PAIRS // n)).astype(int)]
    own = np.arange(len(queries)), queries
    share = b.shape[1] / (n - a.shape[1])
    along, also, sizes, other_sizes = a[queries] @ a.T, b[queries] @ b.T, (a**2).sum(axis=1), (b**2).sum(axis=1)
    alike = _cosines(also + share * along, other_sizes + share * sizes, queries)
    near = _cosines(along, sizes, queries)
    near[own] = -np.inf
    k = min(_NEAREST, n // 10)
    nearest = np.argpartition(-near, k, axis=1)[:, :k]
    nearest = np.take_along_axis(nearest, np.argsort(-np.take_along_axis(near, nearest, 1), axis=1, kind="stable"), 1)
    return np.take_along_axis(alike, nearest, 1).mean(axis=0)


def _cosines(products: np.ndarray, squares: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Divide products of some rows with all by the lengths of both; those of length 0 are not alike to any."""
    sizes = np.sqrt(np.where(squares > 0, squares, np.inf))
    products /= sizes[queries, None]
    products /= sizes
    return products
