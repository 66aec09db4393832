from dataclasses import fields, replace

import numpy as np
from mudata import MuData

from kronax._data import align, completion_out, doubts, keys, objects, side_information
from kronax._data import tensor as tensors
from kronax._data.measured import mark, require_no_mark
from kronax._data.tensor import Tensor
from kronax._data.whole import whole_or_nothing
from kronax._logging import logger, shows_progress, warn
from kronax.solvers import checks, device
from kronax.solvers.tensor.completion import Completion, without_work
from kronax.solvers.tensor.connection import blocks_of, unlinked
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.registry import METHODS, MethodName, options_of
from kronax.solvers.tensor.side import Side

_FEWEST = 3  # profiles: over two treatments, any two contexts correlate perfectly
_BRIDGES = 10  # treatments that two blocks of contexts have in common: with fewer, predictions across them are a guess


def complete_tensor(
    mdata: MuData,
    *,
    method: MethodName = "kronecker",
    layer: str | None = None,
    key_added: str = keys.COMPLETED,
    options: Options | None = None,
    copy: bool = False,
) -> MuData | None:
    """Predict unmeasured profiles from other treatments and other contexts.

    A profile is missing if a context lacks the treatment or its row is all NaN; a single entry is missing if it is NaN.
    Every method predicts whole profiles and single entries at once:

    ``"kronecker"``
        An empirical-Bayes Wiener smoother. The covariances of treatments, contexts and genes are learnt from the tensor
        itself and determine how much each measured value contributes to a prediction. The most accurate method on most
        data, and the only one whose predictions are calibrated in size and come with a confidence.
    ``"mean_1d"``, ``"mean_2d"``
        The treatment's mean over contexts; its average with the context's mean over treatments. Each gene by itself.
    ``"dnpp"``
        The weighted mean of the most similar treatments measured in the context; for a single entry, of those measured
        for that gene.
    ``"falrtc"``, ``"halrtc"``, ``"silrtc"``
        The tensor of minimal trace norm that agrees with the measured values, by three algorithms.
    ``"mf"``, ``"cp"``, ``"attention_cp"``
        Factor models trained with Adam on whole profiles, with early stopping on held-out ones. ``"mf"`` has factors of
        treatments, and of genes in each context separately; ``"cp"`` has factors of treatments, contexts and genes;
        ``"attention_cp"`` also reweights the components for every entry by a softmax, unless held-out profiles are
        predicted better without it (``chosen["attention"]`` is then 0). Made for skewed data with rare large values.
        Single missing entries are left out of training and predicted like the others.

    Values are used as they are, without any normalisation. Log fold changes from controls or standardised scores are
    good input. A warning is given where no value is negative, as in raw counts and levels of expression; for contexts
    with fewer than three measured profiles, or on scales that differ more than tenfold; and for names that differ by
    blanks or case only.

    Parameters
    ----------
    mdata
        One modality per context, treatments × genes, as from :func:`kronax.pp.tensor`; dense or sparse, any real dtype.
        Zeros that a sparse matrix does not store count as measured. If the modalities differ in their treatments, they
        are aligned as by :func:`kronax.pp.align`. Genes that are not in every context are ignored.
    method
        Completion method.
    layer
        Layer to read; X if None.
    key_added
        Layer to write; not `"measured"`, nor a name that ends with `"_measured"`, which mark what was measured of others.
    options
        Options of the method: :class:`kronax.tl.KroneckerOptions` for ``"kronecker"``, and so on; the defaults if None.
    copy
        Return a copy and leave `mdata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the MuData object with the results. In every modality:

    ``layers[key_added]`` : treatments × genes, dense
        Measured values, bit for bit, and predictions elsewhere. The dtype is that of the values read if they are
        floating, otherwise the smallest floating dtype, at least float32, that holds them all. Genes that are not in
        every context are not predicted: NaN where they were not measured.
    ``layers[f"{key_added}_measured"]`` : bool
        Whether the value was measured: a value was read there.
    ``obs["measured"]`` : bool
        Whether the profile has a measured value.
    ``obs["completion_confidence"]`` : float64
        Expected uncentred correlation of a prediction with a measurement, as reached by held-out profiles in
        cross-validation. Where few treatments link a block of contexts with that in which the treatment was measured, it
        is what profiles held out across these blocks reached, less one standard error. NaN where too little was measured
        to tell (fewer than three treatments link treatment and context, or fewer than five the blocks), where nothing was
        missing or a mean stands in, and for methods other than ``"kronecker"``.
    ``obs["completion_fallback"]`` : categorical
        What was used in place of the method's own prediction, such as ``"context_mean"`` for a treatment that was never
        measured; ``"none"`` if nothing was, and ``"measured"`` if no entry was missing. ``"unlinked"`` if treatment and
        context were measured, but no chain of treatments and contexts connects them: trace norms and factor methods then
        predict as ``"mean_2d"`` does, the other methods as if contexts were as alike as elsewhere. A warning names the
        blocks. If the missing entries of a profile differ, what was used for most of them; genes that were not measured
        anywhere do not count, and a
        warning names them. ``"similarity"`` if nothing was measured of the treatment, or of the context, and similar ones
        predict it (:class:`kronax.tl.KroneckerOptions`); the confidence is then what treatments, or contexts, left out whole reached.
    ``obs["completion_information"]`` : float64
        With ``KroneckerOptions(treatment_similarity=…)``: of treatments that were never measured, the share of their variance that
        similar ones determine, from 0 (nothing is known: the mean is predicted) to 1. NaN for others.
    ``obs["completion_variance"]`` : float64
        With ``KroneckerOptions(variance=True)``: posterior variance of a missing entry, without measurement noise,
        averaged over the profile's genes, in squared units; 0 where nothing is missing. It treats the learnt
        covariances as known, and is too small in contexts and for treatments with few profiles.

    With ``"mf"``, ``"cp"`` and ``"attention_cp"`` also:

    ``obsm["X_completion"]``, ``varm["completion"]`` : float32
        Factors of treatments and of genes, one column per component. The same in all modalities, except for the gene
        factors of ``"mf"``. NaN for genes that are not in every context.

    In the MuData object:

    ``uns["completion"]`` : dict
        ``method``, ``params``, ``chosen`` (parameters chosen by the method; of side information too), ``converged``, ``reason``, ``n_iter``,
        ``objective`` (at every iteration), ``n_predicted`` and ``n_entries`` (numbers of predicted profiles and
        entries), ``fallbacks`` (number of profiles by kind of fallback), ``version``. With ``"mf"``, ``"cp"`` and
        ``"attention_cp"`` also ``contexts`` (their names), ``context_factors`` (contexts × components; not with
        ``"mf"``), ``held_out_loss`` (at every epoch; ``objective`` is then the training loss), and ``n_clipped``,
        ``shift`` and ``factor`` of every context (how values were scaled for training).

    The two layers belong to `key_added`. All else describes the latest completion: the next one replaces it. What a user
    has under these names is kept under others, with a warning.

    Raises
    ------
    FloatingPointError
        If the predictions, or the training loss, are not finite. Nothing is written in that case.
    KeyError
        If a modality lacks the layer, or the object lacks side information that the options name.
    MemoryError
        If the estimated memory exceeds what is free.
    TypeError
        If `mdata` is not a MuData object of numeric AnnData objects in memory, or `options` belong to another method.
    ValueError
        If an option is out of range; a similarity is not symmetric, not finite, or lacks a context, coordinates lack a value, or
        precisions are not positive; the layer, or X, holds predictions of a completion; `mdata` is backed or a view; there are fewer than two modalities, or one whose
        name cannot be saved; a modality is empty or its treatments, genes or columns are not unique; the modalities share no
        gene; a value is infinite; everything is missing; or, with a trace norm, nothing was measured of a treatment, a
        context or a gene.

    References
    ----------
    :cite:t:`Hodos2018` for the means, ``"dnpp"`` and ``"falrtc"`` on treatments × contexts × genes; :cite:t:`Liu2013`
    for the trace norms; :cite:t:`ToxiTenCompl2025` for ``"attention_cp"``. ``"kronecker"`` is described in
    :doc:`/tensors`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata)
    >>> mdata["line0"].layers["completed"].shape
    (20, 50)
    """
    checks.name(key_added, "key_added")
    require_no_mark(key_added)
    options = options_of(method, options)
    if layer in (key_added, mark(key_added)):
        msg = f"With `key_added={key_added!r}`, the layer read, {layer!r}, would be overwritten and lost. Name another key."
        raise ValueError(msg)
    tensor = tensors.read_measured(mdata, layer)
    tensors.require_actual(mdata, copy=copy)
    side = side_information.read(mdata, tensor, options.sought)
    measured = ~np.isnan(tensor.values)
    _require_predictable(tensor, measured, method, options)
    _require_memory(measured, method, options)
    _log_start(tensor, method)
    _warn_of_input(tensor, measured)

    result = _solve(tensor, measured, method, options, side)
    mdata = align.copied(mdata) if copy else mdata
    with whole_or_nothing(mdata):
        completion_out.write(mdata, tensor, result, method, options, key_added)
        _warn(tensor, measured, result, method, options)
    return mdata if copy else None


