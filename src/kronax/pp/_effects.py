from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse

from kronax._data import doubts, keys, measured, objects, pseudobulk
from kronax._data.aside import free_name
from kronax._data.labels import named
from kronax._data.matrix import place
from kronax._data.written import without_none
from kronax._logging import logger, warn
from kronax.solvers import checks
from kronax.solvers.effects import agreement, contrasts

Method = Literal["characteristic_direction", "log_fold_change", "z_score"]
Rows = Literal["cells", "replicates"]
KEY = "effects"
_MOST_SAMPLES = 5_000  # of a context from which null sets are drawn
_MOST_DOSES = 50  # different values of a column that may be doses or times of all cells
_FEW_CONTROLS = 5  # control samples: with fewer, their noise is a good part of every effect


def effects(
    adata: AnnData,
    *,
    treatment_key: str,
    control: str | float | Sequence[str],
    context_key: str,
    replicate_key: str | None = None,
    layer: str | None = None,
    method: Method = "characteristic_direction",
    rows: Rows = "cells",
    log: bool = True,
    min_cells: int = 10,
    n_permutations: int = 10_000,
    random_state: int = 0,
) -> AnnData:
    r"""Compute the effect of every treatment in every context, relative to controls: what :func:`kronax.pp.tensor` takes.

    Cells that share treatment, context and replicate are summed (pseudobulk), in one pass over the matrix. Sums are scaled to
    equal totals, and :math:`\log_2(1 + x)` is taken. Every such sample is compared with its matched controls: the mean of the control
    samples of the same context and replicate or, where there are none, of the same context, with a warning. The effects of the
    replicates are averaged, each counting alike.

    All effects of a context contain the noise of its controls with the same sign. Even treatments that do nothing therefore have
    effects that resemble each other, the more so the fewer controls there are, and a completion predicts this resemblance. Contexts
    in which several treatments share fewer than 5 control samples are logged; see :doc:`/tensors`, "What effects share".

    Predictions, as in the result of :func:`kronax.get.profiles`, are left out, with a warning. There are also warnings of doses, times
    and tissues that differ between rows of one treatment and context, with code that keeps them apart.

    Parameters
    ----------
    adata
        Cells or replicates × genes: dense or sparse, in memory, backed, or a dask array. Not changed.
    treatment_key
        Column of ``obs`` with the treatments. Rows where it, or another of the columns, is missing are left out.
    control
        Value of ``obs[treatment_key]`` that marks the controls, such as ``"DMSO"``, or several.
    context_key
        Column of ``obs`` with the contexts: cell lines, tissues, cell types.
    replicate_key
        Column of ``obs`` with the replicates: donors, plates, wells. Without it, every treatment has one sample in a context.
    layer
        Layer to read; `adata.X` if None.
    method
        ``"characteristic_direction"``: unit length; genes count by how little they vary among the controls, together with
        the genes that vary with them (Clark et al. 2014; the shrinkage is ½). One direction per replicate, averaged and scaled again.
        ``"log_fold_change"``: difference of the logarithms, base 2.
        ``"z_score"``: this difference over the standard deviation of the control samples, whose variances are shrunk
        towards a common one (Smyth 2004).
        The first and the last need at least 2 control samples that can be compared.
    rows
        ``"cells"``: rows are summed. ``"replicates"``: every row is a sample of its own, as in bulk data; `replicate_key` then
        names the plate or batch on which its controls are.
    log
        Whether values are counts, of which sums and logarithms are taken. False: they are logarithms or other levels already, and are
        averaged as they are.
    min_cells
        Samples of fewer cells are left out, and logged. For ``rows="cells"``.
    n_permutations
        Sets of replicates that are drawn for a p-value; all that there are, if they are fewer.
    random_state
        Seed of the draws.

    Returns
    -------
    AnnData, one row for every treatment in every context, without the controls; contexts of controls alone are logged:

    ``X`` : float64, dense
        Effects × genes.
    ``obs[treatment_key]``, ``obs[context_key]`` : categorical
        Which treatment and context.
    ``obs["n_cells"]``, ``obs["n_replicates"]`` : int
        How many cells (rows) and samples the effect is made of.
    ``obs["effect_size"]`` : float64
        Root mean square of the log fold change over genes, whatever the `method`.
    ``obs["acd"]`` : float64
        Average cosine distance between the effects of the replicates, from 0, if they agree, to 2. NaN for a single one.
    ``obs["p_value"]`` : float64
        How often as many replicates of different treatments, from the same context and batches, agree as well. NaN where
        there is one replicate, or no such set.
    ``var``
        As in `adata`.
    ``uns["effects"]`` : dict
        The parameters.

    Raises
    ------
    KeyError
        If there is no such column or layer, or no such control.
    TypeError
        If the matrix is not numeric and real, or a column holds values such as lists.
    ValueError
        If a context has no controls, or too few for the method; if nothing is left; if values are not finite, are negative or
        logarithms where counts are needed, or are single predictions among measured ones; if columns are not unique, one of them is
        called like a column of the result, or different values are written alike; or a parameter is out of range.

    See Also
    --------
    kronax.pp.tensor : From these effects to a tensor.

    References
    ----------
    :cite:t:`Clark2014`; :cite:t:`Smyth2004`; :cite:t:`Hodos2018`, who keep effects with a p-value of at most 0.1.

    Examples
    --------
    >>> import kronax as kx
    >>> screen = kx.datasets.screen(n_treatments=12, random_state=0)
    >>> found = kx.pp.effects(
    ...     screen, treatment_key="perturbation", control="control", context_key="cell_line", replicate_key="plate"
    ... )
    >>> sure = found[found.obs["p_value"] <= 0.1].copy()
    >>> mdata = kx.pp.tensor(sure, obs_key="perturbation", context_key="cell_line")
    """
    objects.is_anndata(adata, backed=True)
    objects.unique_columns(adata.obs, "adata.obs")
    checks.one_of(method, get_args(Method), "method")
    checks.one_of(rows, get_args(Rows), "rows")
    checks.boolean(log, "log")
    checks.integer(min_cells, "min_cells", low=1)
    checks.integer(n_permutations, "n_permutations", low=1)
    checks.integer(random_state, "random_state", low=0)
    predicted = _predicted(adata, layer)
    samples = _samples(adata, treatment_key, control, context_key, replicate_key, rows, min_cells, predicted)
    _require_controls(samples, context_key, method, rows)
    _tell_of_combined(adata.obs, samples, treatment_key, context_key, replicate_key)
    levels = _levels(adata, layer, samples, log=log)
    found = [_of_context(samples, levels, context, method) for context in range(len(samples.contexts))]
    rng = np.random.default_rng(random_state)
    sure = [_sure(samples, part, n_permutations, rng) for part in found]
    params = {
        "treatment_key": treatment_key,
        "context_key": context_key,
        "control": np.array(samples.controls, dtype=str),
        "layer": layer,
        "replicate_key": replicate_key,
        "method": method,
        "rows": rows,
        "log": bool(log),
        "min_cells": int(min_cells),
        "n_permutations": int(n_permutations),
        "random_state": int(random_state),
    }
    return _assembled(adata, samples, found, sure, treatment_key, context_key, without_none(params))


