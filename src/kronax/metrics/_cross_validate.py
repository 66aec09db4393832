from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from tqdm.auto import tqdm

from kronax._data import doubts, objects
from kronax._data import tensor as tensors
from kronax._logging import logger, shows_progress
from kronax.metrics import _tensor_scores as scores
from kronax.metrics._compared_methods import DEFAULT, Chosen, ComparedMethod, compared_methods, controls
from kronax.solvers import checks
from kronax.solvers.device import each_solved
from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.connection import unlinked
from kronax.solvers.tensor.folds import cold_start_folds, entry_folds, fiber_folds, hide, pooled_correlation
from kronax.solvers.tensor.folds import unit_norm as to_unit_norm

SPLITS = ("fiber", "entry", "cold_start_treatment", "cold_start_context")
_NOTHING, _UNABLE = "none", "unable"


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """Held-out values, their predictions, and scores of how well they agree.

    Attributes
    ----------
    table
        One row per method, with the columns

        - ``pct``: Pearson correlation of predicted and measured values, over all held-out entries together;
        - ``pct_fiber``: mean Pearson correlation of single profiles;
        - ``mae``, ``mse``: mean absolute and mean squared error, in units of the data and their square;
        - ``deg_auc_1%`` and the like: see :func:`kronax.metrics.deg_auc`;
        - ``calibration_slope``: see :func:`kronax.metrics.calibration_slope`;
        - ``variance_ratio``: variance of the predictions divided by that of the measured values;
        - ``specificity_bias``: mean of predicted minus measured cell-specificity;
        - ``specificity_correlation``: correlation of predicted and measured cell-specificity, over treatments;
        - ``fallback``: share of the held-out profiles that consist mostly of a fallback, such as a mean;
        - ``unable``: share of the held-out profiles that the method cannot predict and has no fallback for; they count
          in none of its scores;
        - ``converged``: share of the folds in which the method converged;
        - ``seconds``: run time of all folds.
    profiles
        Held-out profiles × genes. ``X`` holds the measured values, NaN where none was held out, and ``layers[method]``
        the predictions. In ``obs``: ``treatment``, ``context``, ``fold`` (-1 if the profile's entries are in several),
        ``n_contexts`` and ``n_treatments`` (how many contexts of the treatment, and treatments of the context, were
        measured) and ``unseen`` (whether nothing of the treatment, the context or a gene was left in training, or
        nothing that links the treatment with the context).
    fibers
        Correlations of single profiles: rows of `profiles` × methods; NaN where undefined.
    treatments
        Correlations over the entries of each treatment: treatments × methods; NaN where undefined.
    contexts
        Correlations over the entries of each context: contexts × methods; NaN where undefined.
    genes
        Correlations over the entries of each gene: genes × methods; NaN where undefined.
    cell_specificity
        Treatments × (``"measured"``, methods): mean pairwise cosine distance of a treatment's held-out profiles; NaN
        with fewer than two of them.
    confidences
        Rows of `profiles` × methods: the confidence of each prediction; NaN where the method gave none. :meth:`promises` compares
        it with what was reached.
    fallback
        Rows of `profiles` × methods: what most of a profile's held-out entries were filled with instead of the method's
        own prediction, such as ``"context_mean"``; ``"none"``, or ``"unable"``. Genes that were not measured anywhere
        do not count.
    parameters
        Arguments of the cross-validation.

    References
    ----------
    :cite:t:`Hodos2018`, sections 2.6 and 3.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> result = kx.metrics.cross_validate(mdata, methods=["mean_1d", "mean_2d"], n_folds=3)
    >>> result.methods
    ['mean_1d', 'mean_2d']
    >>> result.contexts.shape
    (4, 2)
    >>> result.errors("context").columns.tolist()[:3]
    [('', 'n'), ('mean_1d', 'mae'), ('mean_1d', 'mse')]
    """

    table: pd.DataFrame
    profiles: AnnData
    fibers: pd.DataFrame
    treatments: pd.DataFrame
    contexts: pd.DataFrame
    genes: pd.DataFrame
    cell_specificity: pd.DataFrame
    confidences: pd.DataFrame
    fallback: pd.DataFrame
    parameters: dict[str, Any]

    def __repr__(self) -> str:
        what = f"{self.profiles.n_obs} fibers held out in {self.parameters['n_folds']} folds"
        text = f"CrossValidation, split {self.parameters['split']!r}: {what}\n{self.table.round(3)}"
        promises = self.promises()
        return (
            f"{text}\n\nConfidence, and cosine reached, by fifths of the confidence\n{promises.round(2)}"
            if len(promises)
            else text
        )

    @property
    def methods(self) -> list[str]:
        """The methods compared, in the order given."""
        return list(self.table.index)

    def promises(self, n_groups: int = 5) -> pd.DataFrame:
        """Compare confidences with what the predictions reached.

        Parameters
        ----------
        n_groups
            Number of groups of equally many profiles, by their confidence.

        Returns
        -------
        (method, group) × ``n``, ``promised`` (mean confidence), ``reached`` (mean cosine of measured and predicted profiles), the
        groups with the least confidence first. Methods without confidences are left out; the table is empty if none has any.

        Raises
        ------
        ValueError
            If `n_groups` is not a positive integer.
        """
        checks.integer(n_groups, "n_groups", low=1)
        rows = {}
        for method in self.methods:
            promised, reached = self.confidences[method].to_numpy(), self._cosines(method)
            known = ~(np.isnan(promised) | np.isnan(reached))
            promised, reached = promised[known], reached[known]
            for i, group in enumerate(np.array_split(np.argsort(promised, kind="stable"), n_groups), start=1):
                if len(group):
                    rows[method, i] = (len(group), promised[group].mean(), reached[group].mean())
        index = pd.MultiIndex.from_tuples(rows, names=["method", "group"]) if rows else None
        return pd.DataFrame(list(rows.values()), index=index, columns=["n", "promised", "reached"])

    def _cosines(self, method: str) -> np.ndarray:
        """Return the cosine of every held-out profile and its prediction."""
        truth, predicted = self.profiles.X, self.profiles.layers[method]
        both = ~(np.isnan(truth) | np.isnan(predicted))
        t, p = (np.where(both, x, 0.0) for x in (truth, predicted))
        length = np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1)
        return np.divide((t * p).sum(axis=1), length, out=np.full(len(t), np.nan), where=length > 0)

    def errors(
        self,
        by: Literal["treatment", "context", "category"] = "context",
        *,
        edges: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0),
    ) -> pd.DataFrame:
        """Compute mean absolute and mean squared errors by treatment, context or size of the measured values.

        Parameters
        ----------
        by
            ``"treatment"``, ``"context"``, or ``"category"``: of expression, the measured values cut at `edges`.
        edges
            Limits of the categories, ascending, in units of the root mean square of the held-out values.

        Returns
        -------
        Groups × (method, ``mae`` or ``mse``), and the number of entries in the column ``("", "n")``.

        Raises
        ------
        ValueError
            If `by` is none of the above or `edges` do not ascend.
        """
        checks.one_of(by, ["treatment", "context", "category"], "by")
        truth = self.profiles.X
        if by == "category":
            group, names = _categories(truth, checks.numbers(edges, "edges"))
        else:
            codes, names = pd.factorize(self.profiles.obs[by], sort=True)
            group = np.broadcast_to(codes[:, None], truth.shape)
        has = ~np.isnan(truth)
        n = np.bincount(group[has], minlength=len(names))
        columns = {("", "n"): n}
        for method in self.methods:
            error = np.abs(self.profiles.layers[method] - truth)
            known = ~np.isnan(error)
            counted = np.bincount(group[known], minlength=len(names))
            for name, loss in (("mae", error[known]), ("mse", error[known] ** 2)):
                total = np.bincount(group[known], weights=loss, minlength=len(names))
                columns[method, name] = np.divide(total, counted, out=np.full(len(names), np.nan), where=counted > 0)
        return pd.DataFrame(columns, index=pd.Index(names, name=by))


