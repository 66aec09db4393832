"""The options of ``kronecker``."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from kronax.solvers import checks
from kronax.solvers.tensor.method import Options

MOST_FIBERS = 8000  # for the posterior variance: beyond, its eigenproblem takes gigabytes and hours


@dataclass(frozen=True)
class KroneckerOptions(Options):
    """Options of ``"kronecker"``: a Wiener smoother with a kernel each of treatments, contexts and genes.

    Attributes
    ----------
    noise
        Noise variance λ relative to kernels whose mean eigenvalue is 1; or ``"cv"``: chosen by cross-validation.
    own_share
        Weight of the identity in the treatment kernel, in [0, 1): what a treatment shares with no other; or ``"cv"``.
    common_share
        Weight of the all-ones matrix in the treatment kernel, in [0, 1): what all treatments share; or ``"cv"``. The
        rest, ``1 - own_share - common_share``, must be positive and is the weight of the learnt similarities.
    gene_power
        Exponent applied to the eigenvalues of the genes' Gram matrix to obtain the gene kernel; 0 treats all directions
        alike.
    max_iter
        Maximum number of sweeps over the tensor.
    tol
        Convergence tolerance: the solver stops when a sweep changes the missing entries by less than this share of the
        norm of the measured ones.
    variance
        Whether to compute the posterior variance. This takes the eigenvectors of a square matrix of all profiles
        without gaps, of which there must be at least 1 and at most 8000.
    single_precision
        Whether to compute products in float32, which halves memory and time.
    n_folds
        Number of folds of the inner cross-validation over whole profiles, which ``"cv"`` asks for. It starts from the
        middle candidates and changes one of the three parameters by one step at a time, as long as the squared error of
        the held-out profiles falls. For large tensors it uses a random subset of the treatments.
    noises
        Candidates for `noise`, ascending.
    own_shares
        Candidates for `own_share`, ascending.
    common_shares
        Candidates for `common_share`, ascending.
    random_state
        Seed of the folds and of the subset of treatments.

    References
    ----------
    Described in :doc:`/tensors`; it belongs to the family of :cite:t:`Allen2010`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> options = kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.0)
    >>> kx.tl.complete_tensor(mdata, options=options)
    >>> mdata.uns["completion"]["chosen"]["noise"]
    1.0
    """

    noise: float | Literal["cv"] = "cv"
    own_share: float | Literal["cv"] = "cv"
    common_share: float | Literal["cv"] = "cv"
    gene_power: float = 0.5
    max_iter: int = 100
    tol: float = 1e-3
    variance: bool = False
    single_precision: bool = False
    n_folds: int = 5
    noises: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    own_shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65)
    common_shares: tuple[float, ...] = (0.0, 0.15, 0.3)
    random_state: int = 0

    def __post_init__(self) -> None:
        share = partial(checks.not_negative, below=1.0)
        _number_or_cv(self.noise, "options.noise", checks.positive)
        _number_or_cv(self.own_share, "options.own_share", share)
        _number_or_cv(self.common_share, "options.common_share", share)
        checks.not_negative(self.gene_power, "options.gene_power")
        checks.integer(self.max_iter, "options.max_iter", low=1)
        checks.positive(self.tol, "options.tol")
        checks.boolean(self.variance, "options.variance")
        checks.boolean(self.single_precision, "options.single_precision")
        checks.integer(self.n_folds, "options.n_folds", low=2)
        _ascending(self.noises, "options.noises", checks.positive)
        _ascending(self.own_shares, "options.own_shares", share)
        _ascending(self.common_shares, "options.common_shares", share)
        checks.integer(self.random_state, "options.random_state", low=0)
        own, common = (max(candidates) for candidates in self.candidates[1:])
        if not own + common < 1:
            msg = f"`own_share` and `common_share` must add up to less than 1, found {own:g} and {common:g}."
            raise ValueError(msg)

    @property
    def candidates(self) -> tuple[tuple[float, ...], ...]:
        """Candidates of the cross-validation: noises, own shares and common shares."""
        pairs = (
            (self.noise, self.noises),
            (self.own_share, self.own_shares),
            (self.common_share, self.common_shares),
        )
        return tuple(tuple(several) if chosen == "cv" else (float(chosen),) for chosen, several in pairs)


def _number_or_cv(value: Any, name: str, check: Callable[[Any, str], None]) -> None:
    if isinstance(value, str) and value != "cv":
        msg = f"`{name}` must be a number or 'cv', found {value!r}."
        raise ValueError(msg)
    if not isinstance(value, str):
        check(value, name)


def _ascending(value: Any, name: str, check: Callable[[Any, str], None]) -> None:
    if not isinstance(value, tuple | list | np.ndarray) or not len(value) or list(value) != sorted(set(value)):
        msg = f"`{name}` must be one or more numbers, ascending, found {value!r}."
        raise ValueError(msg)
    for candidate in value:
        check(candidate, name)
