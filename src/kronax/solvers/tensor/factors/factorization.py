"""``mf``, ``cp`` and ``attention_cp``: tensors completed by factors that Adam trains on whole fibers.

With factors ``r`` of contexts, ``u`` of genes and ``i`` of treatments, ``k`` components each,

    ``mf``              ``ŷ = Σ_d i_d u_d``, its own ``u`` in every context                                        (1)
    ``cp``              ``ŷ = Σ_d r_d i_d u_d``                                                                    (2)
    ``attention_cp``    ``ŷ = Σ_d r_d i_d u_d a_d``,                                                               (3)

each with the biases ``b_u + b_i + b``. Additive attention is ``a = k·softmax(W_r r + W_i i + W_u u)``, so that equal
weights are those of ``cp``. Its exponentials factorise: with ``α = exp(W_r r + W_i i)`` of the fiber and ``β = exp(W_u u)``
of the gene

    ``ŷ = k · Σ_d (r_d i_d α_d)(u_d β_d) / Σ_d α_d β_d``,                                                          (4)

and all fibers of a minibatch are predicted by two matrix products, without an array of entries × components. What is
minimised is, over measured entries with weights ``w``,

    ``(1/N) Σ w (y − ŷ)² − λ Var(ŷ)``  plus the decay of the weights.                                              (5)
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.tensor.categories import cutoffs_of, frequencies, require_entries
from kronax.solvers.tensor.completion import Completion, Fallback, merged, per_fiber, require_values
from kronax.solvers.tensor.factors.transform import Scale, Scaling, scaled
from kronax.solvers.tensor.folds import fiber_folds
from kronax.solvers.tensor.means import two_means

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
        Whether to train again from the start on all profiles, for the best number of epochs. If that ends with a larger
        training loss than the first training, the first is continued on all profiles instead.
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
        Whether to train ``"cp"`` as well, from the same initial values, and keep it if it predicts the held-out
        profiles better. No effect if none are held out.

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


@dataclass(frozen=True)
class Factorization(Completion):
    """A tensor completed by factors.

    Attributes
    ----------
    treatments
        ``(D, k)``.
    contexts
        ``(C, k)``; None from ``mf``.
    genes
        ``(G, k)``; from ``mf`` ``(C, G, k)``.
    held_out_loss
        Beside ``objective``, which is the loss in training, the weighted squared error of the held-out fibers at every
        epoch; NaN where none were held out. Both in units of the scaled values.
    scaling
        What was clipped and how values were scaled.
    """

    treatments: np.ndarray
    contexts: np.ndarray | None
    genes: np.ndarray
    held_out_loss: np.ndarray
    scaling: Scaling


class _Form(NamedTuple):
    """Which equation; all that a compiled step depends on besides shapes."""

    flat: bool  # Eq. 1
    attention: Attention | None
    biases: bool
    weighted: bool
    non_negative: tuple[Mode, ...]


class _Fibers(NamedTuple):
    """Measured fibers, scaled; NaN in single missing entries."""

    values: Array  # (n, G)
    treatment: Array  # (n,)
    context: Array  # (n,)


class _Settings(NamedTuple):
    """What may change without compiling anew."""

    learning_rate: Array
    weight_decay: Array
    attention_decay: Array
    variance_weight: Array
    cutoffs: Array  # (C, 4), scaled
    weights: Array  # (5,)


Parameters = dict[str, Array]

_UNLIKE = 0.1  # standard deviation of the contexts' first factors, where they are alike
_SIZE = 0.3  # standard deviation of the first predictions, relative to that of the scaled values
_LEAST_LOGIT = -40.0  # relative to the largest; e^−40 squared is still a normal float32
_RESTING = 1 / 3  # share of the epochs, the last ones, in which the learning rate falls
_LEAST_SPARE = 4  # fibers of treatments measured twice: with fewer, none are held out


def predict(parameters: Parameters, form: _Form, treatment: Array, context: Array) -> Array:
    """Predict fibers, ``(n, G)``: Eq. 1, 2 or 3 and the biases."""
    i, u = parameters["treatment"][treatment], parameters["gene"]
    if form.flat:
        n_contexts, _, n_genes = u.shape
        own = jax.nn.one_hot(context, n_contexts, dtype=i.dtype)
        predicted = (own[:, :, None] * i[:, None, :]).reshape(len(i), -1) @ u.reshape(-1, n_genes)  # (1)
    else:
        predicted = _multilinear(parameters, form.attention, i, parameters["context"][context], u)
    if not form.biases:
        return predicted
    gene = parameters["gene_bias"][context] if form.flat else parameters["gene_bias"]
    return predicted + gene + parameters["treatment_bias"][treatment][:, None] + parameters["bias"]


def _multilinear(parameters: Parameters, attention: Attention | None, i: Array, r: Array, u: Array) -> Array:
    """Give Eq. 2 or 3 without biases."""
    if attention is None:
        return (r * i) @ u.T  # (2)
    rank = u.shape[1]
    if attention == "product":
        products = (r * i)[:, None, :] * u
        return rank * jnp.sum(products * jax.nn.softmax(products, axis=2), axis=2)  # (3)
    alpha = _exponential(r @ parameters["w_context"] + i @ parameters["w_treatment"])
    beta = _exponential(u @ parameters["w_gene"])
    return rank * ((r * i * alpha) @ (u * beta).T) / (alpha @ beta.T)  # (4)


def _exponential(logits: Array) -> Array:
    """Take exponentials relative to the largest of a row, which the softmax does not notice.

    They stay so large that the sum in the denominator of Eq. 4 is never 0.
    """
    relative = logits - jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
    return jnp.exp(jnp.maximum(relative, _LEAST_LOGIT))


def _entry_weights(fibers: _Fibers, settings: _Settings) -> Array:
    """Give the weight of every entry's category."""
    y = fibers.values
    low, mild, high, top = jnp.moveaxis(settings.cutoffs[fibers.context], 1, 0)[:, :, None]
    weight = jnp.broadcast_to(settings.weights[0], y.shape)
    for category, above in enumerate((y >= low, y >= mild, y > high, y > top), start=1):
        weight = jnp.where(above, settings.weights[category], weight)
    return weight