def _categories(truth: np.ndarray, edges: Sequence[float]) -> tuple[np.ndarray, list[str]]:
    """Cut values at multiples of their standard deviation: codes, and the intervals' names."""
    if not len(edges) or not (np.diff(edges) > 0).all():
        msg = f"`edges` must be numbers in ascending order, found {edges!r}."
        raise ValueError(msg)
    ends = ["", *(f"{edge:g}" for edge in edges), ""]
    names = [
        f"above {low}" if low and not high else f"up to {high}" if high and not low else f"{low} to {high}"
        for low, high in zip(ends[:-1], ends[1:], strict=True)
    ]
    spread = np.sqrt(np.nanmean(np.square(truth)))
    return np.searchsorted(np.asarray(edges) * spread, truth, side="left"), names


def cross_validate(
    mdata: MuData,
    *,
    methods: str | Iterable[str] | Mapping[str, Chosen] = DEFAULT,
    n_folds: int = 10,
    split: Literal["fiber", "entry", "cold_start_treatment", "cold_start_context"] = "fiber",
    keep: int = 0,
    layer: str | None = None,
    unit_norm: bool = False,
    deg_tops: tuple[float, ...] = (0.01, 0.1),
    with_controls: bool = True,
    random_state: int = 0,
) -> CrossValidation:
    """Hide measured parts of a tensor, complete it, and compare the hidden values with the predictions.

    By default, every measured profile of a treatment in a context (a fiber of the tensor) is assigned to one fold. For
    each fold, every method completes the tensor without that fold's profiles. Every profile is thus predicted exactly
    once, by a method that has not seen it. A treatment keeps at least one measured profile in training; its only
    profile is never held out.

    Parameters
    ----------
    mdata
        One modality per context, each treatments × genes. A treatment that a modality lacks, or whose row is NaN, was
        not measured there. Not changed.
    methods
        Names, as in :func:`kronax.tl.complete_tensor`; or a mapping from labels of your choice to a name or to options
        with other settings than the defaults. Options that several methods share go with the name: ``{"rank 6": ("cp",
        kx.tl.FactorizationOptions(rank=6))}``.
    n_folds
        Number of folds, at least 2.
    split
        What is held out together. ``"fiber"``: whole profiles, which is what the completion of missing profiles needs.
        ``"entry"``: single values, while the rest of the profile stays; far too optimistic, and included to show by how
        much. ``"cold_start_treatment"``, ``"cold_start_context"``: all profiles of a treatment, or of a context, except
        `keep` of them. Methods that cannot predict these are reported in ``fallback`` and ``unable`` of the table.
    keep
        Number of profiles of each treatment (or context) that a cold start leaves in training, chosen at random.
    layer
        Layer of every modality to read; `X` if None.
    unit_norm
        Whether to follow :cite:t:`Hodos2018`: measured profiles are scaled to unit norm first, and predictions before
        correlations are computed. All other scores are of predictions that are not scaled.
    deg_tops
        Shares of a profile's genes that are called differentially expressed, for the areas under the ROC curve.
    with_controls
        Whether to compare methods that are given side information (:class:`kronax.tl.KroneckerOptions`) with what they could do
        without: ``"treatment_free"``, the mean of the context, which knows nothing of the treatment, and, under their label and
        ``", permuted"``, with the similarities of treatments dealt out anew.
    random_state
        Seed of the folds, and of the permutation.

    Returns
    -------
    :class:`CrossValidation`: tables of scores, and the predictions themselves.

    Raises
    ------
    KeyError
        If there is no such layer, or no side information of that name.
    MemoryError
        If the estimated memory exceeds what is free.
    TypeError
        If `mdata` is not a MuData object, or `methods` holds anything but names and options.
    ValueError
        If a method or split does not exist, side information is invalid, options fit more than one method, or there are fewer profiles, treatments
        or contexts to hold out than folds.

    References
    ----------
    :cite:t:`Hodos2018`, sections 2.6 and 3.

    Examples
    --------
    >>> import anndata as ad
    >>> import kronax as kx
    >>> import mudata
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> drugs, cells, genes = (rng.normal(size=(n, 2)) for n in (12, 3, 30))
    >>> values = np.einsum("dr,cr,gr->cdg", drugs, cells, genes)
    >>> mdata = mudata.MuData({f"cell {c}": ad.AnnData(x) for c, x in enumerate(values)}, axis=-1)
    >>> result = kx.metrics.cross_validate(mdata, methods=["kronecker", "mean_1d"], n_folds=4)
    >>> bool(result.table.loc["kronecker", "pct"] > result.table.loc["mean_1d", "pct"])
    True
    """
    checks.one_of(split, SPLITS, "split")
    checks.integer(n_folds, "n_folds", low=2)
    checks.integer(keep, "keep", low=0)
    checks.integer(random_state, "random_state", low=0)
    if keep and not split.startswith("cold_start"):
        msg = f"`keep` is for cold starts; with split={split!r} every treatment keeps what is not in the fold."
        raise ValueError(msg)
    checks.boolean(unit_norm, "unit_norm")
    deg_tops = checks.numbers(deg_tops, "deg_tops")
    for top in deg_tops:
        scores.require_top(top, "deg_tops")
    checks.boolean(with_controls, "with_controls")
    chosen = compared_methods(methods)
    tensor = tensors.read_measured(mdata, layer)
    chosen = [method.informed(mdata, tensor) for method in chosen]
    chosen += controls(chosen, random_state) if with_controls else []
    doubts.of_input(tensor)
    results = 8 * (4 + len(chosen)) * tensor.values.size
    solve = max(method.n_bytes(~np.isnan(tensor.values)) for method in chosen)
    objects.memory(results + solve, "Compare fewer methods, or choose fewer genes.")
    n_at_once = objects.how_many(solve, beside=results)
    values = to_unit_norm(tensor.values) if unit_norm else tensor.values
    fold = _deal(~np.isnan(values), split, n_folds, keep, random_state)
    held = _held_out(values, fold, n_folds)
    predictions = {}
    with tqdm(total=len(chosen) * n_folds, unit="fold", delay=2, leave=False, disable=not shows_progress()) as bar:
        for method in chosen:
            bar.set_description(method.label, refresh=False)
            predictions[method.label] = _predict(
                method, values, fold, n_folds, held, n_at_once, bar, shared=split == "fiber"
            )
    parameters = {
        "split": split,
        "n_folds": n_folds,
        "keep": keep,
        "layer": layer,
        "unit_norm": unit_norm,
        "deg_tops": tuple(deg_tops),
        "random_state": random_state,
    }
    _say_what_stood_in(predictions, split)
    return _assemble(tensor, held, predictions, parameters)


