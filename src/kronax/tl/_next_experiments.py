from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData

from kronax._data import align, keys, objects, side_information
from kronax._data import tensor as tensors
from kronax._data.aside import set_aside, tell
from kronax._data.measured import description
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear, params_of
from kronax._logging import logger
from kronax.solvers import checks
from kronax.solvers.device import computing
from kronax.solvers.tensor.wiener.experiments import bytes_needed
from kronax.solvers.tensor.wiener.experiments import next_experiments as solve
from kronax.solvers.tensor.wiener.options import KroneckerOptions

_NAMES = ("treatment_similarity", "context_similarity", "context_coordinates", "weights", "standard_errors")


def next_experiments(
    mdata: MuData,
    *,
    n: int = 10,
    treatments: Iterable[str] | None = None,
    contexts: Iterable[str] | None = None,
    copy: bool = False,
) -> MuData | None:
    """Choose the profiles to measure next: those that tell most about all others that are missing.

    Under the model of ``method="kronecker"``, how uncertain a prediction is depends on which profiles were measured and not on
    their values. So does what one more measurement would change. The first profile chosen is the one whose measurement lowers the
    variance of all other missing profiles most; the second the one that does so once the first has been measured, and so on.
    A profile that is itself uncertain is therefore not chosen unless others resemble it.

    Treatments and contexts that were never measured take part, the former by the similarity that the completion was given. The
    kernels count as known, and the genes' spectrum is replaced by its mean.

    Parameters
    ----------
    mdata
        Completed by :func:`kronax.tl.complete_tensor` with ``method="kronecker"``.
    n
        Number of profiles to choose. They are fewer if fewer are missing, or if those that are left tell nothing of others; the log
        says so.
    treatments, contexts
        Choose only among the profiles of these; of all if None.
    copy
        Return a copy and leave `mdata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the MuData object with the results:

    ``uns["next_experiments"]["table"]`` : :class:`pandas.DataFrame`
        One row per profile, the most useful first: ``treatment``, ``context``, ``confidence`` of the present prediction, and
        ``gain``: by how much its measurement lowers the variance of all other missing profiles, as a share of the variance of
        all missing ones at the beginning. The gain of several is their sum.
    ``obs["next_experiment"]`` : float64
        In every modality, the place in the table, from 1 on; NaN for other profiles.

    The next completion removes both. What a user has under these names is kept under another one, with a warning.

    Raises
    ------
    KeyError
        If the object was not completed, or lacks a layer, side information that the completion was given, or a treatment or
        context that is named.
    TypeError
        If `mdata` is not a MuData object of numeric AnnData objects in memory.
    ValueError
        If the completion is not by ``method="kronecker"`` or lacks treatments that were added later, nothing is missing, no measurement tells of another missing profile, or
        `mdata` is backed or a view.

    References
    ----------
    :cite:t:`Seo2000`, for the criterion; the algorithm is described in :doc:`/unmeasured`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata)
    >>> kx.tl.next_experiments(mdata, n=3)
    >>> mdata.uns["next_experiments"]["table"].shape
    (3, 4)
    """
    checks.integer(n, "n", low=1)
    tensors.check(mdata)
    tensors.require_actual(mdata, copy=copy)
    found = _completion(mdata)
    params = found["params"]
    tensor = tensors.read(mdata, params.get("layer"))
    completed = tensors.read(mdata, params["key_added"])
    _require_whole(completed)
    options = _options(params["options"])
    side = side_information.read(mdata, tensor, options.sought)
    candidates = _candidates(tensor, treatments, contexts)
    n_bytes = 24 * int(np.prod(tensor.values.shape)) + 64 * len(tensor.treatments) ** 2
    objects.memory(n_bytes + bytes_needed(tensor.measured.size), "Choose fewer genes.")
    more = {} if side is None else {"side": side}
    with computing():
        result = solve(tensor.values, completed.values, candidates, n, dict(found["chosen"]), options, **more)
    n_candidates = int(candidates.sum())
    if not len(result.gain):
        msg = f"{_could_be_chosen(n_candidates)}, and none tells of another that is missing: no measurement is better than others."
        raise ValueError(msg)

    mdata = align.copied(mdata) if copy else mdata
    with whole_or_nothing(mdata):
        moved = (
            {} if params_of(mdata, keys.NEXT_EXPERIMENTS) else set_aside(list(mdata.mod.values()), [("obs", keys.NEXT)])
        )
        tell(moved | clear(mdata, keys.NEXT_EXPERIMENTS))
        place = np.full(candidates.shape, np.nan)
        place[result.treatment, result.context] = np.arange(1.0, len(result.gain) + 1)
        for c, context in enumerate(tensor.contexts):
            mdata.mod[context].obs[keys.NEXT] = place[:, c]
        mdata.uns[keys.NEXT_EXPERIMENTS] = {
            "table": _table(mdata, tensor, result),
            "params": {"n": n, **_named(treatments=treatments, contexts=contexts)},
            "version": version("kronax"),
        }
    logger.info(
        "next_experiments: %s, which lower the variance of others by %.0f%%",
        _chosen(len(result.gain), n, n_candidates),
        100 * result.gain.sum(),
    )
    return mdata if copy else None