@dataclass(frozen=True)
class _Samples:
    """What is compared.

    Attributes
    ----------
    rows
        Sample of every row of the object; -1 for none.
    treatment, context, batch
        Numbers of each sample's, (s,).
    n_rows
        Rows of each, (s,).
    control
        Marks of controls, (s,).
    treatments, contexts, controls
        Names of all treatments and contexts, and of those treatments that are controls.
    matched
        Whether controls are looked for in the batch of a sample first.
    """

    rows: np.ndarray
    treatment: np.ndarray
    context: np.ndarray
    batch: np.ndarray
    n_rows: np.ndarray
    control: np.ndarray
    treatments: pd.Index
    contexts: pd.Index
    controls: list[str]
    matched: bool


class _Found(NamedTuple):
    """Effects in a context: of every sample, with its number, and of every treatment, and the log fold change of the latter."""

    numbers: np.ndarray
    each: np.ndarray
    treatments: np.ndarray
    members: list[np.ndarray]
    mean: np.ndarray
    size: np.ndarray


def _predicted(adata: AnnData, layer: str | None) -> np.ndarray:
    """Mark the rows that were not measured, with a warning; the others must be measured in every gene."""
    rows, entries = measured.predictions(adata, layer)
    if entries is not None:
        rows |= entries.all(axis=1)
        if n := int(entries[~rows].sum()):
            msg = (
                f"{place(layer)} has {checks.number(n, 'predicted value')} in rows that were measured otherwise "
                f"(`adata.layers[{measured.mark(layer)!r}]`: False). Leave out the rows or genes that hold them; or, to use them as if "
                "they had been measured, delete that layer."
            )
            raise ValueError(msg)
    if rows.any():
        measured.warn_of_left_out(adata, layer, rows, entries, "predictions or missing")
    return rows