def _deal(measured: np.ndarray, split: str, n_folds: int, keep: int, random_state: int) -> np.ndarray:
    """Draw the fold of every fiber ``(D, C)``, or of every entry ``(D, C, G)``; negative where there is none."""
    if split == "entry":
        return entry_folds(measured, n_folds, random_state)
    fibers = measured.any(axis=2)
    if split == "fiber":
        return fiber_folds(fibers, n_folds, random_state).fold
    axis = ("cold_start_treatment", "cold_start_context").index(split)
    return cold_start_folds(fibers, n_folds, axis=axis, keep=keep, random_state=random_state).fold


@dataclass(frozen=True)
class _HeldOut:
    """The fibers with held-out entries: where they are, their fold (-1 if in several) and values ``(n, G)``.

    ``unseen``: whether the fold leaves nothing of the treatment, the context or one of the genes in training; ``apart``:
    whether it leaves nothing that links the treatment with the context.
    """

    treatment: np.ndarray
    context: np.ndarray
    fold: np.ndarray
    unseen: np.ndarray
    apart: np.ndarray
    truth: np.ndarray


def _held_out(values: np.ndarray, fold: np.ndarray, n_folds: int) -> _HeldOut:
    measured = ~np.isnan(values)
    fold = fold if fold.ndim == 3 else np.broadcast_to(fold[:, :, None], fold.shape + (1,))
    unseen, apart = np.zeros(fold.shape[:2], bool), np.zeros(fold.shape[:2], bool)
    for k in range(n_folds):
        training = measured & (fold != k)
        apart |= (unlinked(training) & (fold == k)).any(axis=2)
        gone = ~training.any(axis=(1, 2))[:, None] | ~training.any(axis=(0, 2))
        if (measured.any(axis=(0, 1)) & ~training.any(axis=(0, 1))).any():
            gone[:] = True
        unseen |= gone & (fold == k).any(axis=2)
    rows, cols = np.nonzero((fold >= 0).any(axis=2))
    low, high = fold.min(axis=2), fold.max(axis=2)
    where = rows, cols
    return _HeldOut(rows, cols, np.where(low == high, high, -1)[where], unseen[where], apart[where], values[where])


