"""The options of ``kronecker``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from kronax.solvers import checks
from kronax.solvers.tensor.method import Options, Sought

Scale = Literal["linear", "log", "rank", "category"]
SCALES: tuple[Scale, ...] = ("linear", "log", "rank", "category")
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
    similarity_share
        Weight of a given similarity in the treatment kernel, in [0, 1), beside the mixture of the three above; or ``"cv"``.
        Only with `treatment_similarity`.
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
        middle candidates, and from the smallest `similarity_share`, and changes one parameter by one step at a time, as
        long as the squared error of the held-out profiles falls. For large tensors it uses a random subset of the treatments.
    noises
        Candidates for `noise`, ascending.
    own_shares
        Candidates for `own_share`, ascending.
    common_shares
        Candidates for `common_share`, ascending.
    similarity_shares
        Candidates for `similarity_share`, ascending.
    random_state
        Seed of the folds and of the subset of treatments.
    treatment_similarity
        Key of ``mdata.obsp``, treatments × treatments, symmetric: by it, treatments that were never measured are predicted. Of
        several keys, the one with the least error on treatments left out; none if the mean over treatments has a smaller one.
        :func:`kronax.pp.treatment_similarity` makes one from labels.
    context_similarity
        Key of ``mdata.uns``, a :class:`pandas.DataFrame` of contexts × contexts, symmetric: by it, contexts that were hardly or
        never measured are predicted.
    context_coordinates
        Columns of the DataFrame ``mdata.uns["contexts"]``, whose index is the contexts, and the scale of each: ``"log"``,
        ``"linear"``, ``"rank"``, or ``"category"`` for names. Contexts near one another then count as similar, as far as the
        measured profiles agree. Together with `context_similarity`, both must be near.
    weights
        Column of ``obs`` of every modality with the precision of each profile, in any unit, such as a number of cells: its noise
        variance is inversely proportional. Above ten times the median, a weight counts as ten times the median.
    standard_errors
        Layer of every modality with the standard error of each value, in any unit. Not together with `weights`.

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
    similarity_share: float | Literal["cv"] = "cv"
    gene_power: float = 0.5
    max_iter: int = 100
    tol: float = 1e-3
    variance: bool = False
    single_precision: bool = False
    n_folds: int = 5
    noises: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    own_shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65)
    common_shares: tuple[float, ...] = (0.0, 0.15, 0.3)
    similarity_shares: tuple[float, ...] = (0.0, 0.1, 0.2)
    random_state: int = 0
    treatment_similarity: None | tuple[str, ...] | str = None
    context_similarity: None | str = None
    context_coordinates: None | Mapping[str, Scale] = None
    weights: None | str = None
    standard_errors: None | str = None

    def __post_init__(self) -> None:
        share = partial(checks.not_negative, below=1.0)
        _number_or_cv(self.noise, "options.noise", checks.positive)
        _number_or_cv(self.own_share, "options.own_share", share)
        _number_or_cv(self.common_share, "options.common_share", share)
        _number_or_cv(self.similarity_share, "options.similarity_share", share)
        checks.not_negative(self.gene_power, "options.gene_power")
        checks.integer(self.max_iter, "options.max_iter", low=1)
        checks.positive(self.tol, "options.tol")
        checks.boolean(self.variance, "options.variance")
        checks.boolean(self.single_precision, "options.single_precision")
        checks.integer(self.n_folds, "options.n_folds", low=2)
        _ascending(self.noises, "options.noises", checks.positive)
        _ascending(self.own_shares, "options.own_shares", share)
        _ascending(self.common_shares, "options.common_shares", share)
        _ascending(self.similarity_shares, "options.similarity_shares", share)
        checks.integer(self.random_state, "options.random_state", low=0)
        own, common = (max(candidates) for candidates in self.candidates[1:3])
        if not own + common < 1:
            msg = f"`own_share` and `common_share` must add up to less than 1, found {own:g} and {common:g}."
            raise ValueError(msg)
        _require_names(self)

    @property
    def similarities(self) -> tuple[str, ...]:
        """The keys of the treatments' similarities."""
        given = self.treatment_similarity
        return () if given is None else (given,) if isinstance(given, str) else tuple(given)

    @property
    def sought(self) -> Sought:
        """The side information that the options name."""
        coordinates = dict(self.context_coordinates or {})
        return Sought(self.similarities, self.context_similarity, coordinates, self.weights, self.standard_errors)

    @property
    def candidates(self) -> tuple[tuple[float, ...], ...]:
        """Candidates of the cross-validation: noises, own shares, common shares and shares of a similarity."""
        pairs = (
            (self.noise, self.noises),
            (self.own_share, self.own_shares),
            (self.common_share, self.common_shares),
            (self.similarity_share, self.similarity_shares),
        )
        return tuple(tuple(several) if chosen == "cv" else (float(chosen),) for chosen, several in pairs)


def _require_names(options: KroneckerOptions) -> None:
    """Require names where side information is named, and scales that exist."""
    given = options.treatment_similarity
    several = given if isinstance(given, tuple | list) else (given,)
    named = given is None or all(isinstance(name, str) for name in several)
    if not named or not several or len(set(several)) < len(several):
        msg = f"`options.treatment_similarity` must be one or more different keys of mdata.obsp, found {given!r}."
        raise ValueError(msg)
    for name, what in (
        ("context_similarity", "an entry of mdata.uns"),
        ("weights", "a column of obs"),
        ("standard_errors", "a layer"),
    ):
        if not isinstance(value := getattr(options, name), str | None):
            msg = f"`options.{name}` must be the name of {what}, or None, found {value!r}."
            raise ValueError(msg)
    if options.weights is not None and options.standard_errors is not None:
        msg = "`options.weights` and `options.standard_errors` both say how precise values are. Give one of them."
        raise ValueError(msg)
    coordinates = options.context_coordinates
    if coordinates is None:
        return
    if not isinstance(coordinates, Mapping) or not coordinates:
        msg = (
            "`options.context_coordinates` must be a mapping from columns of mdata.uns['contexts'] to scales, such as "
            f"{{'dose': 'log'}}, found {coordinates!r}."
        )
        raise ValueError(msg)
    for column, scale in coordinates.items():
        checks.name(column, "options.context_coordinates")
        checks.one_of(scale, SCALES, f"options.context_coordinates[{column!r}]")


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
