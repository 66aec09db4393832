"""Second moments of variables: one axis of a matrix, of which the other one's entries are samples."""

from dataclasses import dataclass

import numpy as np

from kronax.solvers.device import Matrix, beside
from kronax.solvers.gaussian.vectors import Vectors
from kronax.solvers.rows.noise_free import Factors, NoiseFree

_FEW = 15.0  # entries below which a variable has less than unit variance
_ULPS = 16.0  # of rounding in eigenvalues: measured, some five times over


@dataclass(frozen=True)
class Side:
    """Second moments of one axis, of which the other one's are samples: ``V diag(e) Vᵀ``.

    Attributes
    ----------
    vectors, eigenvalues
        ``V`` (p, r) and ``e`` (r,), positive, in descending order.
    dim, n_samples
        Degrees of freedom of the axis and of its samples.
    beyond
        What an E-step adds to the second moments of the mode, or None.
    independent
        Share of the samples that are worth an independent one: Eq. 21.
    """

    vectors: Vectors
    eigenvalues: np.ndarray
    dim: int
    n_samples: int
    beyond: np.ndarray | None = None
    independent: float = 1.0

    @property
    def trace(self) -> float:
        """``tr S``."""
        return float(self.eigenvalues.sum())

    @property
    def trace_of_square(self) -> float:
        """``tr S²``."""
        return float((self.eigenvalues**2).sum())


@dataclass(frozen=True)
class Gram:
    """The same, ``S``, (p, p), as it is on the host: what needs no eigenvectors takes a quarter of the time.

    Attributes
    ----------
    rounding
        Eigenvalues of this size may be none.
    """

    matrix: np.ndarray
    dim: int
    n_samples: int
    independent: float = 1.0
    rounding: float = 0.0

    @property
    def trace(self) -> float:
        """``tr S``."""
        return float(self.matrix.trace())

    @property
    def trace_of_square(self) -> float:
        """``tr S²``."""
        return float((self.matrix**2).sum())


def require_variance(there: bool) -> None:
    """Require that anything varies."""
    if not there:
        msg = "Nothing varies: but for their scales, all rows are alike. A precision matrix needs deviations from the mean."
        raise ValueError(msg)


def without_variance(centred: np.ndarray, squares: np.ndarray, rounding: float) -> np.ndarray:
    """Mark the rows or columns of which only rounding is left once means are subtracted.

    ``centred`` and ``squares`` are sums of squares after and before subtraction; a sum of ``n`` products is accurate to
    ``n`` units in the last place.
    """
    return centred <= rounding * squares


def n_above_rounding(values: np.ndarray, squares: float, rounding: float) -> int:
    """Count the eigenvalues, descending, that are more than rounding.

    They are of deviations; ``squares`` is the sum of squares before means were subtracted, in the unit of the eigenvalues, and ``rounding``
    the share of the largest one below which others count as zero.
    """
    return int((values > max(rounding * values[0], size_of_rounding(squares))).sum())


def size_of_rounding(squares: float) -> float:
    """Return the eigenvalue of deviations that rounding may have, given the sum of squares before means were subtracted."""
    return float(_ULPS * np.finfo(np.float64).eps * squares)


def units_of(variances: np.ndarray, still: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors that bring variances to 1, 0 for what does not vary, and the units that these are.

    Where there are few entries, variances become less than 1: a chance meeting of two of few would be a large correlation.
    """
    require_variance(not still.all())
    share = np.minimum(1.0, np.maximum(counts, 1.0) / _FEW)
    units = np.sqrt(np.where(still, 1.0, variances / share))
    return np.where(still, 0.0, 1.0 / units), units


def scaled(square: Matrix, sizes: np.ndarray) -> Matrix:
    """Multiply rows and columns of a matrix, where it is."""
    sizes = beside(sizes, square)
    return square * sizes * sizes[:, None]


def factors_of(z: NoiseFree) -> Factors:
    """Return the factors of ``Z``, 1 where it has none."""
    return Factors(*map(np.ones, z.shape[::-1])) if z.factors.cols is None else z.factors