def loss(
    parameters: Parameters, form: _Form, fibers: _Fibers, real: Array, settings: _Settings
) -> tuple[Array, tuple[Array, Array]]:
    """Give Eq. 5 without the decay; and the weighted sum of squares and the number of entries.

    ``real`` (n,) is False for fibers that only fill a minibatch up.
    """
    predicted = predict(parameters, form, fibers.treatment, fibers.context)
    known = ~jnp.isnan(fibers.values) & real[:, None]
    square = jnp.square(jnp.where(known, fibers.values - predicted, 0.0))
    if form.weighted:
        square = square * _entry_weights(fibers, settings)
    total, count = square.sum(), jnp.maximum(known.sum().astype(square.dtype), 1.0)
    mean = jnp.where(known, predicted, 0.0).sum() / count
    variance = jnp.square(jnp.where(known, predicted - mean, 0.0)).sum() / count
    return total / count - settings.variance_weight * variance, (total, count)  # (5)


def _take(fibers: _Fibers, batch: Array) -> tuple[_Fibers, Array]:
    """Take a minibatch, which −1 fill up."""
    return jax.tree.map(lambda a: a[jnp.maximum(batch, 0)], fibers), batch >= 0


def _decayed(gradient: Parameters, parameters: Parameters, settings: _Settings) -> Parameters:
    """Add the decay to a gradient."""

    def decay(name: str) -> Array:
        return settings.attention_decay if name.startswith("w_") else settings.weight_decay

    return {n: g if n.endswith("bias") else g + decay(n) * parameters[n] for n, g in gradient.items()}


_ADAM = optax.scale_by_adam()


@partial(jax.jit, static_argnames="form", donate_argnames=("parameters", "state"))
def _epoch(
    parameters: Parameters,
    state: optax.OptState,
    form: _Form,
    fibers: _Fibers,
    batches: Array,
    held_out: Array,
    settings: _Settings,
) -> tuple[Parameters, optax.OptState, Array, Array]:
    """Make a step of Adam with every minibatch; give the mean loss on the way, and the error of the held-out fibers."""

    def step(carry, batch):
        parameters, state = carry
        differentiated = jax.value_and_grad(loss, has_aux=True)
        (value, (_, count)), gradient = differentiated(parameters, form, *_take(fibers, batch), settings)
        with jax.numpy_dtype_promotion("standard"):  # what optax is written for
            updates, state = _ADAM.update(_decayed(gradient, parameters, settings), state)
        parameters = {n: p - settings.learning_rate * updates[n] for n, p in parameters.items()}
        for mode in form.non_negative:
            parameters[mode] = jnp.maximum(parameters[mode], 0.0)
        return (parameters, state), (value * count, count)

    (parameters, state), (losses, counts) = jax.lax.scan(step, (parameters, state), batches)
    squares, number = jax.lax.map(lambda batch: loss(parameters, form, *_take(fibers, batch), settings)[1], held_out)
    return parameters, state, losses.sum() / counts.sum(), squares.sum() / jnp.maximum(number.sum(), 1.0)


