r"""How sure the edges between variables are: a test of every partial correlation.

The null hypothesis keeps what is not dependence between two variables. Where variables do not depend on each other and are
Gaussian, with any dependence between the samples, rotating them changes nothing. An estimate of the precision that rotates with
them is then ``V diag(f) Vᵀ`` with ``V`` uniform over all rotations, whatever its spectrum ``f``, and the variance of its entries
off the diagonal, given ``f``, is their mean square

    ``σ² = Σ_{j≠l} ρ_jl² / (p(p − 1))``.                                                                              (1)

Structure in ``f`` makes it larger, so tests are conservative where there is much of it. Variables with other variances than most
have more or less noise in their partial correlations; ``τ_j`` is the spread of those of variable ``j``, by their mean absolute value, the
largest tenth left out, beside that of all, as far as it differs by more than chance. Counts are not Gaussian: a product of
two rare variables is skewed like a Poisson variable. If the values ``z_j`` and ``z_l`` are paired at random, the sum of their
products over ``n`` samples has

    skewness ``s_jl = γ_j γ_l / √n``,   ``γ_j`` the skewness of ``z_j``,                                              (2)

and the cube root of Wilson and Hilferty (1931) turns it into a normal score, in the lighter tail with that share of ``s`` that is seen,

    ``y = (6/s)((1 + s u/2)^⅓ − 1) + s/6``,   ``u = ρ_jl/(τ_j τ_l σ)``, ``σ`` that of the ``ρ_jl/(τ_j τ_l)``.         (3)

What adds ``c a aᵀ`` to the covariance of independent variables with variances ``v`` takes ``b a aᵀ/(v vᵀ)`` from their precision, to
first order, and therefore adds ``b g_j g_l`` to their partial correlations, ``g = a/√v``. Two such directions are known: the correlation
of a variable with the number of variables that a sample has; and ``m/√v``, ``m`` the means, for errors of the samples' scales, unless
these were taken away before (:mod:`kronax.solvers.gaussian.scale_errors`). From ``ρ`` is taken

    ``Σ_k b_k g_kj g_kl``,                                                                                           (4)

with ``b`` fitted to all pairs.

Samples may come in groups whose means were taken from them, such as types of cells, and a variable may vary in one of them alone: a marker of a type. With
variances ``v_gj`` in group ``g``, of ``n_g`` of ``n`` samples, and ``v̄_j`` in all of them, the sum of the products of two variables that do not depend on each other within groups
has the variance ``Σ_g n_g v_gj v_gl``, which is that of variables with the same variance everywhere times

    ``κ_jl = Σ_g V_jg V_lg``,   ``V_jg = √(n_g/n) v_gj/v̄_j``:                                                           (24)

two markers of one type are known from as few samples as it has. Then ``ρ_jl/√κ_jl`` takes the place of ``ρ_jl``, with ``κ ≥ .1``.

What is left depends on how rare the variables are, so scores are centred and scaled by their median and Eq. 1 once more, among
pairs that are expected together in about equally many samples: a local null (Efron 2004). An angle, which cannot exceed a right one, has lighter
tails than a normal variable, the more so the fewer samples there are. With ``κ ≤ 0`` the excess kurtosis of all scores ``y``, normal ones are

    ``y − (κ/24)(y³ − 3y)``                                                                                           (5)

(Cornish and Fisher 1938). Pairs that are expected together in fewer than ten samples are not tested.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from kronax.solvers.gaussian.precision import LowRank, Partial, Whole, diagonal, entries, factors
from kronax.solvers.gaussian.scale_errors import MEDIAN_SIZE, slopes

FEWEST_TOGETHER = 10.0  # samples in which two variables are expected together, for a test
_LIGHT = 3.0  # scores beyond which the lighter tail of Eq. 3 is not trusted
_BODY, _IN_BODY = 2.5, 0.4206  # values that show the skewness, and how much of it
_FOURTH, _FOURTH_IN_BODY = -0.2848, 0.3665  # of normal values in the body, and how much of the kurtosis these show
_FAR, _LEAST_KURTOSIS = 4.0, -0.2  # scores and kurtosis beyond which Eq. 5 is not trusted
_SYMMETRIC = 1e-6  # skewness below which Eq. 3 is the identity, but for rounding
_LEAST_KAPPA = 0.1  # of Eq. 24
_PER_BIN, _MOST_BINS = 1000, 20  # pairs of a local null, at least, and local nulls
_FEWEST_FOR_SPREAD, _SURE = 20, 3.0  # pairs of a variable, and standard errors beyond which its spread is its own
_MOST = 0.9  # of the pairs of a variable show its spread
_PAIRS = 2**22  # of a block
_ROWS = 1024  # of a block at most where pairs below the diagonal are not wanted, and of the one that shows the null
_CACHED = 2**14  # pairs whose scores are computed at a time, within a cache
_SAMPLE = 2**19  # pairs from which the null is found, about
_BELOW_ONE = np.nextafter(1.0, 0.0)  # a q-value of 1 is that of a pair that is no edge among fewer pairs either
_NOT_RANKED = 1.0  # scores below this, with p-values above .3, get a q-value of 1
_ROUNDING = 1e-6  # of scores: a pair that is looked up is among those that were ranked
_MOST_KEPT = 2**21  # pairs whose scores are kept where they are ranked, a third of them: 16 MiB
Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


class Samples(NamedTuple):
    """What the null keeps of the samples of every variable.

    Attributes
    ----------
    skewness
        ``γ``, (p,).
    counts
        Number of samples in which it is not zero, (p,) float64.
    n
        Number of samples.
    along
        Directions ``g`` in which all variables of a sample move together, (k, p), or none.
    spreads
        Rows of ``V`` in Eq. 24, (p, groups), or None where all samples are alike.
    """

    skewness: np.ndarray
    counts: np.ndarray
    n: int
    along: np.ndarray | None = None
    spreads: np.ndarray | None = None

    def together(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return in how many samples two variables are expected together, if one does not depend on the other."""
        return self.counts[rows] * self.counts[cols] / self.n

    def of_products(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return the skewness of the sum of the products of two variables that are paired at random: Eq. 2."""
        return self.skewness[rows] * self.skewness[cols] / np.sqrt(self.n)

    def unequal(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray | float:
        """Return how much larger standard errors are than those of variables with the same variance in all groups: the root of Eq. 24."""
        return 1.0 if self.spreads is None else _root(np.einsum("ig,ig->i", self.spreads[rows], self.spreads[cols]))

    def products(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return ``g_j g_l`` for every direction, (k, pairs)."""
        return np.zeros((0, len(rows))) if self.along is None else self.along[:, rows] * self.along[:, cols]

    def own(self, slopes: np.ndarray, correlations: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return what pairs have of their own, in equal units: less Eq. 4, over the root of Eq. 24."""
        return (correlations - slopes @ self.products(rows, cols)) / self.unequal(rows, cols)

    def own_of_block(self, slopes: np.ndarray, block: np.ndarray, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Return the same for all pairs of some variables with those from one on, in the memory of their partial correlations."""
        if self.along is not None:
            block -= (self.along[:, rows].T * slopes) @ self.along[:, start:]
        if self.spreads is not None:
            block /= _root(self.spreads[rows] @ self.spreads[start:].T)
        return block


@dataclass(frozen=True)
class Null:
    """Scores of pairs that do not depend on each other.

    Attributes
    ----------
    samples
        Of the variables.
    slopes
        ``b``, (k,).
    relative, sigma
        ``τ``, (p,), and ``σ``, over pairs that are tested.
    share
        How much of the skewness of Eq. 2 the scores have, where they are in the lighter tail.
    bounds
        Expected numbers of samples together that divide the local nulls, (bins − 1,).
    centres, spreads
        Median of the scores in every local null, and their root mean square around it, (bins,).
    kurtosis
        ``κ ≤ 0`` of Eq. 5.
    """

    samples: Samples
    slopes: np.ndarray
    relative: np.ndarray
    sigma: float
    share: float
    bounds: np.ndarray
    centres: np.ndarray
    spreads: np.ndarray
    kurtosis: float = 0.0

    @classmethod
    def of(cls, samples: Samples, correlations: np.ndarray, rows: np.ndarray, tested: np.ndarray) -> "Null":
        """Find the null from the partial correlations of some variables with all, (rows, p), of which some are tested."""
        i, cols = _some_of(np.triu(tested) if len(rows) == tested.shape[1] else tested)
        fitted = slopes(correlations[i, cols], samples.products(rows[i], cols))
        own = samples.own_of_block(fitted, correlations.copy(), rows)
        relative = _relative_spreads(own, tested)
        left, rows = own[i, cols], rows[i]
        sigma = float(np.sqrt(np.mean((left / (relative[rows] * relative[cols])) ** 2))) or 1.0
        together = samples.together(rows, cols)
        n_bins = int(np.clip(len(together) // _PER_BIN, 1, _MOST_BINS))
        bounds = np.unique(np.quantile(together, np.arange(1, n_bins) / n_bins))
        of, n_bins = _places(bounds, together), len(bounds) + 1
        u = left / (sigma * relative[rows] * relative[cols])
        centres, spreads = _by_group(u, of, n_bins, np.mean)
        share = _share_of_skewness((u - centres[of]) / spreads[of], samples.of_products(rows, cols))
        null = cls(samples, fitted, relative, sigma, share, bounds, np.zeros(n_bins), np.ones(n_bins))
        scores = null.of_own(left, rows, cols)
        centres, spreads = _by_group(scores, of, n_bins, np.median)
        kurtosis = _kurtosis((scores - centres[of]) / spreads[of])
        return replace(null, centres=centres, spreads=spreads, kurtosis=kurtosis)

    def scores(self, correlations: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return standard normal scores of the partial correlations of pairs."""
        return self.of_own(self.samples.own(self.slopes, correlations, rows, cols), rows, cols)

    def of_own(self, own: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return the scores of what pairs have of their own: Eq. 3, centred and scaled by the local null, and Eq. 5."""
        pairs = own, rows, cols
        parts = (slice(start, start + _CACHED) for start in range(0, len(rows), _CACHED))
        return np.concatenate([np.zeros(0), *(self._scores(*(side[part] for side in pairs)) for part in parts)])

    def _scores(self, own: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        samples = self.samples
        u = own / (self.sigma * self.relative[rows] * self.relative[cols])
        scores = _normal(u, samples.of_products(rows, cols), self.share)
        of = _places(self.bounds, samples.together(rows, cols))
        scores = (scores - self.centres[of]) / self.spreads[of]
        body = np.clip(scores, -_FAR, _FAR)
        return scores - self.kurtosis / 24 * (body * body - 3.0) * body


def _root(kappa: np.ndarray) -> np.ndarray:
    """Return the root of Eq. 24, not as small as that of variables that never vary together, whose other neighbours add to what is found."""
    return np.sqrt(np.maximum(kappa, _LEAST_KAPPA))


def _places(bounds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Count the bounds, fewer than 256, that are not above every value: of few, sooner than a search has found its way."""
    return np.add.reduce(values >= bounds[:, None], axis=0, dtype=np.uint8)


def _relative_spreads(correlations: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Compute ``τ`` of every column, (p,), from its tested pairs.

    The mean absolute value without the largest tenth, which may be true; its logarithm has a variance of 0.73 over the size of a normal
    sample. It is taken towards that of all columns as far as this is what makes columns differ, or less, where it is further off than
    three standard deviations.
    """
    size, relative = tested.sum(axis=0), np.ones(tested.shape[1])
    sizes = np.abs(correlations.T, order="C")
    found = np.array([_mean_of_most(own[which]) for own, which in zip(sizes, tested.T, strict=True)])
    known = (size >= _FEWEST_FOR_SPREAD) & (found > 0)
    if not known.any():
        return relative
    logs, noise = np.log(found[known]), 0.73 / size[known]
    logs -= np.median(logs)
    beyond = max((np.median(np.abs(logs)) / MEDIAN_SIZE) ** 2 - np.median(noise), 0.0)
    far = 1 - _SURE**2 * noise / np.maximum(logs**2, noise)
    relative[known] = np.exp(np.maximum(beyond / (beyond + noise), far) * logs)
    return relative


def _mean_of_most(values: np.ndarray) -> float:
    """Compute the mean of the smallest nine tenths."""
    k = int(_MOST * len(values))
    return float(np.partition(values, k - 1)[:k].mean()) if k else 0.0


def _some_of(tested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of evenly spread rows, as many as the null needs."""
    step = max(1, -(-np.count_nonzero(tested) // _SAMPLE))
    i, j = np.nonzero(tested[::step])
    return i * step, j


def _by_group(
    values: np.ndarray, of: np.ndarray, n_groups: int, centre: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre of the values in every group, and their root mean square around it, (groups,)."""
    centres, spreads = np.zeros(n_groups), np.ones(n_groups)
    for number in range(n_groups):
        inside = values[of == number]
        if len(inside):
            centres[number] = centre(inside)
            spreads[number] = np.sqrt(np.mean((inside - centres[number]) ** 2)) or 1.0
    return centres, spreads


def _share_of_skewness(u: np.ndarray, s: np.ndarray) -> float:
    """Estimate how much of the skewness ``s`` standardised values have, between 0 and 1.

    With small skewness, their density is ``φ(u)(1 + s H(u)/6)``, ``H(u) = u³ − 3u``, and ``E[H(u); |u| < 2.5] = 0.4206 s``.
    """
    s, third = np.clip(s, -1.0, 1.0), np.where(np.abs(u) < _BODY, (u * u - 3.0) * u, 0.0)
    size = s @ s
    return float(np.clip(s @ third / (_IN_BODY * size), 0.0, 1.0)) if size > len(s) * _SYMMETRIC else 1.0


def _kurtosis(scores: np.ndarray) -> float:
    """Estimate the excess kurtosis of standardised values, 0 or less, from their body: true edges would make it larger.

    If it is small, their density is ``φ(y)(1 + κ H(y)/24)``, ``H(y) = y⁴ − 6y² + 3``, and ``E[H(y); |y| < 2.5] = 0.3665 κ − 0.2848``. What
    may be chance, two standard errors, is taken off its square.
    """
    squares = scores**2
    fourth = np.where(squares < _BODY**2, (squares - 6.0) * squares + 3.0, 0.0)
    found = (fourth.mean() - _FOURTH) / _FOURTH_IN_BODY if len(scores) else 0.0
    noise = 24.0 / (_FOURTH_IN_BODY * max(len(scores), 1))
    return float(max(found - 4.0 * noise / found, _LEAST_KURTOSIS)) if found < -2.0 * noise**0.5 else 0.0


def _normal(u: np.ndarray, skewness: np.ndarray, share: float) -> np.ndarray:
    """Turn standardised values into normal scores: Eq. 3, with a share of the skewness in the lighter tail.

    Far in that tail, where the gamma distribution ends, scores are no larger than the values themselves.
    """
    s, heavy = np.maximum(np.abs(skewness), _SYMMETRIC), np.where(skewness < 0, -1.0, 1.0)
    u = heavy * u
    seen = np.where(u < 0, np.maximum(share * s, _SYMMETRIC), s)
    return heavy * np.maximum(_cube_root(u, seen) + (s - seen) / 6, -np.maximum(-u, _LIGHT))


def _cube_root(u: np.ndarray, s: np.ndarray) -> np.ndarray:
    return 6 / s * (np.cbrt(np.maximum(1 + s * u / 2, 0)) - 1) + s / 6


class PairTest:
    """A test of every pair of variables.

    Parameters
    ----------
    precision
        ``Φ``, an estimate that rotates with the variables: not a sparse one.
    shift
        ``ψ̄``, mean diagonal of the other axis' precision.
    samples
        Of the variables.
    beside
        A test of all samples, where this one is within groups of them: a pair whose partial correlation has another sign there has a q-value of 1. Groups that were found
        from the variables exclude samples in which two of these are high, or low, together, so that the variables seem to exclude each other.
    """

    def __init__(
        self, precision: LowRank | Partial | Whole, shift: float, samples: Samples, beside: "PairTest | None" = None
    ) -> None:
        self._precision, self._size = precision, np.sqrt(diagonal(precision) + shift)
        self.samples, self.p, self._beside = samples, len(precision), beside
        self._height = max(1, _PAIRS // self.p)

    @cached_property
    def n_tested(self) -> np.ndarray:
        """Number of other variables with which every one is tested, (p,)."""
        counts = self.samples.counts
        least = np.ceil(FEWEST_TOGETHER * self.samples.n / counts)
        return self.p - np.searchsorted(np.sort(counts), least) - (counts >= least)  # not with itself

    @cached_property
    def null(self) -> Null:
        """Scores of pairs that do not depend on each other, found from evenly spread variables that have tests."""
        counts = self.samples.counts
        rows = np.flatnonzero(counts * counts.max() >= FEWEST_TOGETHER * self.samples.n)
        rows = rows[:: -(-len(rows) // min(self._height, _ROWS))]
        return Null.of(self.samples, self._block(rows), rows, self._tested(rows))

    def edges(self, q_max: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs ``j < l`` whose q-value is at most ``q_max``."""
        small = np.flatnonzero(self._q_values <= q_max)
        least = self._ranked[small[0]] if len(small) else np.inf
        found = [np.stack([rows, cols])[:, np.abs(scores) >= least] for rows, cols, scores in self._large()]
        rows, cols = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
        return rows, cols

    def values(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the p- and q-values of some pairs; 1 where a pair is not tested."""
        p_values, q_values = np.ones(len(rows)), np.ones(len(rows))
        tested = self.samples.together(rows, cols) >= FEWEST_TOGETHER
        if tested.any():
            signed = self.scores(rows[tested], cols[tested])
            scores = np.abs(signed)
            p_values[tested] = _two_sided(scores)
            place = np.searchsorted(self._ranked, scores * (1 - _ROUNDING))
            ranked = self._beside is None or np.sign(signed) == np.sign(
                self._beside.correlations(rows[tested], cols[tested])
            )
            q_values[tested] = np.where(ranked, np.append(self._q_values, 1.0)[place], 1.0)
            q_values[p_values > _two_sided(np.array(_NOT_RANKED))] = 1.0
        return p_values, q_values

    def scores(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return the scores of pairs that are tested."""
        return self.null.scores(self.correlations(rows, cols), rows, cols)

    def correlations(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return the partial correlations of pairs."""
        return -entries(self._precision, rows, cols) / (self._size[rows] * self._size[cols])

    @cached_property
    def _ranked(self) -> np.ndarray:
        """Absolute scores of all pairs, except small ones, rising."""
        return np.sort(np.concatenate([np.zeros(0), *(np.abs(scores) for _, _, scores in self._large())]))

    @cached_property
    def _q_values(self) -> np.ndarray:
        """``min_{k ≥ i} m p_(k) / k`` (Benjamini and Hochberg 1995): the ``k`` largest scores have ``p ≤ p_(k)``."""
        k = np.arange(len(self._ranked), 0, -1)
        return np.minimum(np.minimum.accumulate(self.n_tested.sum() / 2 * _two_sided(self._ranked) / k), _BELOW_ONE)

    def _large(self) -> Iterable[Scored]:
        """Return the pairs ``j < l`` that are ranked, and their scores, block after block; those of few variables are kept."""
        return self._kept if self.p * (self.p - 1) // 2 <= _MOST_KEPT else self._blocks()

    @cached_property
    def _kept(self) -> list[Scored]:
        return list(self._blocks())

    def _blocks(self) -> Iterator[Scored]:
        height = min(self._height, _ROWS)
        for start in range(0, self.p, height):
            rows = np.arange(start, min(start + height, self.p))
            i, j = np.nonzero(np.triu(self._tested(rows, start), k=1))
            if len(i):
                own = self.samples.own_of_block(self.null.slopes, self._block(rows, start), rows, start)
                scores = self.null.of_own(own[i, j], rows[i], start + j)
                large = np.abs(scores) >= _NOT_RANKED
                if self._beside is not None:
                    large &= np.sign(self._beside._block(rows, start)[i, j]) == np.sign(scores)
                yield rows[i[large]], start + j[large], scores[large]

    def _block(self, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Return the partial correlations of some variables with all, or with those from one on."""
        if isinstance(self._precision, Whole):
            found = self._precision.matrix[rows, start:]
        else:
            vectors, weights = self._factors
            found = (vectors[rows] * weights) @ vectors[start:].T
        found /= -self._size[rows, None]
        found /= self._size[start:]
        return found

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        return factors(self._precision)

    def _tested(self, rows: np.ndarray, start: int = 0) -> np.ndarray:
        """Return which pairs of some variables with all others, or with those from one on, are tested."""
        others = np.arange(start, self.p)
        return (self.samples.together(rows[:, None], others) >= FEWEST_TOGETHER) & (rows[:, None] != others)


def _two_sided(scores: np.ndarray) -> np.ndarray:
    """Return two-sided p-values, never 0."""
    return np.maximum(2 * ndtr(-np.abs(scores)), np.finfo(np.float64).tiny)
