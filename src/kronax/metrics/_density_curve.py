from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData
from tqdm.auto import tqdm

from kronax._data import doubts
from kronax._data import tensor as tensors
from kronax._logging import shows_progress
from kronax.metrics._compared_methods import DEFAULT, Chosen, ComparedMethod, compared_methods
from kronax.solvers import checks
from kronax.solvers.tensor.folds import hide, pooled_correlation
from kronax.solvers.tensor.folds import unit_norm as to_unit_norm

_DENSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_HELD_OUT = 0.1


@dataclass(frozen=True)
class DensityCurve:
    """Accuracy of completion as a function of how much was measured.

    Attributes
    ----------
    table
        One row for every method, density and repeat: ``method``, ``density`` (share of the tensor's profiles in
        training), ``repeat``, ``pct`` (Pearson correlation over all held-out entries) and ``unpredicted`` (share of the
        held-out profiles that the method filled with a fallback, such as a mean, or could not predict).
    parameters
        Arguments, with the densities and the share held out that were chosen.

    References
    ----------
    :cite:t:`Hodos2018`, section 3.3.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=5, n_genes=50, missing=0.1)
    >>> curve = kx.metrics.density_curve(mdata, methods="mean_1d", densities=[0.3, 0.6], n_repeats=2)
    >>> len(curve.table)
    4
    >>> curve.summary.loc["mean_1d"].shape
    (2, 2)
    """

    table: pd.DataFrame
    parameters: dict[str, Any]

    @property
    def summary(self) -> pd.DataFrame:
        """Mean and standard deviation of ``pct`` over repeats: (method, density) × (``mean``, ``std``)."""
        grouped = self.table.groupby(["method", "density"], sort=False)["pct"]
        return grouped.agg(["mean", "std"])


def density_curve(
    mdata: MuData,
    *,
    methods: str | Iterable[str] | Mapping[str, Chosen] = DEFAULT,
    densities: Iterable[float] | None = None,
    held_out: float | None = None,
    n_repeats: int = 5,
    layer: str | None = None,
    unit_norm: bool = False,
    random_state: int = 0,
) -> DensityCurve:
    """Measure how accuracy depends on the share of profiles that were measured.

    In every repeat, some measured profiles are drawn at random and held out; from the others, nested random subsets are
    drawn to reach each of the `densities`. All methods and densities predict the same held-out profiles, so that
    differences between them are not due to what is predicted.

    Parameters
    ----------
    mdata
        One modality per context, each treatments × genes. Not changed.
    methods
        As in :func:`kronax.metrics.cross_validate`.
    densities
        Numbers of training profiles, as shares of treatments × contexts. If None, those of 0.1, 0.2, …, 0.6 that are
        possible; if that is at most one, four equal steps up to all profiles that are not held out.
    held_out
        Number of held-out profiles, as a share of treatments × contexts. If None, 0.1, or a quarter of the measured
        share if that is less.
    n_repeats
        Number of random draws; all methods see the same ones.
    layer
        Layer of every modality to read; `X` if None.
    unit_norm
        As in :func:`kronax.metrics.cross_validate`.
    random_state
        Seed of the draws.

    Returns
    -------
    :class:`DensityCurve`: a table of all accuracies, and their means and standard deviations.

    Raises
    ------
    KeyError
        If there is no such layer.
    TypeError
        If `mdata` is not a MuData object, or `methods` holds anything but names and options.
    ValueError
        If fewer profiles were measured than the highest density and `held_out` need, or an argument is out of range.

    References
    ----------
    :cite:t:`Hodos2018`, section 3.3.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=5, n_genes=50, missing=0.1)
    >>> curve = kx.metrics.density_curve(mdata, methods=["mean_2d"], densities=[0.2, 0.6], n_repeats=3)
    >>> pct = curve.summary["mean"]
    >>> bool(pct["mean_2d", 0.6] > pct["mean_2d", 0.2])
    True
    """
    chosen = compared_methods(methods)
    if densities is not None:
        densities = _checked(densities)
    if held_out is not None:
        checks.positive(held_out, "held_out", high=1.0)
    checks.integer(n_repeats, "n_repeats", low=1)
    checks.integer(random_state, "random_state", low=0)
    checks.boolean(unit_norm, "unit_norm")
    tensor = tensors.read_measured(mdata, layer)
    chosen = [method.informed(mdata, tensor) for method in chosen]
    doubts.of_input(tensor)
    measured = tensor.measured
    if held_out is None:
        held_out = min(_HELD_OUT, float(measured.mean()) / 4)
    n_test = max(round(held_out * measured.size), 1)
    if n_test >= measured.sum():
        msg = (
            f"With {held_out:.1%} of the fibers held out, none of those that were measured, {measured.mean():.1%}, is left for "
            "training. Choose a smaller `held_out`."
        )
        raise ValueError(msg)
    most = (measured.sum() - n_test) / measured.size
    if densities is None:
        densities = _within(most, measured.size)
    sizes = [max(round(density * measured.size), 1) for density in densities]
    if sizes[-1] + n_test > measured.sum():
        msg = (
            f"{measured.mean():.1%} of the fibers were measured; with {held_out:.1%} held out, densities up to "
            f"{most:.3g} can be had, found {densities[-1]:g}."
        )
        raise ValueError(msg)
    values = to_unit_norm(tensor.values) if unit_norm else tensor.values
    draws = list(_draws(measured, n_test, sizes, n_repeats, random_state))
    rows = []
    total = len(chosen) * len(draws)
    with tqdm(total=total, unit="fit", delay=2, leave=False, disable=not shows_progress()) as bar:
        for method in chosen:
            bar.set_description(method.label, refresh=False)
            for repeat, size, training, test in draws:
                pct, unpredicted = _score(method, values, training, test, unit_norm)
                density = densities[sizes.index(size)]
                rows.append((method.label, density, repeat, pct, unpredicted))
                bar.update()
    return DensityCurve(
        table=pd.DataFrame(rows, columns=["method", "density", "repeat", "pct", "unpredicted"]),
        parameters={
            "densities": densities,
            "held_out": held_out,
            "n_repeats": n_repeats,
            "layer": layer,
            "unit_norm": unit_norm,
            "random_state": random_state,
        },
    )


