from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy.stats import ttest_rel
from tqdm.auto import tqdm

from kronax._data import keys
from kronax._data import measured as marks
from kronax._data import tensor as tensors
from kronax._data.named import beside
from kronax._logging import shows_progress, warn
from kronax.solvers import checks

_MODELS = ("logistic_regression", "k_neighbors", "random_forest")
_FEWEST = 3  # measured profiles with each label
_OVER_CONTEXTS = ("mean", "max")


@dataclass(frozen=True)
class DownstreamAuc:
    """Accuracy of classifiers trained on measured and on completed profiles.

    Attributes
    ----------
    table
        One row per experiment, a combination of ``profile`` (a context, ``"mean"`` or ``"max"``; a context of such a name is
        ``"context mean"``), ``task`` and ``model``:

        - ``auc_measured``, ``auc_completed``: areas under the ROC curve, on the same measured profiles, of a classifier
          trained on the measured profiles and of one trained on the completed ones;
        - ``difference``: ``auc_completed`` minus ``auc_measured``;
        - ``n_measured``, ``n_completed``, ``n_positive``: numbers of measured profiles, of all profiles, and of
          measured profiles with a positive label;
        - ``signal``: whether at least one of the two areas is ½ or more.
    mean_difference
        Mean of ``difference`` over the experiments with signal.
    p_value
        Two-sided paired t-test over the experiments with signal; NaN with fewer than two. As experiments share profiles
        and labels, it is a guide rather than a test.

    References
    ----------
    :cite:t:`Hodos2018`, sections 2.7 and 3.6.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=4, n_genes=30)
    >>> kx.tl.complete_tensor(mdata, method="mean_2d")
    >>> labels = mdata["line0"].obs["cell_specific"]
    >>> found = kx.metrics.downstream_auc(mdata, labels, models="k_neighbors", profiles="mean")
    >>> float(found.table["difference"].iloc[0]) == found.mean_difference
    True
    """

    table: pd.DataFrame
    mean_difference: float
    p_value: float