@dataclass(frozen=True)
class _Predicted:
    """Predictions of the held-out fibers ``(n, G)``, NaN where nothing was held out or the method is unable to predict.

    ``code``: what most of a fiber fell back to; ``confidence``: NaN where there is none, and of single entries; ``unable``:
    whether nothing could be predicted, nor a fallback used.
    """

    values: np.ndarray
    code: np.ndarray
    confidence: np.ndarray
    unable: np.ndarray
    converged: float
    seconds: float


def _predict(
    method: ComparedMethod,
    values: np.ndarray,
    fold: np.ndarray,
    n_folds: int,
    held: _HeldOut,
    n_at_once: float,
    bar: tqdm,
    *,
    shared: bool,
) -> _Predicted:
    """Complete the tensor once for every fold, without it, several folds at once; they share what they can if ``shared``."""
    start = time.perf_counter()
    known = method.known(values, fold, n_folds, n_at_once) if shared else [None] * n_folds
    predicted, confidence = np.full(values.shape, np.nan), np.full(values.shape[:2], np.nan)
    kinds = np.arange(len(Fallback))[:, None, None]
    counts = np.zeros((len(Fallback), *values.shape[:2]), np.int64)
    n_converged = 0

    def complete(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, bool]:
        """Return the values held out in a fold, what fibers fell back to, their confidence, and whether it converged."""
        mask = fold == k
        found = method.complete(hide(values, mask), known[k])
        has = found.confidence is not None and mask.ndim == 2
        return found.values[mask], found.fallback, found.confidence[mask] if has else None, found.status.converged

    for k, (of_fold, fallback, sure, converged) in enumerate(each_solved(complete, range(n_folds), n_at_once)):
        mask = fold == k
        predicted[mask] = of_fold
        if sure is not None:
            confidence[mask] = sure
        n_held = mask if mask.ndim == 2 else mask.sum(axis=2)
        counts += n_held * (fallback == kinds)
        n_converged += converged
        bar.update()
    predicted[np.isnan(values)] = np.nan  # of fibers measured in part
    where = held.treatment, held.context
    unable = method.unable(held.unseen)
    predicted = np.where(unable[:, None], np.nan, predicted[where])
    seconds = time.perf_counter() - start
    code = counts.argmax(axis=0)[where]
    return _Predicted(predicted, code, confidence[where], unable, n_converged / n_folds, seconds)