_predict = jax.jit(predict, static_argnames="form")


def mf(
    values: np.ndarray, options: FactorizationOptions = FactorizationOptions(), *, progress: bool = False
) -> Factorization:
    """Complete a tensor laid out as a matrix, context × gene by treatments, by its factors (Eq. 1).

    The contexts share nothing but the treatments' factors.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`FactorizationOptions`.
    progress
        Whether long work shows a progress bar.

    Raises
    ------
    FloatingPointError
        If the loss becomes infinite or NaN.
    ValueError
        If nothing was measured, an expression category is empty, or unmeasured treatments or contexts are to be refused.
    """
    return _complete(values, options, _Form(True, None, *_common(options)), progress)


def cp(
    values: np.ndarray, options: FactorizationOptions = FactorizationOptions(), *, progress: bool = False
) -> Factorization:
    """Complete a tensor by canonical polyadic factors (Eq. 2).

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`FactorizationOptions`.
    progress
        Whether long work shows a progress bar.

    Raises
    ------
    FloatingPointError
        If the loss becomes infinite or NaN.
    ValueError
        If nothing was measured, an expression category is empty, or unmeasured treatments or contexts are to be refused.
    """
    return _complete(values, options, _Form(False, None, *_common(options)), progress)


def attention_cp(
    values: np.ndarray, options: AttentionOptions = AttentionOptions(), *, progress: bool = False
) -> Factorization:
    """Complete a tensor by factors whose components are weighted anew for every entry (Eq. 3).

    Held-out fibers decide whether attention helps: if not, the result is that of :func:`cp` (`or_cp`).
    ``attention="product"`` makes arrays of minibatch × genes × components: choose `batch_size` with care.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`AttentionOptions`.
    progress
        Whether long work shows a progress bar.

    Raises
    ------
    FloatingPointError
        If the loss becomes infinite or NaN.
    ValueError
        If nothing was measured, an expression category is empty, or unmeasured treatments or contexts are to be refused.
    """
    return _complete(values, options, _Form(False, options.attention, *_common(options)), progress)


def _common(options: FactorizationOptions) -> tuple[bool, bool, tuple[Mode, ...]]:
    return options.biases, options.weight_power != 0, tuple(sorted(options.non_negative))


def bytes_needed(shape: tuple[int, int, int], n_measured: int, options: FactorizationOptions, *, flat: bool) -> int:
    """Estimate the memory that a solve takes besides its input and output.

    Parameters
    ----------
    shape
        ``(D, C, G)``.
    n_measured
        Fibers with a measured entry.
    options
        Of the method.
    flat
        Whether the method is ``mf``.
    """
    n_treatments, n_contexts, n_genes = shape
    k = options.rank
    factors = k * (n_treatments + (n_contexts * n_genes if flat else n_contexts + n_genes))
    attention = getattr(options, "attention", None)
    factors += 3 * k**2 * (attention == "additive")
    entries = options.batch_size * n_genes * (8 + 4 * k * (attention == "product"))
    prepared = 16 * n_treatments * n_contexts * n_genes  # scaled, in the dtype of the input, and predicted
    return prepared + 4 * (n_measured * n_genes + 7 * factors + entries)  # value, gradient, two moments, copies


