"""The options of ``mf``, ``cp`` and ``attention_cp``."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from kronax.solvers import checks
from kronax.solvers.tensor.categories import require_cutoffs
from kronax.solvers.tensor.factors.transform import Scale
from kronax.solvers.tensor.method import Options

Attention = Literal["additive", "product"]
Mode = Literal["treatment", "context", "gene"]


@dataclass(frozen=True)
class FactorizationOptions(Options):
    """Options of ``"mf"`` and ``"cp"``, which ``"attention_cp"`` shares.

    Attributes
    ----------
    rank
        Number of components.
    learning_rate
        Step size of Adam. When no profiles are held out, as in the refit, it decreases linearly to 0 over the last
        third of the epochs.
    weight_decay
        Decay of the factors: this multiple of a factor is added to its gradient. Biases do not decay.
    max_epochs
        Maximum number of passes over the training profiles.
    patience
        Number of epochs without an improvement of the held-out loss after which training stops. The loss often falls
        for a few epochs, rises for some hundred, and then falls to a fraction; with little patience, training stops at
        the first dip.
    held_out
        Share of the measured profiles held out for early stopping, in [0, 1); 0 for none.
    refit
        Whether to continue the training from the best epoch on all profiles, for as many epochs as led there.
    start
        Initial context factors: ``"alike"``, close to 1, suits responses that are similar in most contexts;
        ``"random"`` finds opposite responses more reliably. No effect on ``"mf"``, which has none.
    n_starts
        Number of trainings from different initial values. The one with the smallest held-out loss is kept, or with the
        smallest training loss if no profiles are held out.
    batch_size
        Number of profiles in a minibatch.
    biases
        Whether the model has biases of genes and treatments and an overall one.
    weight_power
        Exponent ``p`` of the weights by category of expression: an entry's weight is (share of its category)^-p, scaled
        to mean 1. 0 weights all entries equally.
    cutoffs
        Four limits between the categories −2 to 2, ascending, in the units of the values. If None, symmetric about 0
        and such that 8% of the measured values lie outside category 0, and 0.05% in −2 or 2.
    variance_weight
        Reward for the variance of the predictions, in [0, 1): this multiple of it is subtracted from the loss.
    non_negative
        Modes whose factors are constrained to be non-negative: some of ``"treatment"``, ``"context"``, ``"gene"``.
    scale
        How values are scaled for training: ``"standard"``, to mean 0 and variance 1; ``"minmax"``, to [0, 1]; or None.
        Predictions are scaled back. The defaults of the other options suit ``"standard"`` and do badly with
        ``"minmax"`` on skewed data, nearly all of whose scaled values are alike.
    scale_per_context
        Whether to scale every context by itself.
    outlier_z
        Number of standard deviations from the mean beyond which values are clipped, for training only; None clips
        nothing.
    refuse_unmeasured
        Whether treatments and contexts without any measurement are an error. If False, they are predicted from the
        biases, or by ``"mean_2d"`` if there are none, and reported as a fallback.
    random_state
        Seed of the initial values, of the order of the profiles and of those held out.

    Notes
    -----
    `weight_power`, `cutoffs`, `variance_weight` and ``scale="minmax"`` belong to the published model and are there to
    reproduce it. None of them made predictions better in our comparisons (:doc:`/benchmarks`), most made them worse.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`; early stopping: :cite:t:`Prechelt1998`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_contexts=4, n_genes=30)
    >>> options = kx.tl.FactorizationOptions(rank=3, max_epochs=20, held_out=0)
    >>> kx.tl.complete_tensor(mdata, method="cp", options=options)
    >>> mdata.uns["completion"]["context_factors"].shape
    (4, 3)
    """

    rank: int = 8
    learning_rate: float = 1e-2
    weight_decay: float = 3e-6
    max_epochs: int = 1500
    patience: int = 1000
    held_out: float = 0.1
    refit: bool = True
    start: Literal["alike", "random"] = "alike"
    n_starts: int = 1
    batch_size: int = 32
    biases: bool = True
    # of the published model, to reproduce it
    weight_power: float = 0.0
    cutoffs: tuple[float, float, float, float] | None = None
    variance_weight: float = 0.0
    # of use
    non_negative: tuple[Mode, ...] = ()
    scale: Scale | None = "standard"
    scale_per_context: bool = True
    outlier_z: float | None = None
    refuse_unmeasured: bool = False
    random_state: int = 0

    def __post_init__(self) -> None:
        share = partial(checks.not_negative, below=1.0)
        for name in ("rank", "max_epochs", "patience", "n_starts", "batch_size"):
            checks.integer(getattr(self, name), f"options.{name}", low=1)
        for name in ("refit", "biases", "scale_per_context", "refuse_unmeasured"):
            checks.boolean(getattr(self, name), f"options.{name}")
        checks.positive(self.learning_rate, "options.learning_rate")
        checks.not_negative(self.weight_decay, "options.weight_decay")
        share(self.held_out, "options.held_out")
        checks.one_of(self.start, ("alike", "random"), "options.start")
        checks.not_negative(self.weight_power, "options.weight_power")
        if self.cutoffs is not None:
            require_cutoffs(self.cutoffs, "options.cutoffs")
        share(self.variance_weight, "options.variance_weight")
        _require_modes(self.non_negative, "options.non_negative")
        checks.one_of(self.scale, (*get_args(Scale), None), "options.scale")
        if self.outlier_z is not None:
            checks.positive(self.outlier_z, "options.outlier_z")
        checks.integer(self.random_state, "options.random_state", low=0)


@dataclass(frozen=True)
class AttentionOptions(FactorizationOptions):
    """Options of ``"attention_cp"``: those of :class:`kronax.tl.FactorizationOptions` and these.

    Attributes
    ----------
    attention
        How the components of an entry are weighted, from the factors of its context, treatment and gene:
        ``"additive"``, by a softmax of the sum of a linear function of each; ``"product"``, by a softmax of the
        products of the factors; or None, not at all, which is ``"cp"``.
    attention_decay
        Weight decay of the matrices of additive attention.
    or_cp
        Whether to train ``"cp"`` as well, from the same initial values, and keep it unless attention predicts the
        held-out profiles better, by more than one standard error of the difference. No effect if none are held out.

    Notes
    -----
    ``attention="product"`` and ``or_cp=False`` are there to compare with the published model, whose attention the paper
    does not specify. Multiplied factors made worse predictions than none (:doc:`/benchmarks`).

    References
    ----------
    :cite:t:`ToxiTenCompl2025`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_contexts=4, n_genes=30)
    >>> options = kx.tl.AttentionOptions(rank=3, max_epochs=20, held_out=0)
    >>> kx.tl.complete_tensor(mdata, method="attention_cp", options=options)
    >>> mdata.uns["completion"]["context_factors"].shape
    (4, 3)
    """

    attention: Attention | None = "additive"
    attention_decay: float = 1e-3
    or_cp: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of(self.attention, (*get_args(Attention), None), "options.attention")
        checks.not_negative(self.attention_decay, "options.attention_decay")
        checks.boolean(self.or_cp, "options.or_cp")


def _require_modes(value: Any, name: str) -> None:
    allowed = get_args(Mode)
    if not isinstance(value, tuple | list) or any(mode not in allowed for mode in value):
        msg = f"`{name}` must be a tuple of some of {list(allowed)}, found {value!r}."
        raise ValueError(msg)


TOXITENCOMPL = AttentionOptions(
    rank=300,
    learning_rate=1e-3,
    weight_decay=5e-4,
    attention_decay=5e-4,
    or_cp=False,
    max_epochs=100,
    patience=5,
    refit=False,
    scale="minmax",
    outlier_z=3.0,
)
"""Settings of :cite:t:`ToxiTenCompl2025` for ``"attention_cp"``, as far as the paper gives them.

The limit for outliers, ``outlier_z=3``, is not from the paper.
"""