def _say_what_stood_in(predictions: dict[str, _Predicted], split: str) -> None:
    """Log which methods could not predict some of the held-out fibers."""
    for method, found in predictions.items():
        stood_in = (found.code > 0) & (found.code != Fallback.SIMILARITY)
        names = [Fallback(code).name.lower() for code in np.unique(found.code[stood_in])]
        if found.unable.any():
            names.append("nothing")
        if names:
            logger.warning(
                "%s could not predict %s%d of %d held-out profiles (split: %s); used instead: %s",
                method,
                "most entries of " if split == "entry" else "",
                int((stood_in | found.unable).sum()),
                len(found.code),
                split,
                ", ".join(names),
            )


def _assemble(
    tensor: tensors.Tensor, held: _HeldOut, predictions: dict[str, _Predicted], parameters: dict[str, Any]
) -> CrossValidation:
    """Score all predictions."""
    treatments, contexts = tensor.treatments.astype(str), pd.Index(tensor.contexts)
    measured = tensor.measured
    obs = pd.DataFrame(
        {
            "treatment": pd.Categorical.from_codes(held.treatment, treatments),
            "context": pd.Categorical.from_codes(held.context, contexts),
            "fold": held.fold,
            "n_contexts": measured.sum(axis=1)[held.treatment],
            "n_treatments": measured.sum(axis=0)[held.context],
            "unseen": held.unseen | held.apart,
        },
        index=[f"{treatments[d]}:{contexts[c]}" for d, c in zip(held.treatment, held.context, strict=True)],
    )
    profiles = AnnData(
        held.truth,
        obs=obs,
        var=pd.DataFrame(index=tensor.genes.astype(str)),
        layers={method: found.values for method, found in predictions.items()},
    )
    profiles.obs_names_make_unique()  # "a:b" of "c" and "a" of "b:c"
    scaled = {m: to_unit_norm(p.values) if parameters["unit_norm"] else p.values for m, p in predictions.items()}
    groups = {
        "fibers": (np.arange(len(obs)), profiles.obs_names),
        "treatments": (held.treatment, treatments),
        "contexts": (held.context, contexts),
    }
    correlations = {
        name: pd.DataFrame(
            {m: scores.grouped_correlations(held.truth, p, group, len(names)) for m, p in scaled.items()}, index=names
        )
        for name, (group, names) in groups.items()
    }
    correlations["genes"] = pd.DataFrame(
        {m: scores.row_correlations(held.truth.T, p.T) for m, p in scaled.items()}, index=profiles.var_names
    )
    specificity = pd.DataFrame(
        {
            name: scores.grouped_specificity(x, held.treatment, len(treatments))
            for name, x in [("measured", held.truth), *((m, p.values) for m, p in predictions.items())]
        },
        index=treatments,
    )
    names = np.array([_NOTHING, *(code.name.lower() for code in Fallback if code)], dtype=object)
    fallback = pd.DataFrame(
        {m: np.where(p.unable, _UNABLE, names[p.code]) for m, p in predictions.items()}, index=profiles.obs_names
    )
    rows = {
        m: _row(held.truth, scaled[m], p, correlations["fibers"][m], specificity[["measured", m]], parameters)
        for m, p in predictions.items()
    }
    return CrossValidation(
        table=pd.DataFrame.from_dict(rows, orient="index").rename_axis("method"),
        profiles=profiles,
        cell_specificity=specificity,
        confidences=pd.DataFrame({m: p.confidence for m, p in predictions.items()}, index=profiles.obs_names),
        fallback=fallback,
        parameters=parameters,
        **correlations,
    )


def _row(
    truth: np.ndarray,
    scaled: np.ndarray,
    found: _Predicted,
    fibers: pd.Series,
    specificity: pd.DataFrame,
    parameters: dict[str, Any],
) -> dict[str, float]:
    """Compute the scores of one method over all held-out entries."""
    measured, predicted = specificity.to_numpy().T
    return {
        "pct": pooled_correlation(truth, scaled),
        "pct_fiber": fibers.mean(),
        "mae": scores.mean_absolute_error(truth, found.values),
        "mse": scores.mean_squared_error(truth, found.values),
        **{f"deg_auc_{100 * p:g}%": scores.deg_auc(truth, found.values, top=p) for p in parameters["deg_tops"]},
        "calibration_slope": scores.calibration_slope(truth, found.values),
        "variance_ratio": scores.variance_ratio(truth, found.values),
        "specificity_bias": float((specificity.iloc[:, 1] - specificity.iloc[:, 0]).mean()),
        "specificity_correlation": pooled_correlation(measured, predicted),
        "fallback": float((found.code > 0).mean()),
        "unable": float(found.unable.mean()),
        "converged": found.converged,
        "seconds": found.seconds,
    }