def _completion(mdata: MuData) -> Any:
    """Return what the latest completion wrote, which must be by kronecker."""
    objects.key_in(keys.COMPLETION, mdata.uns, "mdata.uns", "Run kx.tl.complete_tensor first.")
    found = description(mdata)
    if found.get("method") != "kronecker" or "noise" not in found.get("chosen", {}):
        what = f"is by method {found['method']!r}" if found.get("method") else "is not kronax's"
        if found.get("method") == "kronecker":
            what = "had nothing to predict"
        msg = (
            f"`mdata.uns[{keys.COMPLETION!r}]` {what}. What to measure next follows from the kernels of "
            "kx.tl.complete_tensor(mdata, method='kronecker') where something is missing; run that first."
        )
        raise ValueError(msg)
    return found


def _require_whole(completed: tensors.Tensor) -> None:
    """Require a completion of every treatment, context and gene that there is now."""
    gaps = np.isnan(completed.values).any(axis=2)
    if gaps.any():
        names = completed.treatments[gaps.any(axis=1)]
        msg = (
            f"The completion in `layers[{completed.layer!r}]` lacks {checks.number(int(gaps.sum()), 'profile')}, of treatments such as "
            f"{checks.listed(list(names), 3)}, which were added later. Run kx.tl.complete_tensor again."
        )
        raise ValueError(msg)


def _options(stored: dict[str, Any]) -> KroneckerOptions:
    """Return the options of a completion, as far as they matter here; files hold arrays in place of tuples."""
    named = {name: stored[name] for name in _NAMES if name in stored}
    if not isinstance(given := named.get("treatment_similarity"), str | None):
        named["treatment_similarity"] = tuple(map(str, given))
    if "context_coordinates" in named:
        named["context_coordinates"] = {key: str(value) for key, value in named["context_coordinates"].items()}
    return KroneckerOptions(gene_power=float(stored["gene_power"]), **named)


def _candidates(tensor: tensors.Tensor, treatments: Iterable[str] | None, contexts: Iterable[str] | None) -> np.ndarray:
    """Mark the fibers to choose from."""
    marked = ~tensor.measured
    for axis, (argument, names, wanted) in enumerate(
        (("treatments", tensor.treatments, treatments), ("contexts", pd.Index(tensor.contexts), contexts))
    ):
        if wanted is None:
            continue
        wanted = checks.texts(wanted, argument, f"names of {argument}")
        if not wanted:
            msg = f"`{argument}` is empty; name those to choose from, or leave it out for all."
            raise ValueError(msg)
        for name in wanted:
            checks.known(name, names, argument.removesuffix("s"))
        chosen = names.isin(wanted)
        marked = marked & (chosen[:, None] if axis == 0 else chosen)
    if not marked.any():
        msg = "Every profile that could be chosen was measured."
        raise ValueError(msg)
    return marked


def _chosen(n_chosen: int, n: int, n_candidates: int) -> str:
    """Say how many profiles were chosen and, if they are fewer than asked for, why."""
    if n_chosen == n:
        return f"{n} profiles"
    rest = n_candidates - n_chosen
    more = f"; the other {rest} would tell nothing of the rest" if rest else ""
    return f"{n_chosen} profiles of the {n} asked for ({_could_be_chosen(n_candidates)}{more})"


def _could_be_chosen(n: int) -> str:
    return f"{checks.number(n, 'profile')} could be chosen"


def _named(**arguments: Any) -> dict[str, Any]:
    return {name: np.asarray(list(value), str) for name, value in arguments.items() if value is not None}


def _table(mdata: MuData, tensor: tensors.Tensor, result: Any) -> pd.DataFrame:
    contexts = [tensor.contexts[c] for c in result.context]
    names = [str(tensor.treatments[d]) for d in result.treatment]
    confidence = [mdata.mod[c].obs[keys.CONFIDENCE].get(t, np.nan) for t, c in zip(names, contexts, strict=True)]
    table = {"treatment": names, "context": contexts, "confidence": np.asarray(confidence, float), "gain": result.gain}
    return pd.DataFrame(table, index=[str(place) for place in range(1, len(names) + 1)])