def _log_start(tensor: Tensor, method: str) -> None:
    n, c, p = tensor.values.shape
    missing = int((~tensor.measured).sum())
    single = tensor.missing_entries - missing * p
    where = device.current()
    text = (
        "complete_tensor (%s): %d treatments × %d contexts × %d genes; %d profiles and %d single entries missing; on %s"
    )
    logger.info(text, method, n, c, p, missing, single, where)


def _warn_of_input(tensor: Tensor, measured: np.ndarray) -> None:
    """Warn of contexts too small to be compared with others, and of what look like counts."""
    n_measured = measured.any(axis=2).sum(axis=0)
    few = (n_measured > 0) & (n_measured < _FEWEST) & ~measured.all(axis=(0, 2))
    if few.any():
        names = [f"{tensor.contexts[c]} ({n_measured[c]})" for c in np.flatnonzero(few)]
        msg = (
            f"Fewer than {_FEWEST} profiles were measured in contexts {checks.listed(names)}. That is too little to learn "
            "how they differ from the others: predictions will mostly repeat what was measured elsewhere."
        )
        warn(msg)
    doubts.of_input(tensor)


def _require_predictable(tensor: Tensor, measured: np.ndarray, method: str, options: Options) -> None:
    """Require a measured value of every treatment, context and gene, if the method has no fallback."""
    never, instead = _never_measured(tensor, measured), METHODS[method].instead(options)
    if never and instead:
        msg = f"Nothing was measured of {never}; method {method!r} cannot predict them. Leave them out, or {instead}."
        raise ValueError(msg)