def _checked(densities: Iterable[float]) -> list[float]:
    """Sort densities; require positive ones up to 1."""
    found = sorted(set(checks.numbers(densities, "densities")))
    if not found:
        msg = "`densities` is empty; name at least one."
        raise ValueError(msg)
    for density in found:
        checks.positive(density, "densities", high=1.0)
    return found


def _within(most: float, n_fibers: int) -> list[float]:
    """Choose densities up to the largest possible one."""
    usual = [density for density in _DENSITIES if round(density * n_fibers) <= round(most * n_fibers)]
    if len(usual) > 1:
        return usual
    sizes = np.unique(np.rint(np.linspace(0.25, 1.0, 4) * most * n_fibers).clip(1))
    return (sizes / n_fibers).tolist()


def _draws(
    measured: np.ndarray, n_test: int, sizes: list[int], n_repeats: int, random_state: int
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield repeat, number of training fibers, and the masks ``(D, C)`` of training and of held-out fibers."""
    rng = np.random.default_rng(random_state)
    fibers = np.flatnonzero(measured)
    for repeat in range(n_repeats):
        order = rng.permutation(fibers)
        for size in sizes:
            test, training = np.zeros((2, measured.size), bool)
            test[order[:n_test]] = True
            training[order[n_test : n_test + size]] = True
            yield repeat, size, training.reshape(measured.shape), test.reshape(measured.shape)


def _score(
    method: ComparedMethod, values: np.ndarray, training: np.ndarray, test: np.ndarray, unit_norm: bool
) -> tuple[float, float]:
    """Compute the correlation over held-out entries, and the share of fibers that the method cannot predict."""
    completion = method.complete(hide(values, ~training))
    predicted = completion.values[test]
    unable = method.unable(~training.any(axis=1)[:, None] | ~training.any(axis=0))[test]
    predicted = np.where(unable[:, None], np.nan, predicted)
    nothing = unable | (completion.fallback[test] > 0)
    predicted = to_unit_norm(predicted) if unit_norm else predicted
    return pooled_correlation(values[test], predicted), float(nothing.mean())