def downstream_auc(
    mdata: MuData,
    labels: pd.DataFrame | pd.Series,
    *,
    layer: str = keys.COMPLETED,
    measured_layer: str | None = None,
    profiles: Iterable[str] | None = None,
    models: Iterable[str] | Mapping[str, Any] = _MODELS,
    n_folds: int = 10,
    random_state: int = 0,
) -> DownstreamAuc:
    """Test whether classifiers learn more from completed profiles than from measured ones.

    For each context, one classifier is trained to predict a binary label of treatments, such as a drug target, from the
    profiles measured there, and another from measured and predicted profiles together. Both are scored on the same
    treatments, those measured there, by the area under the ROC curve, in a cross-validation over treatments with the
    same folds for both, so that no classifier has seen the labels it predicts.

    Parameters
    ----------
    mdata
        One modality per context, each treatments × genes, with a completed layer. Not changed.
    labels
        Binary labels (bool, or 0 and 1) in columns, with treatments as the index. Treatments that are not in it, and
        missing values, are left out.
    layer
        Layer with measured and predicted profiles, without gaps.
    measured_layer
        Layer with the measured profiles alone. If None, the values of `layer` that a completion marked as measured; without
        such marks, `X`.
    profiles
        What to classify: contexts, or ``"mean"`` or ``"max"`` of each gene over contexts (of the measured ones, against
        all). None stands for all contexts, the mean and the maximum. A context that is called ``"mean"`` itself is named
        ``"context mean"``.
    models
        Any of ``"logistic_regression"``, ``"k_neighbors"`` and ``"random_forest"``, as in scikit-learn, with genes
        standardised for the first two; or a mapping from names to classifiers with scikit-learn's interface.
    n_folds
        Number of folds, at least 2; fewer are used if there are fewer profiles with either label.
    random_state
        Seed of folds and models.

    Returns
    -------
    :class:`DownstreamAuc`. Experiments with fewer than 3 measured profiles of either label are left out. Measured profiles
    are those without gaps: a classifier needs a value of every gene. A warning counts those left out.

    Raises
    ------
    KeyError
        If there is no such layer or context.
    TypeError
        If `mdata` is not a MuData object, or `labels` is not a table.
    ValueError
        If a label is not binary, no treatment is in the table, the completed layer has gaps, the measured one holds
        predictions, a model does not exist, or no experiment is left.

    References
    ----------
    :cite:t:`Hodos2018`, sections 2.7 and 3.6.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=4, n_genes=30)
    >>> kx.tl.complete_tensor(mdata, method="mean_2d")
    >>> labels = mdata["line0"].obs[["cell_specific"]]
    >>> found = kx.metrics.downstream_auc(mdata, labels, models=["k_neighbors"], profiles=["line0", "line1"])
    >>> len(found.table)
    2
    """
    checks.integer(n_folds, "n_folds", low=2)
    checks.integer(random_state, "random_state", low=0)
    _require_table(labels, mdata)
    classifiers = _classifiers(models, random_state)
    completed = tensors.read(mdata, layer)
    if np.isnan(completed.values).any():
        msg = f"Layer {completed.layer!r} has {completed.missing_entries:,} gaps. Run kx.tl.complete_tensor first."
        raise ValueError(msg)
    measured = _measured(mdata, completed, measured_layer)
    tasks = _tasks(labels, completed.treatments)
    inputs = _inputs(measured, completed, profiles)
    experiments = list(_experiments(inputs, tasks))
    if not experiments:
        msg = f"No label has {_FEWEST} measured profiles of either value in any of {list(inputs)}.{_why_few(measured)}"
        raise ValueError(msg)
    if gaps := _why_few(measured):
        warn(gaps.strip())
    rows = []
    total = len(experiments) * len(classifiers)
    with tqdm(total=total, unit="experiment", delay=2, leave=False, disable=not shows_progress()) as bar:
        for profile, task, few, many, y in experiments:
            for model, classifier in classifiers.items():
                auc = _compare(classifier, few, many, y, n_folds, random_state)
                has = ~np.isnan(few).any(axis=1)
                rows.append((profile, task, model, *auc, auc[1] - auc[0], has.sum(), len(y), int(y[has].sum())))
                bar.update()
    names = ["profile", "task", "model", "auc_measured", "auc_completed", "difference"]
    table = pd.DataFrame(rows, columns=[*names, "n_measured", "n_completed", "n_positive"])
    table["signal"] = (table["auc_measured"] >= 0.5) | (table["auc_completed"] >= 0.5)
    kept = table[table["signal"]]
    p_value = float(ttest_rel(kept["auc_completed"], kept["auc_measured"]).pvalue) if len(kept) > 1 else float("nan")
    return DownstreamAuc(table, float(kept["difference"].mean()), p_value)