def _never_measured(tensor: Tensor, measured: np.ndarray) -> str:
    """Name treatments, contexts and genes without a measured value; nothing if there are none."""
    kinds = {"treatments": tensor.treatments, "contexts": tensor.contexts, "genes": tensor.genes}
    found = []
    for axis, (kind, labels) in enumerate(kinds.items()):
        others = tuple({0, 1, 2} - {axis})
        names = np.asarray(labels, dtype=object)[~measured.any(axis=others)]
        found += [f"{kind} {checks.listed(names)}"] if len(names) else []
    return " and of ".join(found)


def _require_memory(measured: np.ndarray, method: str, options: Options) -> None:
    memory = METHODS[method].needs(measured, options)
    remedy = "Choose fewer genes or treatments, or a method that needs less, such as 'mean_2d'."
    objects.memory(memory.n_bytes, remedy + (f" Or {memory.remedy}." if memory.remedy else ""))


def _solve(tensor: Tensor, measured: np.ndarray, method: str, options: Options, side: Side | None) -> Completion:
    """Complete the tensor; log if nothing is missing."""
    if measured.all():
        logger.info("nothing is missing: measured values are written as they are")
        return without_work(tensor.values, measured)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, in words
            return METHODS[method](tensor.values, options, progress=shows_progress(), side=side)
    except np.linalg.LinAlgError as error:
        raise completion_out.not_finite() from error


