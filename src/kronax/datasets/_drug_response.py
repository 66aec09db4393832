import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import keys
from kronax._data import tensor as tensors
from kronax.solvers import checks

_SPREAD = 0.3  # of how sensitive the contexts are to a drug that acts alike in all


def drug_response(
    *,
    n_treatments: int = 100,
    n_contexts: int = 8,
    n_genes: int = 200,
    rank: int = 5,
    specific: float = 0.3,
    missing: float = 0.5,
    noise: float = 0.5,
    random_state: int = 0,
) -> MuData:
    r"""Simulate responses to drugs in several cell lines, with some profiles missing.

    The truth is of low rank, :math:`T_{dcg} = \sum_k u_{dk} v_{ck} w_{gk}`, with twice `rank` components. Most drugs
    use those whose :math:`v` is about 1 in all contexts: they act alike everywhere, more or less strongly.
    Cell-specific drugs use the others, whose :math:`v` varies in sign and size between contexts.

    Parameters
    ----------
    n_treatments, n_contexts, n_genes
        Shape of the tensor.
    rank
        Number of components of each of the two kinds of drugs.
    specific
        Share of cell-specific drugs.
    missing
        Share of the profiles that are missing, at random. Every treatment keeps at least one, and so does every
        context if there are as many treatments as contexts.
    noise
        Standard deviation of the noise in measured values; the root mean square of the truth is 1.
    random_state
        Seed.

    Returns
    -------
    MuData with one modality per context (``axis=-1``, aligned as by :func:`kronax.pp.align`), each treatments × genes:

    ``X`` : float64
        Truth plus noise; NaN in missing profiles.
    ``layers["truth"]`` : float64
        The truth, for all profiles.
    ``obs["measured"]``, ``obs["cell_specific"]`` : bool
        Whether the profile is measured, and whether the drug is cell-specific.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `missing` leaves a treatment without a profile.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind and for cell-specific treatments.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50, missing=0.25)
    >>> sum(int(adata.obs["measured"].sum()) for adata in mdata.mod.values())
    60
    """
    for name, size, low in (
        ("n_treatments", n_treatments, 1),
        ("n_contexts", n_contexts, 2),
        ("n_genes", n_genes, 1),
        ("rank", rank, 1),
        ("random_state", random_state, 0),
    ):
        checks.integer(size, name, low=low)
    checks.share(specific, "specific")
    checks.share(missing, "missing")
    checks.not_negative(noise, "noise")
    n_missing = round(missing * n_treatments * n_contexts)
    if n_missing > (most := n_treatments * (n_contexts - 1)):
        msg = (
            f"`missing` is {missing:g}, {n_missing} of {n_treatments * n_contexts} profiles; every treatment keeps one, "
            f"so at most {most / (n_treatments * n_contexts):g} can be missing."
        )
        raise ValueError(msg)
    rng = np.random.default_rng(random_state)
    is_specific = rng.permutation(n_treatments) < round(specific * n_treatments)
    truth = _truth(is_specific, n_contexts, n_genes, rank, rng)
    measured = _measured(n_treatments, n_contexts, n_missing, rng)
    values = np.where(measured[:, :, None], truth + noise * rng.standard_normal(truth.shape), np.nan)

    obs = pd.DataFrame({"cell_specific": is_specific}, index=[f"drug{d}" for d in range(n_treatments)])
    var = pd.DataFrame(index=[f"gene{g}" for g in range(n_genes)])
    modalities = {
        f"line{c}": AnnData(
            values[:, c],
            obs=obs.assign(**{keys.MEASURED: measured[:, c]}),
            var=var.copy(),
            layers={"truth": truth[:, c]},
        )
        for c in range(n_contexts)
    }
    with tensors.without_pulling():
        return MuData(modalities, axis=-1)


def _truth(is_specific: np.ndarray, n_contexts: int, n_genes: int, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the tensor ``(D, C, G)``, mean square 1."""
    alike = 1 + _SPREAD * rng.standard_normal((n_contexts, rank))
    varied = rng.standard_normal((n_contexts, rank))
    drugs = rng.standard_normal((len(is_specific), rank))
    genes = rng.standard_normal((2, n_genes, rank))
    truth = np.where(
        is_specific[:, None, None],
        np.einsum("dk,ck,gk->dcg", drugs, varied, genes[1], optimize=True),
        np.einsum("dk,ck,gk->dcg", drugs, alike, genes[0], optimize=True),
    )
    return truth / np.sqrt(np.mean(truth**2))


def _measured(n_treatments: int, n_contexts: int, n_missing: int, rng: np.random.Generator) -> np.ndarray:
    """Choose which profiles are there, ``(D, C)``: one of every treatment, in every context in turn, and others."""
    kept = np.arange(n_treatments) * n_contexts + rng.permutation(n_treatments) % n_contexts
    others = np.delete(np.arange(n_treatments * n_contexts), kept)
    measured = np.ones(n_treatments * n_contexts, bool)
    measured[rng.choice(others, n_missing, replace=False)] = False
    return measured.reshape(n_treatments, n_contexts)
