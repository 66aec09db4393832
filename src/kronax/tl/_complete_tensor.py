import warnings
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import align, factors, keys, objects
from kronax._data import tensor as tensors
from kronax._data.tensor import Tensor
from kronax._logging import logger, shows_progress
from kronax.solvers import checks, device
from kronax.solvers.tensor.completion import Completion, Fallback, without_work
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.registry import METHODS, MethodName, options_of

_FEWEST = 3  # profiles: over two treatments, any two contexts correlate perfectly


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
    good input. A warning is given for what look like raw counts, and for contexts with fewer than three measured
    profiles.

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
        Layer to write.
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
    ``obs["measured"]`` : bool
        Whether the profile has a measured value.
    ``obs["completion_confidence"]`` : float64
        Expected uncentred correlation of a prediction with a measurement, as reached by held-out profiles in
        cross-validation; too high in contexts with one or two profiles. NaN where nothing was missing or a mean stands
        in, and for methods other than ``"kronecker"``.
    ``obs["completion_fallback"]`` : categorical
        What was used in place of the method's own prediction, such as ``"context_mean"`` for a treatment that was never
        measured; ``"none"`` if nothing was, and ``"measured"`` if no entry was missing. If the missing entries of a
        profile differ, what was used for most of them; genes that were not measured anywhere do not count, and a
        warning names them.
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
        ``method``, ``params``, ``chosen`` (parameters chosen by the method), ``converged``, ``reason``, ``n_iter``,
        ``objective`` (at every iteration), ``n_predicted`` and ``n_entries`` (numbers of predicted profiles and
        entries), ``fallbacks`` (number of profiles by kind of fallback), ``version``. With ``"mf"``, ``"cp"`` and
        ``"attention_cp"`` also ``contexts`` (their names), ``context_factors`` (contexts × components; not with
        ``"mf"``), ``held_out_loss`` (at every epoch; ``objective`` is then the training loss), and ``n_clipped``,
        ``shift`` and ``factor`` of every context (how values were scaled for training).

    All but the layer are overwritten by the next completion.

    Raises
    ------
    FloatingPointError
        If the predictions, or the training loss, are not finite. Nothing is written in that case.
    KeyError
        If a modality lacks the layer.
    MemoryError
        If the estimated memory exceeds what is free.
    TypeError
        If `mdata` is not a MuData object of numeric AnnData objects in memory, or `options` belong to another method.
    ValueError
        If an option is out of range; `mdata` is backed or a view; there are fewer than two modalities, or one whose
        name cannot be saved; a modality is empty or its treatments or genes are not unique; the modalities share no
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
    options = options_of(method, options)
    if key_added == layer:
        msg = f"`key_added` must differ from `layer`, {layer!r}, which would be lost."
        raise ValueError(msg)
    tensor = tensors.read(mdata, layer)
    tensors.require_measured(mdata, layer)
    tensors.require_actual(mdata, copy=copy)
    measured = ~np.isnan(tensor.values)
    _require_predictable(tensor, measured, method, options)
    _require_memory(measured, method, options)
    _log_start(tensor, method)
    _warn_of_input(tensor, measured)

    result = _solve(tensor, measured, method, options)
    layers = {context: _layer(mdata, tensor, result, c) for c, context in enumerate(tensor.contexts)}
    _require_finite(tensor, layers)
    obs = {context: _described(tensor, measured, result, c) for c, context in enumerate(tensor.contexts)}
    params = {"layer": layer, "key_added": key_added, "options": _storable(asdict(options))}
    uns = _summary(measured, result, method, params) | factors.described(tensor, result)
    modalities = _aligned(mdata, tensor)

    mdata = align.copied(mdata) if copy else mdata
    if modalities:
        align.replace(mdata, modalities)
    for context in tensor.contexts:
        _write(mdata.mod[context], key_added, layers[context], obs[context])
    factors.write(mdata, tensor, result)
    mdata.uns[keys.COMPLETION] = uns
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
        warnings.warn(msg, UserWarning, stacklevel=3)
    tensors.warn_of_counts(tensor.values, stacklevel=3)


def _require_predictable(tensor: Tensor, measured: np.ndarray, method: str, options: Options) -> None:
    """Require a measured value of everything, where a method has nothing to put in its place."""
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


def _solve(tensor: Tensor, measured: np.ndarray, method: str, options: Options) -> Completion:
    """Complete the tensor, or, where nothing is missing, say so."""
    if measured.all():
        logger.info("nothing is missing: measured values are written as they are")
        return without_work(tensor.values, measured)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, in words
            return METHODS[method](tensor.values, options, progress=shows_progress())
    except np.linalg.LinAlgError as error:
        raise _not_finite() from error


def _not_finite() -> FloatingPointError:
    return FloatingPointError(
        "The predictions are not finite; nothing was written. Values that differ by very many orders of magnitude can "
        "be the cause: look for outliers, or divide all values by a constant."
    )


