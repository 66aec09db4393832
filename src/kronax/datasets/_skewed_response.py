import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import keys
from kronax._data import tensor as tensors
from kronax.solvers import checks

_RARER = 0.6  # how much less often a context is measured than the one before
_EXTRA = 0.3  # probability that a treatment is measured in one context more, and so on


def skewed_response(
    *,
    n_treatments: int = 500,
    n_contexts: int = 8,
    n_genes: int = 200,
    rank: int = 6,
    attention: float = 0.0,
    noise: float = 0.2,
    measured: np.ndarray | pd.DataFrame | None = None,
    random_state: int = 0,
) -> MuData:
    r"""Simulate responses that are mostly near zero, with a few large ones, in tissues measured very unequally.

    The truth is :math:`T_{dcg} = \sum_k i_{dk} r_{ck} u_{gk} a_{dcgk}`. Treatment factors :math:`i` and gene factors
    :math:`u` have Laplace distributions and tissue factors :math:`r` are positive, so that products are heavy-tailed:
    92% of the values are within 1.5 standard deviations of 0, while a few are 20 away. Without attention, :math:`a =
    1`. With attention, :math:`a` is the number of components times a softmax over them, whose arguments are random
    linear functions of :math:`i`, :math:`r` and :math:`u`: different components count in every entry.

    Parameters
    ----------
    n_treatments, n_contexts, n_genes
        Shape of the tensor.
    rank
        Number of components.
    attention
        Standard deviation of each of the three linear functions; 0 for no attention.
    noise
        Standard deviation of the noise in measured values; the root mean square of the truth is 1.
    measured
        Which profiles are measured: treatments × contexts, bool. Row and column names of a table become those of
        treatments and contexts. If None, as in toxicogenomics databases: most treatments are measured in one tissue,
        and each tissue less often than the one before, the last hardly at all. :func:`kronax.tl.complete_tensor` then warns, as it
        should, that few treatments link the last tissue with the others.
    random_state
        Seed.

    Returns
    -------
    MuData with one modality per context (``axis=-1``, aligned as by :func:`kronax.pp.align`), each treatments × genes:

    ``X`` : float64
        Truth plus noise; NaN in missing profiles.
    ``layers["truth"]`` : float64
        The truth, for all profiles, with mean square 1 over the tensor.
    ``obs["measured"]`` : bool
        Whether the profile is measured.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `measured` has another shape or is not bool.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, for the shape of the data.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_genes=30)
    >>> mdata["tissue0"].shape
    (40, 30)
    """
    for name, size, low in (
        ("n_treatments", n_treatments, 1),
        ("n_contexts", n_contexts, 2),
        ("n_genes", n_genes, 1),
        ("rank", rank, 1),
        ("random_state", random_state, 0),
    ):
        checks.integer(size, name, low=low)
    checks.not_negative(attention, "attention")
    checks.not_negative(noise, "noise")
    rng = np.random.default_rng(random_state)
    there = _unequal(n_treatments, n_contexts, rng) if measured is None else _given(measured, n_treatments, n_contexts)
    treatments, contexts = _names(measured, n_treatments, n_contexts)
    truth = _truth(n_treatments, n_contexts, n_genes, rank, attention, rng)
    values = np.where(there[:, :, None], truth + noise * rng.standard_normal(truth.shape), np.nan)

    var = pd.DataFrame(index=[f"gene{g}" for g in range(n_genes)])
    modalities = {
        context: AnnData(
            values[:, c],
            obs=pd.DataFrame({keys.MEASURED: there[:, c]}, index=treatments),
            var=var.copy(),
            layers={"truth": truth[:, c]},
        )
        for c, context in enumerate(contexts)
    }
    with tensors.without_pulling():
        return MuData(modalities, axis=-1)


def _truth(
    n_treatments: int, n_contexts: int, n_genes: int, rank: int, attention: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the tensor ``(D, C, G)``, mean square 1."""
    i, u = (rng.laplace(size=(n, rank)) for n in (n_treatments, n_genes))
    r = rng.gamma(2.0, 0.5, size=(n_contexts, rank))
    truth = np.zeros((n_treatments, n_contexts, n_genes))
    if attention == 0:
        truth = np.einsum("dk,ck,gk->dcg", i, r, u, optimize=True)
    else:
        by_treatment, by_context, by_gene = (_logits(factor, attention, rng) for factor in (i, r, u))
        for c in range(n_contexts):  # the array of entries × components would be large
            logits = by_treatment[:, None] + by_context[c] + by_gene
            weight = np.exp(logits - logits.max(axis=2, keepdims=True))
            weight *= rank / weight.sum(axis=2, keepdims=True)
            truth[:, c] = np.einsum("dk,gk,dgk->dg", i * r[c], u, weight, optimize=True)
    return truth / np.sqrt(np.mean(truth**2))


def _logits(factor: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a random linear function, and return its value for every row."""
    standard = factor / np.sqrt(np.mean(factor**2))
    return standard @ rng.normal(scale=spread / np.sqrt(factor.shape[1]), size=(factor.shape[1],) * 2)


def _unequal(n_treatments: int, n_contexts: int, rng: np.random.Generator) -> np.ndarray:
    """Choose which profiles are there, ``(D, C)``: at least one of every treatment, and of every context if possible."""
    count = np.minimum(rng.geometric(1 - _EXTRA, size=n_treatments), n_contexts)
    often = _RARER ** np.arange(n_contexts)
    there = np.zeros((n_treatments, n_contexts), bool)
    for treatment, n in enumerate(count):
        there[treatment, rng.choice(n_contexts, n, replace=False, p=often / often.sum())] = True
    empty = np.flatnonzero(~there.any(axis=0))[:n_treatments]
    there[rng.choice(n_treatments, len(empty), replace=False), empty] = True
    return there


def _given(measured: np.ndarray | pd.DataFrame, n_treatments: int, n_contexts: int) -> np.ndarray:
    there = np.asarray(measured)
    if there.shape != (n_treatments, n_contexts) or there.dtype != bool:
        msg = (
            f"`measured` must be bool, n_treatments × n_contexts = {n_treatments} × {n_contexts}; found {there.dtype}, "
            f"{' × '.join(map(str, there.shape))}."
        )
        raise ValueError(msg)
    return there


def _names(measured: np.ndarray | pd.DataFrame | None, n_treatments: int, n_contexts: int) -> tuple[list, list]:
    if isinstance(measured, pd.DataFrame):
        return [str(name) for name in measured.index], [str(name) for name in measured.columns]
    return [f"treatment{d}" for d in range(n_treatments)], [f"tissue{c}" for c in range(n_contexts)]