def _complete(values: np.ndarray, options: FactorizationOptions, form: _Form, progress: bool) -> Factorization:
    """Prepare, train, predict."""
    measured = ~np.isnan(values)
    require_values(measured)
    some = measured.any(axis=2)
    if form.flat and "context" in form.non_negative:
        msg = "`mf` has no factors of contexts that could be non-negative; use cp or attention_cp."
        raise ValueError(msg)
    if options.refuse_unmeasured:
        _refuse_unmeasured(some)
    ready, scaling = scaled(values, options.scale, per_context=options.scale_per_context, outlier_z=options.outlier_z)
    settings = _settings(values, options, scaling)
    task = _Task(ready, some, _held_out(some, options), form, settings, options, progress)
    run = min((_train(rival, n) for rival in _rivals(task) for n in range(options.n_starts)), key=lambda run: run.loss)
    form = run.form
    if options.refit and task.held_out.any():
        run = run._replace(parameters=_refitted(task._replace(form=form), run))
    parameters = _without_unknown(run.parameters, measured, form)
    predicted = scaling.undo(_predict_missing(parameters, form, measured, options.batch_size))
    predicted, fallback = _fall_back(values, measured, predicted, form)
    return Factorization(
        values=merged(values, predicted),
        fallback=fallback,
        confidence=None,
        variance=None,
        objective=run.objective,
        n_iter=len(run.objective),
        converged=run.converged,
        reason=run.reason,
        parameters=_chosen(run, task),
        treatments=parameters["treatment"],
        contexts=parameters.get("context"),
        genes=np.moveaxis(parameters["gene"], 1, 2) if form.flat else parameters["gene"],
        held_out_loss=run.held_out_loss,
        scaling=scaling,
    )


class _Task(NamedTuple):
    """What is trained on, and how."""

    values: np.ndarray  # (D, C, G), scaled
    some: np.ndarray  # (D, C): fibers with a measured entry
    held_out: np.ndarray  # (D, C)
    form: _Form
    settings: _Settings
    options: FactorizationOptions
    progress: bool


class _Run(NamedTuple):
    """Trained parameters, and how training went; ``n_best`` is the number of epochs that led there."""

    form: _Form
    number: int  # of the start
    parameters: dict[str, np.ndarray]
    objective: np.ndarray
    held_out_loss: np.ndarray
    n_best: int
    converged: bool
    reason: str

    @property
    def loss(self) -> float:
        """What starts are compared by."""
        trace = self.objective if np.isnan(self.held_out_loss).all() else self.held_out_loss
        return float(trace[self.n_best - 1])


def _rivals(task: _Task) -> list[_Task]:
    """Give the task, and the one without attention where held-out fibers are to decide between them."""
    if task.form.attention is None or not task.options.or_cp or not task.held_out.any():
        return [task]
    return [task, task._replace(form=task.form._replace(attention=None))]


def _chosen(run: _Run, task: _Task) -> dict[str, float]:
    """Tell what training chose."""
    found = {"n_best": run.n_best, "n_held_out": int(task.held_out.sum())}
    return found | ({"attention": run.form.attention is not None} if isinstance(task.options, AttentionOptions) else {})


def _refuse_unmeasured(some: np.ndarray) -> None:
    """Refuse treatments and contexts without any measurement, by their positions."""
    for name, without in (("Treatments", ~some.any(axis=1)), ("Contexts", ~some.any(axis=0))):
        if without.any():
            places = ", ".join(map(str, np.flatnonzero(without)[:10])) + (", …" if without.sum() > 10 else "")
            msg = (
                f"{name} never measured: {int(without.sum())} of {len(without)}, at positions {places}. Remove them, or "
                "predict them from the biases alone with `refuse_unmeasured=False`."
            )
            raise ValueError(msg)


def _settings(values: np.ndarray, options: FactorizationOptions, scaling: Scaling) -> _Settings:
    """Gather the numbers of a training, with the weights of the expression categories."""
    weights, cutoffs = np.ones(5), np.zeros((values.shape[1], 4))
    if options.weight_power:
        chosen = cutoffs_of(values) if options.cutoffs is None else options.cutoffs
        share = frequencies(values, chosen)
        require_entries(share, chosen, given=options.cutoffs is not None)
        weights = share**-options.weight_power
        weights /= (share * weights).sum()
        cutoffs = (np.array(chosen) - scaling.shift[:, None]) / scaling.factor[:, None]
    attention_decay = getattr(options, "attention_decay", 0.0)
    rates = options.learning_rate, options.weight_decay, attention_decay, options.variance_weight
    return _Settings(*(jnp.asarray(number, jnp.float32) for number in (*rates, cutoffs, weights)))


def _held_out(some: np.ndarray, options: FactorizationOptions) -> np.ndarray:
    """Choose the fibers that stop the training; every treatment and context keeps a measured one."""
    n_spare = int(some[some.sum(axis=1) > 1].sum())
    n_wanted = options.held_out * some.sum()
    if n_wanted == 0 or n_spare < _LEAST_SPARE:
        return np.zeros_like(some)
    n_folds = int(np.clip(round(n_spare / n_wanted), 2, n_spare))
    held_out = next(iter(fiber_folds(some, n_folds, options.random_state)))
    held_out[:, ~(some & ~held_out).any(axis=0)] = False
    return held_out


