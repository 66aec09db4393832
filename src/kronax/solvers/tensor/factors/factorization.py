"""``mf``, ``cp`` and ``attention_cp``: tensors completed by factors that Adam trains on whole fibers.

The equations are those of :mod:`kronax.solvers.tensor.factors.model`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kronax.solvers.device import to_device, to_host
from kronax.solvers.tensor.categories import cutoffs_of, frequencies, require_entries
from kronax.solvers.tensor.completion import Completion, Factors, Fallback, merged, per_fiber, require_values
from kronax.solvers.tensor.connection import unlinked
from kronax.solvers.tensor.factors.model import Form, Settings, predict_fibers
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions, Mode
from kronax.solvers.tensor.factors.train import Run, Task, batches_of, held_out_errors, held_out_fibers, refitted, train
from kronax.solvers.tensor.factors.transform import Scaling, scaled
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.method import Advice, Memory


def mf(
    values: np.ndarray, options: FactorizationOptions = FactorizationOptions(), *, progress: bool = False
) -> Completion:
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
    return _complete(values, options, as_matrix(options), progress)


def cp(
    values: np.ndarray, options: FactorizationOptions = FactorizationOptions(), *, progress: bool = False
) -> Completion:
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
    return _complete(values, options, as_products(options), progress)


def attention_cp(
    values: np.ndarray, options: AttentionOptions = AttentionOptions(), *, progress: bool = False
) -> Completion:
    """Complete a tensor by factors whose components are reweighted for every entry (Eq. 3).

    Held-out fibers decide whether attention helps, by more than one standard error: if not, the result is that of
    :func:`cp` (`or_cp`).
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
    return _complete(values, options, with_attention(options), progress)


def as_matrix(options: FactorizationOptions) -> Form:
    """Return the form of Eq. 1."""
    return Form(True, None, *_common(options))


def as_products(options: FactorizationOptions) -> Form:
    """Return the form of Eq. 2."""
    return Form(False, None, *_common(options))


def with_attention(options: AttentionOptions) -> Form:
    """Return the form of Eq. 3."""
    return Form(False, options.attention, *_common(options))


def _common(options: FactorizationOptions) -> tuple[bool, bool, tuple[Mode, ...]]:
    return options.biases, options.weight_power != 0, tuple(sorted(options.non_negative))


def needs(form_of: Callable[[Any], Form]) -> Callable[[np.ndarray, FactorizationOptions], Memory]:
    """Return what estimates the memory of a solve."""

    def memory(measured: np.ndarray, options: FactorizationOptions) -> Memory:
        form, k = form_of(options), options.rank
        n_treatments, n_contexts, n_genes = measured.shape
        factors = k * (n_treatments + (n_contexts * n_genes if form.flat else n_contexts + n_genes))
        factors += 3 * k**2 * (form.attention == "additive")
        entries = options.batch_size * n_genes * (8 + 4 * k * (form.attention == "product"))
        fibers = int(measured.any(axis=2).sum()) * n_genes
        training = 4 * (fibers + 7 * factors + entries)  # of factors: value, gradient, two moments, copies
        prepared = 16 * measured.size  # scaled, in the dtype of the input, and predicted
        remedy = f"a smaller `rank` than {k}, or `batch_size` than {options.batch_size}"
        return Memory(24 * measured.size + prepared + training, remedy)

    return memory


def more_epochs(options: FactorizationOptions) -> Advice:
    """Advise longer training, or longer steps."""
    return Advice({"max_epochs": 4 * options.max_epochs}, "a larger learning rate")


def only_if_refused(options: FactorizationOptions) -> str:
    """Name the option with which biases predict what was never measured, unless it is set."""
    return "predict them from the biases alone with `refuse_unmeasured=False`" if options.refuse_unmeasured else ""


def _complete(values: np.ndarray, options: FactorizationOptions, form: Form, progress: bool) -> Completion:
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
    settings = settings_of(values, options, form, scaling)
    task = Task(ready, some, held_out_fibers(some, options), form, settings, options, progress)
    run = _best_run(task)
    form = run.form
    if options.refit and task.held_out.any():
        run = run._replace(parameters=refitted(task._replace(form=form), run))
    parameters = _without_unknown(run.parameters, measured, form)
    predicted = scaling.undo(_predict_missing(parameters, form, measured, options.batch_size))
    predicted, fallback = _fall_back(values, measured, predicted, form)
    factors = Factors(
        treatments=parameters["treatment"],
        contexts=parameters.get("context"),
        genes=np.moveaxis(parameters["gene"], 1, 2) if form.flat else parameters["gene"],
        held_out_loss=run.held_out_loss,
        scaling=scaling,
    )
    return Completion(
        values=merged(values, predicted),
        fallback=fallback,
        status=run.status,
        parameters=_chosen(run, task),
        factors=factors,
        stand_in="biases" if form.biases else "means",
        notes=_notes(scaling, int(measured.sum())),
    )