def _warn(tensor: Tensor, measured: np.ndarray, result: Completion, method: str, options: Options) -> None:
    """Warn of what the user should know about the result."""
    messages = list(result.doubts)
    if not result.status.converged:
        messages.append(_not_converged(result.status.reason, method, options))
    if never := _never_measured(tensor, measured):
        messages.append(f"Nothing was measured of {never}; {result.stand_in} were predicted in their place.")
    messages += _missing_links(tensor, measured)
    for msg in messages:
        warn(msg)
    for note in result.notes:
        logger.info(note)
    if n_fallbacks := {kind: n for kind, n in completion_out.fallbacks(tensor, result).items() if n}:
        counts = ", ".join(f"{kind.replace('_', ' ')} for {n}" for kind, n in n_fallbacks.items())
        logger.info("profiles that %s could not predict, and what was used instead: %s", method, counts)


def _not_converged(reason: str, method: str, options: Options) -> str:
    """Return a sentence on why a method did not converge, and what to change."""
    advice = METHODS[method].advice(options)
    option = " --option ".join(f"{name}={value}" for name, value in advice.options.items())
    return (
        f"{method} did not converge: {reason}. Use `options={_written(replace(options, **advice.options))}` "
        f"(on the command line --option {option}), or {advice.otherwise}."
    )


def _missing_links(tensor: Tensor, measured: np.ndarray) -> list[str]:
    """Return a warning that names the blocks of treatments and contexts with no link, or hardly any, between them."""
    some = measured.any(axis=2)
    blocks = blocks_of(some)
    enough = some.sum(axis=0) >= _FEWEST  # the warning about the input names the others
    n_across, n_apart = int((blocks.across & enough).sum()), int(unlinked(measured).any(axis=2).sum())
    bridging = blocks.treatment & blocks.bridging[:, None]
    if not n_apart and (not n_across or bridging.sum(axis=0).min() >= _BRIDGES):
        return []
    if not n_across:
        return [
            f"No measurement links treatment and gene, or treatment and context, in {n_apart} profiles: what was measured "
            "falls into parts that share none of them. See `completion_fallback`."
        ]
    parts = [
        f"{int(has.sum())} treatments × {int((blocks.context == number).sum())} contexts "
        f"({checks.listed([str(tensor.contexts[c]) for c in np.flatnonzero(blocks.context == number)])})"
        for number, has in enumerate(blocks.treatment.T)
    ]
    n_bridging = int(blocks.bridging.sum())
    several = np.bincount(blocks.context[blocks.context >= 0]).min() > 1  # contexts, or a block is no tensor
    how_many = "all" if n_apart == n_across else n_apart
    none = f"; for {how_many} of them no measurement links the two at all" if n_apart else ""
    return [
        f"Treatments and contexts fall into {len(parts)} blocks, {checks.listed(parts)}, and {n_bridging or 'no'} treatments "
        f"were measured in more than one. {n_across} profiles are predicted in another block than that in which their "
        f"treatment was measured{none}. They assume that contexts of different blocks are as similar as linked ones. Measure "
        f"more treatments in several blocks{', or complete each block by itself' if several else ''}."
    ]


def _written(options: Options) -> str:
    """Write options as code: what differs from the defaults."""
    changed = []
    for field in fields(options):
        value = getattr(options, field.name)
        plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if plain != field.default:
            changed.append(f"{field.name}={plain!r}")
    return f"kx.tl.{type(options).__name__}({', '.join(changed)})"