def _start(task: _Task, rng: np.random.Generator) -> Parameters:
    """Draw factors whose products are small; attention starts with equal weights."""
    form, rank = task.form, task.options.rank
    n_treatments, n_contexts, n_genes = task.values.shape
    sizes = {"treatment": (n_treatments, rank)}
    if form.flat:
        sizes["gene"] = (n_contexts, rank, n_genes)
    else:
        sizes |= {"context": (n_contexts, rank), "gene": (n_genes, rank)}
    alike = task.options.start == "alike" and not form.flat
    spread = (_SIZE / np.sqrt(rank)) ** (1 / (2 if form.flat or alike else 3))
    parameters = {mode: rng.normal(scale=spread, size=size) for mode, size in sizes.items()}
    if alike:
        parameters["context"] = 1.0 + _UNLIKE * rng.normal(size=sizes["context"])
    for mode in form.non_negative:
        parameters[mode] = np.abs(parameters[mode])
    if form.attention == "additive":
        parameters |= {f"w_{mode}": np.zeros((rank, rank)) for mode in sizes}
    if form.biases:
        parameters["gene_bias"] = np.zeros((n_contexts, n_genes) if form.flat else n_genes)
        parameters |= {"treatment_bias": np.zeros(n_treatments), "bias": np.zeros(())}
    return {name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()}


def _refitted(task: _Task, run: _Run) -> dict[str, np.ndarray]:
    """Give parameters trained on all fibers, for as many epochs as held-out ones chose.

    No held-out fibers watch over it, and other minibatches may lead to another minimum: one in which large components
    cancel where little was measured, say, and err where nothing was. Its loss in training is then larger than that of the
    first training, which is continued instead.
    """
    anew = _train(task, run.number, run.n_best)
    if anew.objective[-1] <= run.objective[run.n_best - 1]:
        return anew.parameters
    onward = _train(task, run.number, run.n_best, run.parameters)
    return min(anew, onward, key=lambda found: found.objective[-1]).parameters


def _train(task: _Task, number: int, n_epochs: int | None = None, start: dict[str, np.ndarray] | None = None) -> _Run:
    """Train until the held-out fibers are predicted no better, or, on all fibers, for a number of epochs."""
    options, rng = task.options, np.random.default_rng((task.options.random_state, number))
    where = np.nonzero(task.some)
    fibers = _Fibers(jnp.asarray(task.values[where], jnp.float32), *(jnp.asarray(a, jnp.int32) for a in where))
    out = task.held_out[where] if n_epochs is None else np.zeros(len(where[0]), bool)
    in_training, held = np.flatnonzero(~out), _batches(np.flatnonzero(out), options.batch_size)
    # a copy: a step may reuse its input
    parameters = _start(task, rng) if start is None else jax.tree.map(jnp.array, start)
    state = _ADAM.init(parameters)
    trace, held_trace, best, n_best = [], [], parameters, 0
    limit = options.max_epochs if n_epochs is None else n_epochs
    patient = True
    with tqdm(total=limit, desc=_name(task.form), unit="epoch", delay=2, leave=False, disable=not task.progress) as bar:
        while patient and len(trace) < limit:
            batches = _batches(rng.permutation(in_training), options.batch_size)
            settings = task.settings if out.any() else _coming_to_rest(task.settings, len(trace), limit)
            parameters, state, value, error = _epoch(parameters, state, task.form, fibers, batches, held, settings)
            trace.append(float(value))
            held_trace.append(float(error) if out.any() else np.nan)
            for found in (value, error):
                _require_finite(float(found), len(trace), task)
            losses = {"training": trace[-1]} | ({"held_out": held_trace[-1]} if out.any() else {})
            bar.set_postfix({name: f"{value:.4g}" for name, value in losses.items()}, refresh=False)
            bar.update()
            if not out.any() or held_trace[-1] <= np.min(held_trace):
                n_best = len(trace)
                best = jax.tree.map(jnp.copy, parameters) if out.any() else parameters
            patient = len(trace) - n_best < options.patience
    reason = _reason(options, len(trace), n_best, bool(out.any()))
    arrays = {name: np.array(value) for name, value in best.items()}
    converged = not patient or not out.any()
    return _Run(task.form, number, arrays, np.array(trace), np.array(held_trace), n_best, converged, reason)