def _samples(
    adata: AnnData,
    treatment_key: str,
    control: str | Sequence[str],
    context_key: str,
    replicate_key: str | None,
    rows: str,
    min_cells: int,
    predicted: np.ndarray,
) -> _Samples:
    """Put rows together to samples."""
    for argument, key in (("treatment_key", treatment_key), ("context_key", context_key)):
        checks.text(key, argument, "a column of `adata.obs`; join several columns to one first")
    if replicate_key is not None:
        checks.text(replicate_key, "replicate_key", "a column of `adata.obs`; join several columns to one first")
    names = {"treatment_key": treatment_key, "context_key": context_key, "replicate_key": replicate_key}
    given = {argument: key for argument, key in names.items() if key is not None}
    if len(set(given.values())) < len(given):
        msg = f"{', '.join(f'`{argument}`' for argument in given)} must name different columns, found {list(given.values())}."
        raise ValueError(msg)
    for argument in ("treatment_key", "context_key"):
        _require_free(names[argument], argument, adata.obs)
    labels = {argument: _labels(adata, key) for argument, key in given.items()}
    treatment, context = labels["treatment_key"], labels["context_key"]
    controls = [control] if isinstance(control, str | Real) else checks.items(control, "control", "values")
    controls = [_in_names(str(name), treatment.categories) for name in controls]
    if not controls:
        msg = "`control` is empty; name the value of `treatment_key` that marks the controls."
        raise ValueError(msg)
    for name in controls:
        checks.known(name, treatment.categories, "treatment", where=f"`adata.obs[{treatment_key!r}]`")
    doubts.of_names(treatment.categories, "treatments")
    doubts.of_names(context.categories, "contexts")
    table = pd.DataFrame({argument: found.codes for argument, found in labels.items()})
    known = (table >= 0).all(axis=1).to_numpy()
    if not known.all():
        what = "a treatment, a context or a replicate" if replicate_key else "a treatment or a context"
        logger.info("effects: %d of %d rows without %s are left out", (~known).sum(), len(known), what)
    known = known & ~predicted
    if rows == "replicates":
        number, first = np.where(known, np.cumsum(known) - 1, -1), np.flatnonzero(known)
    else:
        number, first = _numbered(table, known)
    n_rows = np.bincount(number[known], minlength=len(first))
    enough = n_rows >= (min_cells if rows == "cells" else 1)
    if not enough.all():
        few = [" in ".join(str(labels[argument][at]) for argument in labels) for at in first[~enough]]
        logger.info(
            "effects: %d samples of fewer than %d cells are left out (%s)", len(few), min_cells, checks.listed(few)
        )
        number = np.where(known, np.where(enough, np.cumsum(enough) - 1, -1)[number], -1)
        first, n_rows = first[enough], n_rows[enough]
    of_sample = table.to_numpy()[first]
    return _Samples(
        rows=number,
        treatment=of_sample[:, 0],
        context=of_sample[:, 1],
        batch=of_sample[:, 2] if replicate_key else np.zeros(len(first), int),
        n_rows=n_rows,
        control=np.isin(treatment.categories[of_sample[:, 0]], controls),
        treatments=treatment.categories,
        contexts=context.categories,
        controls=controls,
        matched=replicate_key is not None,
    )


def _in_names(name: str, names: Collection[str]) -> str:
    """Return a name as it stands among others: a whole number may have been given as a float."""
    return next((other for other in (name, name.removesuffix(".0"), f"{name}.0") if other in names), name)