def _best_run(task: Task) -> Run:
    """Train; if held-out fibers shall decide about attention, also train without it."""

    def best(task: Task) -> Run:
        return min((train(task, number) for number in range(task.options.n_starts)), key=lambda run: run.loss)

    run = best(task)
    if task.form.attention is None or not task.options.or_cp or not task.held_out.any():
        return run
    plain = best(task._replace(form=task.form._replace(attention=None)))
    gain = held_out_errors(task, plain) - held_out_errors(task, run)
    return run if worth_it(gain) else plain


def worth_it(gain: np.ndarray) -> bool:
    """Return whether the larger model's errors are smaller by more than one standard error of the mean over fibers.

    Only few fibers are held out, and in skewed data a few of them dominate: without the margin, chance would decide
    between equal models.
    """
    return len(gain) > 1 and bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def _chosen(run: Run, task: Task) -> dict[str, float]:
    """Return what training chose, by name."""
    found = {"n_best": run.n_best, "n_held_out": int(task.held_out.sum())}
    return found | ({"attention": run.form.attention is not None} if task.form.attention else {})


def _notes(scaling: Scaling, n_measured: int) -> tuple[str, ...]:
    """Return a remark that counts the clipped entries, if there are any."""
    n = int(scaling.n_clipped.sum())
    if not n:
        return ()
    return (f"{n} measured entries ({100 * n / n_measured:.2g}%) were clipped as outliers, for training only",)


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


def settings_of(values: np.ndarray, options: FactorizationOptions, form: Form, scaling: Scaling) -> Settings:
    """Gather the numbers of a training, with the weights of the expression categories."""
    weights, cutoffs = np.ones(5), np.zeros((values.shape[1], 4))
    if options.weight_power:
        chosen = cutoffs_of(values) if options.cutoffs is None else options.cutoffs
        share = frequencies(values, chosen)
        require_entries(share, chosen, given=options.cutoffs is not None)
        weights = share**-options.weight_power
        weights /= (share * weights).sum()
        cutoffs = (np.array(chosen) - scaling.shift[:, None]) / scaling.factor[:, None]
    attention_decay = options.attention_decay if form.attention else 0.0
    rates = options.learning_rate, options.weight_decay, attention_decay, options.variance_weight
    return Settings(*(to_device(number, np.float32) for number in (*rates, cutoffs, weights)))


def _without_unknown(parameters: dict[str, np.ndarray], measured: np.ndarray, form: Form) -> dict[str, np.ndarray]:
    """Set to 0 the factors that no measurement has trained."""
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


def _predict_missing(parameters: dict[str, np.ndarray], form: Form, measured: np.ndarray, size: int) -> np.ndarray:
    """Predict the fibers in which something is missing, scaled; 0 elsewhere."""
    predicted = np.zeros(measured.shape)
    on_device = {name: to_device(value) for name, value in parameters.items()}
    where = np.argwhere(~measured.all(axis=2)).astype(np.int32)
    for batch in batches_of(np.arange(len(where)), size):
        real = batch[batch >= 0]
        treatment, context = where[batch].T if len(where) else np.zeros((2, size), np.int32)
        found = to_host(predict_fibers(on_device, form, to_device(treatment), to_device(context)))
        predicted[tuple(where[real].T)] = found[: len(real)]
    return predicted


def _fall_back(
    values: np.ndarray, measured: np.ndarray, predicted: np.ndarray, form: Form
) -> tuple[np.ndarray, np.ndarray]:
    """Flag what was predicted without a factor. Put ``mean_2d`` there if there are no biases, and where nothing is linked.

    Unlinked factors of treatment and context were trained separately, each up to a rotation of its own.
    """
    unknown = ~measured.any(axis=(1, 2))[:, None, None] | ~measured.any(axis=(0, 2))[:, None]
    unknown = unknown | ~(measured.any(axis=0) if form.flat else measured.any(axis=(0, 1)))
    unknown, apart = unknown & ~measured, unlinked(measured)
    if not (unknown.any() or apart.any()):
        return predicted, np.zeros(values.shape[:2], np.int8)
    mean, kind = two_means(values)
    if form.biases:
        mean, kind = np.where(unknown, predicted, mean), np.int8(Fallback.BIASES)
    code = np.where(unknown, kind, np.where(apart, Fallback.UNLINKED, Fallback.NONE))
    return np.where(unknown | apart, mean, predicted), per_fiber(code, ~measured, measured.any(axis=(0, 1)))