def _coming_to_rest(settings: _Settings, n_done: int, n_epochs: int) -> _Settings:
    """Lower the learning rate, in a straight line to 0, in the last epochs."""
    share = min((n_epochs - n_done) / max(_RESTING * n_epochs, 1.0), 1.0)
    return settings._replace(learning_rate=settings.learning_rate * np.float32(share))


def _name(form: _Form) -> str:
    return "mf" if form.flat else "attention_cp" if form.attention else "cp"


def _reason(options: FactorizationOptions, n_epochs: int, n_best: int, stops: bool) -> str:
    """Say why training ended."""
    if not stops:
        return f"trained for {n_epochs} epochs; no fibers were held out"
    if n_epochs - n_best >= options.patience:
        return f"the held-out loss was lowest after epoch {n_best} and did not improve in the {options.patience} epochs after it"
    return f"training ended at its limit of {n_epochs} epochs; the held-out loss was lowest after epoch {n_best}"


def _require_finite(value: float, epoch: int, task: _Task) -> None:
    """Stop where training has diverged."""
    if np.isfinite(value):
        return
    options = task.options
    msg = (
        f"The loss is {value} in epoch {epoch} of {_name(task.form)} with rank={options.rank}, "
        f"learning_rate={options.learning_rate:g}, weight_decay={options.weight_decay:g}, "
        f"variance_weight={options.variance_weight:g}, scale={options.scale!r}. Lower the learning rate or the variance "
        "weight, or scale the values."
    )
    raise FloatingPointError(msg)


def _batches(rows: np.ndarray, size: int) -> np.ndarray:
    """Deal rows into minibatches ``(n, size)``, the last filled up with −1; at least one."""
    n_batches = max(-(-len(rows) // size), 1)
    filled = np.full(n_batches * size, -1, np.int32)
    filled[: len(rows)] = rows
    return filled.reshape(n_batches, size)


def _without_unknown(parameters: dict[str, np.ndarray], measured: np.ndarray, form: _Form) -> dict[str, np.ndarray]:
    """Put 0 in the place of what no measurement has trained."""
    known = {
        "treatment": measured.any(axis=(1, 2)),
        "context": measured.any(axis=(0, 2)),
        "gene": measured.any(axis=(0, 1)),
    }
    cleared = dict(parameters)
    for mode, has in known.items():
        for name in {mode, f"{mode}_bias"} & cleared.keys():
            if not (form.flat and mode == "gene"):
                cleared[name] = np.where(has if cleared[name].ndim == 1 else has[:, None], cleared[name], 0.0)
    if form.flat:
        has = measured.any(axis=0)
        cleared["gene"] = np.where(has[:, None], cleared["gene"], 0.0)
        if form.biases:
            cleared["gene_bias"] = np.where(has, cleared["gene_bias"], 0.0)
    return {name: value.astype(np.float32) for name, value in cleared.items()}


def _predict_missing(parameters: dict[str, np.ndarray], form: _Form, measured: np.ndarray, size: int) -> np.ndarray:
    """Predict the fibers in which something is missing, scaled; 0 elsewhere."""
    predicted = np.zeros(measured.shape)
    on_device = {name: jnp.asarray(value) for name, value in parameters.items()}
    where = np.argwhere(~measured.all(axis=2)).astype(np.int32)
    for batch in _batches(np.arange(len(where)), size):
        real = batch[batch >= 0]
        treatment, context = where[batch].T if len(where) else np.zeros((2, size), np.int32)
        found = np.asarray(_predict(on_device, form, jnp.asarray(treatment), jnp.asarray(context)))
        predicted[tuple(where[real].T)] = found[: len(real)]
    return predicted


def _fall_back(
    values: np.ndarray, measured: np.ndarray, predicted: np.ndarray, form: _Form
) -> tuple[np.ndarray, np.ndarray]:
    """Flag what was predicted without a factor; without biases, put ``mean_2d`` there."""
    unknown = ~measured.any(axis=(1, 2))[:, None, None] | ~measured.any(axis=(0, 2))[:, None]
    unknown = unknown | ~(measured.any(axis=0) if form.flat else measured.any(axis=(0, 1)))
    unknown = unknown & ~measured
    if not unknown.any():
        return predicted, np.zeros(values.shape[:2], np.int8)
    mean, code = (predicted, np.int8(Fallback.BIASES)) if form.biases else two_means(values)
    code = per_fiber(np.where(unknown, code, 0), ~measured, measured.any(axis=(0, 1)))
    return np.where(unknown, mean, predicted), code