def _require_free(key: str, argument: str, table: pd.DataFrame) -> None:
    """Require a name under which nothing else is written."""
    if key in keys.OF_EFFECTS:
        msg = (
            f"`{argument}` names the column {key!r}, and effects have another one of that name. Rename yours, "
            f"`adata.obs = adata.obs.rename(columns={{{key!r}: {free_name(key, table)!r}}})`."
        )
        raise ValueError(msg)


def _labels(adata: AnnData, key: str) -> pd.Categorical:
    """Return a column of obs as categories, sorted: draws are the same whatever their order."""
    objects.key_in(key, adata.obs, "adata.obs")
    found = named(adata.obs[key])
    return found.reorder_categories(sorted(found.categories))


def _numbered(table: pd.DataFrame, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of codes; return the number of every row, -1 for none, and a row of each."""
    code = np.zeros(len(table), np.int64)
    for column in table:
        code = code * (int(table[column].max()) + 1) + table[column].to_numpy()
    _, first, number = np.unique(code[known], return_index=True, return_inverse=True)
    numbers = np.full(len(table), -1)
    numbers[known] = number
    return numbers, np.flatnonzero(known)[first]


def _require_controls(samples: _Samples, context_key: str, method: str, rows: str) -> None:
    """Require controls in every context, and as many as the method compares; and something to compare with them."""
    if samples.control.all():
        msg = (
            "No treatment is left beside the controls. `min_cells` leaves out samples of few cells; if every row is a replicate, pass "
            "`rows='replicates'`."
        )
        raise ValueError(msg)
    treated = np.unique(samples.context[~samples.control])
    n_controls = np.bincount(samples.context[samples.control], minlength=len(samples.contexts))
    if without := [samples.contexts[at] for at in treated if not n_controls[at]]:
        msg = (
            f"No control ({checks.listed(samples.controls)}) in {checks.listed(without)} of `adata.obs[{context_key!r}]`. Leave these "
            f"contexts out, `adata = adata[~adata.obs[{context_key!r}].isin({without!r})]`, or name their controls in `control`."
        )
        raise ValueError(msg)
    if method != "log_fold_change" and (few := [samples.contexts[at] for at in treated if n_controls[at] < 2]):
        remedy = "" if samples.matched or rows == "replicates" else "name the replicates with `replicate_key`, or "
        msg = (
            f"method={method!r} compares control samples with each other, and there is only one in {checks.listed(few)}. To go on, {remedy}"
            "use method='log_fold_change'."
        )
        raise ValueError(msg)


def _tell_of_combined(
    table: pd.DataFrame, samples: _Samples, treatment_key: str, context_key: str, replicate_key: str | None
) -> None:
    """Warn of doses, times and tissues that vary between the rows of an effect."""
    of, in_sample = samples.rows, samples.rows >= 0
    control, treated = in_sample & samples.control[of], in_sample & ~samples.control[of]
    number = samples.context[of].astype(np.int64) * len(samples.treatments) + samples.treatment[of]

    def apart(column: str, of_context: bool) -> str:
        has_controls = table[column][treated].isin(table[column][control].unique()).all()
        if of_context or has_controls:
            return _joined(context_key, column, "context", "names.isna()")
        kept = (
            f"names.isna() | names.astype(str).isin({list(dict.fromkeys(table[treatment_key][control].astype(str)))!r})"
        )
        return _joined(treatment_key, column, "treatment", kept)

    others = table.drop(columns=[treatment_key, context_key, replicate_key], errors="ignore")
    others = others[[column for column in others if not _of_each_cell(others[column])]]
    doubts.of_combined(others, np.where(treated, number, np.nan), "combined to one effect", apart)


def _of_each_cell(column: pd.Series) -> bool:
    """Return whether a column has a value of its own for most cells, as a score has."""
    return pd.api.types.is_float_dtype(column) and column.nunique() > max(_MOST_DOSES, len(column) / 2)


def _joined(key: str, column: str, what: str, kept: str) -> str:
    """Write how to join a column to that of the treatments or contexts, of which some names are kept."""
    new = f"{key}_{column}"
    return (
        f"`names = adata.obs[{key!r}].astype(object); adata.obs[{new!r}] = names.where({kept}, names.astype(str) + '_' + "
        f"adata.obs[{column!r}].astype(str))`, then {what}_key={new!r} (on the command line --{what} {new!r})"
    )


def _levels(adata: AnnData, layer: str | None, samples: _Samples, *, log: bool) -> np.ndarray:
    """Return what is compared, samples × genes: logarithms of sums scaled to the median total, or means."""
    sums = pseudobulk.sums(adata, layer, samples.rows, len(samples.n_rows), counts=log)
    if not log:
        return sums / samples.n_rows[:, None]
    totals = sums.sum(axis=1)
    if (totals == 0).any():
        msg = (
            f"{checks.number(int((totals == 0).sum()), 'sample')} of cells without counts. Leave these cells out first."
        )
        raise ValueError(msg)
    return np.log2(1.0 + sums * (np.median(totals) / totals)[:, None])


def _of_context(samples: _Samples, levels: np.ndarray, context: int, method: str) -> _Found:
    """Compare the samples of a context with their controls."""
    here = samples.context == context
    controls, treated = np.flatnonzero(here & samples.control), np.flatnonzero(here & ~samples.control)
    differences = levels[treated] - _references(samples, levels, controls, samples.batch[treated])
    each = differences
    if method != "log_fold_change" and len(treated):
        deviations, dof = _deviations(samples, levels, controls)
        if not np.any(deviations):
            msg = f"The control samples of {samples.contexts[context]} do not differ. Use method='log_fold_change'."
            raise ValueError(msg)
        each = (
            contrasts.characteristic_directions(differences, deviations, dof)
            if method == "characteristic_direction"
            else differences / np.sqrt(contrasts.shrunken_variances(deviations, dof))
        )
    found, of = np.unique(samples.treatment[treated], return_inverse=True)
    members = [np.flatnonzero(of == number) for number in range(len(found))]
    mean = _means(each, of, len(found))
    return _Found(
        numbers=treated,
        each=each,
        treatments=found,
        members=members,
        mean=contrasts.unit(mean) if method == "characteristic_direction" else mean,
        size=np.sqrt(np.square(_means(differences, of, len(found))).mean(axis=1)),
    )


def _means(values: np.ndarray, of: np.ndarray, n: int) -> np.ndarray:
    member = sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(n, len(of)))
    return member @ values / np.bincount(of, minlength=n)[:, None]


def _references(samples: _Samples, levels: np.ndarray, controls: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Return the mean of the controls of each batch or, where it has none, of all batches."""
    of_batch = {batch: levels[controls[samples.batch[controls] == batch]] for batch in np.unique(batches)}
    whole = levels[controls].mean(axis=0) if len(controls) else None
    means = {batch: found.mean(axis=0) if len(found) else whole for batch, found in of_batch.items()}
    return np.array([means[batch] for batch in batches]).reshape(len(batches), levels.shape[1])


def _deviations(samples: _Samples, levels: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the deviations of controls from their batch's mean; from that of all if most have no other control in their batch."""
    _, of = np.unique(samples.batch[controls], return_inverse=True)
    n, n_batches = len(controls), int(of.max()) + 1
    if 2 * (n - n_batches) < n - 1:
        of, n_batches = np.zeros(n, int), 1
    return levels[controls] - _means(levels[controls], of, n_batches)[of], n - n_batches


def _sure(samples: _Samples, found: _Found, n_draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """Compare how replicates agree with sets of samples of different treatments."""
    acd, p = np.full((2, len(found.treatments)), np.nan)
    directions, treatment, batch = (
        contrasts.unit(found.each),
        samples.treatment[found.numbers],
        samples.batch[found.numbers],
    )
    pool = np.arange(len(directions))
    if len(pool) > _MOST_SAMPLES:
        pool = np.sort(rng.choice(pool, _MOST_SAMPLES, replace=False))
    cosines = directions[pool] @ directions[pool].T
    by_batches: dict[tuple[int, ...], list[int]] = {}
    for number, members in enumerate(found.members):
        if len(members) > 1:
            by_batches.setdefault(tuple(np.sort(batch[members])), []).append(number)
    for batches, numbers in by_batches.items():
        members = np.array([found.members[number] for number in numbers])
        own = directions[members]
        acd[numbers] = agreement.mean_cosine_distances(np.matmul(own, own.transpose(0, 2, 1)))
        sets = agreement.null_sets([np.flatnonzero(batch[pool] == b) for b in batches], treatment[pool], n_draws, rng)
        if len(sets):
            null = agreement.mean_cosine_distances(cosines[sets[:, :, None], sets[:, None, :]])
            p[numbers] = agreement.p_values(acd[numbers], null)
    return pd.DataFrame({"acd": acd, "p_value": p})


def _assembled(
    adata: AnnData,
    samples: _Samples,
    found: list[_Found],
    sure: list[pd.DataFrame],
    treatment_key: str,
    context_key: str,
    params: dict[str, Any],
) -> AnnData:
    """Put the contexts together."""
    context = np.repeat(np.arange(len(found)), [len(part.treatments) for part in found])
    treatment = np.concatenate([part.treatments for part in found])
    names = [f"{samples.treatments[t]}|{samples.contexts[c]}" for t, c in zip(treatment, context, strict=True)]
    obs = pd.DataFrame(
        {
            treatment_key: pd.Categorical(samples.treatments[treatment]),
            context_key: pd.Categorical(samples.contexts[context]),
            "n_cells": [int(samples.n_rows[part.numbers[m]].sum()) for part in found for m in part.members],
            "n_replicates": [len(m) for part in found for m in part.members],
            "effect_size": np.concatenate([part.size for part in found]),
        },
        index=make_index_unique(pd.Index(names)),  # "a|b" in "c" and "a" in "b|c"
    )
    obs = obs.join(pd.concat(sure, ignore_index=True).set_index(obs.index))
    _tell(samples, obs)
    return AnnData(np.concatenate([part.mean for part in found]), obs=obs, var=adata.var.copy(), uns={KEY: params})


def _tell(samples: _Samples, obs: pd.DataFrame) -> None:
    """Log what was found, and warn of samples without controls in their batch and of treatments without replicates."""
    treated = ~samples.control
    logger.info(
        "effects: %d treatments, %d contexts, %d effects of %d samples and %d control samples",
        len(np.unique(samples.treatment[treated])),
        len(np.unique(samples.context[treated])),
        len(obs),
        treated.sum(),
        samples.control.sum(),
    )
    if alone := [name for at, name in enumerate(samples.contexts) if not (treated & (samples.context == at)).any()]:
        logger.info("effects: none in %s, where nothing is left beside controls", checks.listed(alone))
    _tell_of_few_controls(samples)
    pairs = set(zip(samples.context[samples.control], samples.batch[samples.control], strict=True))
    alone = [pair not in pairs for pair in zip(samples.context[treated], samples.batch[treated], strict=True)]
    if samples.matched and any(alone):
        warn(
            f"{sum(alone):,} of {len(alone):,} samples have no control of the same replicate; they are compared with all controls of "
            "their context."
        )
    single = int((obs["n_replicates"] == 1).sum())
    unknown = int((obs["p_value"].isna() & (obs["n_replicates"] > 1)).sum())
    if unknown:
        warn(
            f"{unknown:,} of {len(obs):,} effects have replicates, but too few other treatments share their batches to tell how well "
            "replicates of different treatments agree: their `p_value` is NaN."
        )
    if samples.matched and 0 < single:
        warn(
            f"{single:,} of {len(obs):,} effects have one replicate; how sure they are is not known (`p_value` is NaN)."
        )


def _tell_of_few_controls(samples: _Samples) -> None:
    """Name the contexts in which several treatments are compared with the same few control samples."""
    n_controls = np.bincount(samples.context[samples.control], minlength=len(samples.contexts))
    n_treatments = [
        len(np.unique(samples.treatment[(samples.context == at) & ~samples.control])) for at in range(len(n_controls))
    ]
    if few := [at for at, n in enumerate(n_treatments) if n > 1 and n_controls[at] < _FEW_CONTROLS]:
        logger.info(
            "effects: all treatments share the same few controls in %s, at most %d samples each; their noise makes effects alike, also of treatments "
            "that do nothing",
            checks.listed([samples.contexts[at] for at in few]),
            n_controls[few].max(),
        )