def _layer(mdata: MuData, tensor: Tensor, result: Completion, c: int) -> np.ndarray:
    """Return a modality's completed layer: what was read, as it was, and predictions of the shared genes in the gaps."""
    adata = mdata.mod[tensor.contexts[c]]
    found = tensors.matrix(adata, tensor.layer, f"mdata[{tensor.contexts[c]!r}]")
    rows, columns = tensor.rows[:, c], tensor.columns[c]
    layer = np.full((len(rows), adata.n_vars), np.nan, align.floating(found.dtype))
    here = rows >= 0
    layer[here] = found[rows[here]] if isinstance(found, np.ndarray) else found[rows[here]].toarray()
    missing = np.isnan(tensor.values[:, c])
    with np.errstate(over="ignore"):
        layer[:, columns] = np.where(missing, result.values[:, c].astype(layer.dtype), layer[:, columns])
    return layer


def _require_finite(tensor: Tensor, layers: dict[str, np.ndarray]) -> None:
    for c, context in enumerate(tensor.contexts):
        if not np.isfinite(layers[context][:, tensor.columns[c]]).all():
            raise _not_finite()


def _described(tensor: Tensor, measured: np.ndarray, result: Completion, c: int) -> dict[str, Any]:
    """Return the columns of a modality's obs."""
    gaps = ~measured[:, c].all(axis=1)
    n = len(gaps)
    confidence = np.full(n, np.nan) if result.confidence is None else result.confidence[:, c]
    kinds = ["measured", *map(_name, Fallback)]
    codes = np.where(gaps, result.fallback[:, c] + 1, 0)
    columns: dict[str, Any] = {
        keys.MEASURED: tensor.measured[:, c],
        keys.CONFIDENCE: np.where(gaps, confidence, np.nan),
        keys.FALLBACK: pd.Categorical.from_codes(codes, kinds).remove_unused_categories(),
    }
    if result.variance is not None:
        columns[keys.VARIANCE] = result.variance[:, c]
    return columns


def _aligned(mdata: MuData, tensor: Tensor) -> dict[str, AnnData]:
    """Return what shall stand in the place of the modalities; nothing if their rows are the same already."""
    if tensors.is_aligned(mdata):
        return {}
    align.log_new(mdata, tensor.treatments)
    return align.aligned(mdata, tensor.treatments, dict(zip(tensor.contexts, tensor.measured.T, strict=True)))


def _write(adata: AnnData, key_added: str, layer: np.ndarray, obs: dict[str, Any]) -> None:
    adata.layers[key_added] = layer
    if keys.VARIANCE in adata.obs and keys.VARIANCE not in obs:
        del adata.obs[keys.VARIANCE]  # another completion's
    for key, column in obs.items():
        adata.obs[key] = column


def _name(fallback: Fallback) -> str:
    return fallback.name.lower()


def _summary(measured: np.ndarray, result: Completion, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return what is stored in uns."""
    gaps = ~measured.all(axis=2)
    return {
        "method": method,
        "params": params,
        "chosen": {key: float(value) for key, value in result.parameters.items()},
        "converged": bool(result.status.converged),
        "reason": result.status.reason,
        "n_iter": int(result.status.n_iter),
        "objective": np.asarray(result.status.objective, np.float64),
        "n_predicted": int((~measured.any(axis=2)).sum()),
        "n_entries": int((~measured).sum()),
        "fallbacks": _fallbacks(result, gaps),
        "version": version("kronax"),
    }


def _fallbacks(result: Completion, gaps: np.ndarray) -> dict[str, int]:
    """Count the profiles with gaps by what they fell back to."""
    return {_name(kind): int((gaps & (result.fallback == kind)).sum()) for kind in Fallback if kind != Fallback.NONE}


def _storable(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as they can be saved: no tuples, no NumPy scalars."""
    plain = {}
    for key, value in options.items():
        if isinstance(value, tuple | list | np.ndarray):
            plain[key] = np.asarray(value, str if any(isinstance(v, str) for v in value) else np.float64)
        else:
            plain[key] = value.item() if isinstance(value, np.generic) else value
    return plain


def _warn(tensor: Tensor, measured: np.ndarray, result: Completion, method: str, options: Options) -> None:
    """Warn of what the user should know about the result."""
    messages = list(result.doubts)
    if not result.status.converged:
        messages.append(_not_converged(result.status.reason, method, options))
    if never := _never_measured(tensor, measured):
        messages.append(f"Nothing was measured of {never}; {result.stand_in} were predicted in their place.")
    for msg in messages:
        warnings.warn(msg, UserWarning, stacklevel=3)
    for note in result.notes:
        logger.info(note)
    if n_fallbacks := {kind: n for kind, n in _fallbacks(result, ~measured.all(axis=2)).items() if n}:
        counts = ", ".join(f"{kind.replace('_', ' ')} for {n}" for kind, n in n_fallbacks.items())
        logger.info("profiles that %s could not predict, and what was used instead: %s", method, counts)


def _not_converged(reason: str, method: str, options: Options) -> str:
    """Say why, and what to change."""
    advice = METHODS[method].advice(options)
    option = " --option ".join(f"{name}={value}" for name, value in advice.options.items())
    return (
        f"{method} did not converge: {reason}. Use `options={_written(replace(options, **advice.options))}` "
        f"(on the command line --option {option}), or {advice.otherwise}."
    )


def _written(options: Options) -> str:
    """Write options as code: what differs from the defaults."""
    changed = []
    for field in fields(options):
        value = getattr(options, field.name)
        plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if plain != field.default:
            changed.append(f"{field.name}={plain!r}")
    return f"kx.tl.{type(options).__name__}({', '.join(changed)})"
