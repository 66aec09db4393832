"""The options of ``mf``, ``cp`` and ``attention_cp``."""

from dataclasses import dataclass
from typing import Literal

from kronax.solvers.tensor.factors.transform import Scale

Attention = Literal["additive", "product"]
Mode = Literal["treatment", "context", "gene"]


@dataclass(frozen=True)
class FactorizationOptions:
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
    weight_power: float = 0.0
    cutoffs: tuple[float, float, float, float] | None = None
    variance_weight: float = 0.0
    non_negative: tuple[Mode, ...] = ()
    scale: Scale | None = "standard"
    scale_per_context: bool = True
    outlier_z: float | None = None
    refuse_unmeasured: bool = False
    random_state: int = 0


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