def _classifiers(models: Iterable[str] | Mapping[str, Any], random_state: int) -> dict[str, Any]:
    """Make unfitted classifiers, by name."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = dict(models) if isinstance(models, Mapping) else checks.texts(models, "models", "names")
    if not models:
        msg = "`models` is empty; name at least one."
        raise ValueError(msg)
    if isinstance(models, dict):
        return models
    known = {
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "k_neighbors": make_pipeline(StandardScaler(), KNeighborsClassifier()),
        "random_forest": RandomForestClassifier(random_state=random_state),
    }
    for model in models:
        checks.one_of(model, known, "models")
    return {model: known[model] for model in models}


def _require_table(labels: Any, mdata: Any) -> None:
    """Require labels with the names of treatments."""
    if isinstance(labels, pd.DataFrame | pd.Series):
        return
    msg = f"`labels` must be a pandas Series or DataFrame with treatments as index, found {checks.type_of(labels)}."
    modalities = mdata.mod.items() if isinstance(mdata, MuData) and isinstance(labels, str) else ()
    found = next((context for context, adata in modalities if labels in adata.obs), None)
    if found is not None:
        msg += f" That may be `mdata[{found!r}].obs[{labels!r}]`."
    elif isinstance(labels, list | tuple | np.ndarray):
        msg += " Give them names: `pd.Series(labels, index=treatments)`."
    raise TypeError(msg)


def _tasks(labels: pd.DataFrame | pd.Series, treatments: pd.Index) -> pd.DataFrame:
    """Return labels as 0 and 1, NaN where missing, in the order of the treatments."""
    table = labels.to_frame() if isinstance(labels, pd.Series) else labels
    if not table.index.is_unique:
        msg = f"Treatments occur more than once in `labels`: {checks.listed(table.index[table.index.duplicated()])}."
        raise ValueError(msg)
    if not len(table.index.intersection(treatments)):
        msg = (
            f"No treatment of `mdata` ({checks.listed(treatments)}) is in the index of `labels` "
            f"({checks.listed(table.index)})."
        )
        raise ValueError(msg)
    table = table.reindex(treatments)
    for name, column in table.items():
        found = column.dropna().unique()
        if not len(found) or not set(found) <= {0, 1}:
            msg = f"`labels[{name!r}]` must hold True and False, or 1 and 0, for treatments of `mdata`; found {list(found)[:5]}."
            raise ValueError(msg)
    return table.astype(object).where(table.notna(), np.nan).astype(float)


def _measured(mdata: MuData, completed: tensors.Tensor, layer: str | None) -> np.ndarray:
    """Return the measured values of the completed tensor, NaN elsewhere: of a layer, or as the completion marked them."""
    if layer is None and marks.is_completed(mdata, completed.layer):
        return tensors.without_predictions(mdata, completed).values
    found = tensors.read_measured(mdata, layer)
    return found.values[found.treatments.get_indexer(completed.treatments)]


def _why_few(measured: np.ndarray) -> str:
    """Return a sentence that counts the measured profiles with gaps and names the remedy; empty if there are none."""
    gaps = np.isnan(measured)
    partly = gaps.any(axis=2) & ~gaps.all(axis=2)
    if not partly.any():
        return ""
    n_measured, n_genes = int((~gaps.all(axis=2)).sum()), int((~gaps[~gaps.all(axis=2)]).all(axis=0).sum())
    return (
        f" {int(partly.sum()):,} of {n_measured:,} measured profiles have gaps in some genes and are left out: a classifier needs "
        f"complete profiles. {checks.number(n_genes, 'gene')} of {measured.shape[2]:,} have no gap in any; choose genes without "
        "gaps, or profiles with few."
    )


def _inputs(
    measured: np.ndarray, completed: tensors.Tensor, profiles: Iterable[str] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for every kind of profile, the measured ones (NaN where missing) and all, treatments × genes."""
    few = measured.copy()
    few[np.isnan(few).any(axis=2)] = np.nan
    some = ~np.isnan(few).all(axis=(1, 2))
    mean, largest = np.full((2, len(few), few.shape[2]), np.nan)
    mean[some], largest[some] = np.nanmean(few[some], axis=1), np.nanmax(few[some], axis=1)
    contexts = beside(completed.contexts, _OVER_CONTEXTS, "context")
    known = {context: (few[:, c], completed.values[:, c]) for c, context in enumerate(contexts)}
    over = (mean, completed.values.mean(axis=1)), (largest, completed.values.max(axis=1))
    known |= dict(zip(_OVER_CONTEXTS, over, strict=True))
    if profiles is None:
        return known
    chosen = checks.texts(profiles, "profiles", "contexts")
    for name in chosen:
        checks.known(name, known, "profile")
    return {name: known[name] for name in chosen}


def _experiments(
    inputs: dict[str, tuple[np.ndarray, np.ndarray]], tasks: pd.DataFrame
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield profile, task, measured and completed profiles, and labels, of all labelled treatments."""
    for profile, (few, many) in inputs.items():
        for task, column in tasks.items():
            labelled = column.notna().to_numpy()
            y = column.to_numpy()[labelled].astype(int)
            has = ~np.isnan(few[labelled]).any(axis=1)
            if min(y[has].sum(), (1 - y[has]).sum()) >= _FEWEST:
                yield profile, task, few[labelled], many[labelled], y


def _compare(
    classifier: Any, few: np.ndarray, many: np.ndarray, y: np.ndarray, n_folds: int, random_state: int
) -> tuple[float, float]:
    """Compute the areas under the curve on the measured profiles, after training on these and on all."""
    from sklearn.base import clone
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    has = np.flatnonzero(~np.isnan(few).any(axis=1))
    n_folds = min(n_folds, *np.bincount(y[has]))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=random_state).split(many[has], y[has])
    score = np.empty((2, len(has)))
    for training, test in folds:
        asked = has[test]
        others = np.setdiff1d(np.arange(len(y)), asked)
        for row, rows, x in ((0, has[training], few), (1, others, many)):
            fitted = clone(classifier).fit(x[rows], y[rows])
            score[row, test] = fitted.predict_proba(x[asked])[:, 1]
    return float(roc_auc_score(y[has], score[0])), float(roc_auc_score(y[has], score[1]))
