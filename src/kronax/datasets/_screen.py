import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax.solvers import checks

CONTROL = "control"
_N_PROGRAMS = 6
_PROGRAM = 0.08  # share of the genes in a program
_NONE, _STRONG = 1 / 3, 1 / 3  # shares of treatments without an effect, and with a strong one
_WEAK_SIZE, _STRONG_SIZE = 0.4, 1.2  # log2 fold change of a typical gene of a program
_PLATE_EFFECT = 0.15  # standard deviation of a plate's own logarithms, base 2
_DEPTH = 0.4  # of the logarithms of cells' depths
_DISPERSION = 0.3  # of counts, beyond Poisson's


def screen(
    *,
    n_treatments: int = 24,
    n_contexts: int = 3,
    n_genes: int = 500,
    n_replicates: int = 3,
    n_cells: int = 30,
    n_controls: int = 4,
    random_state: int = 0,
) -> AnnData:
    r"""Simulate a perturbation screen in single cells: counts of treated cells and of controls, with known effects.

    Counts follow a negative binomial distribution whose mean is the product of a cell's depth, a gene's expression in the cell
    line, the gene's factor on the plate, and the treatment's fold change. Treatments act on gene programs, which a cell line
    may have more or less of. A third of the treatments has no effect, a third a weak one, a third a strong one.

    Parameters
    ----------
    n_treatments, n_contexts, n_genes
        Numbers of treatments beside the controls, of cell lines and of genes.
    n_replicates
        Number of plates. Every treatment is on each, in every cell line.
    n_cells
        Cells of a treatment on a plate, in one cell line, on average.
    n_controls
        How many times as many cells the controls have.
    random_state
        Seed.

    Returns
    -------
    AnnData, cells × genes:

    ``X`` : CSR matrix, float32
        Counts.
    ``obs["perturbation"]``, ``obs["cell_line"]``, ``obs["plate"]`` : categorical
        The design; ``"control"`` marks controls.
    ``obs["strength"]`` : categorical
        ``"control"``, ``"none"``, ``"weak"`` or ``"strong"``.
    ``uns["log_fold_change"]`` : DataFrame, float64
        The true :math:`\log_2` fold change of every gene; one row for every treatment and cell line, named as the rows of
        :func:`kronax.pp.effects`.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    :cite:t:`Robinson2010`, for the distribution of counts; :cite:t:`Hodos2018`, for screens of this kind.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.screen(n_treatments=6, n_cells=5)
    >>> adata.uns["log_fold_change"].shape
    (18, 500)
    """
    sizes = {"n_treatments": n_treatments, "n_contexts": n_contexts, "n_replicates": n_replicates, "n_cells": n_cells}
    for name, value in {**sizes, "n_controls": n_controls}.items():
        checks.integer(value, name, low=1)
    checks.integer(n_genes, "n_genes", low=20)
    checks.integer(random_state, "random_state", low=0)
    rng = np.random.default_rng(random_state)
    treatments = [f"drug{number + 1}" for number in range(n_treatments)]
    contexts = [f"line{number + 1}" for number in range(n_contexts)]
    plates = [f"plate{number + 1}" for number in range(n_replicates)]
    strengths, effects = _effects(rng, n_treatments, n_contexts, n_genes)

    base = np.log2(rng.gamma(0.6, 1.0, n_genes) + 0.02) + rng.normal(0.0, 0.7, (n_contexts, n_genes))
    plate = rng.normal(0.0, _PLATE_EFFECT, (n_replicates, n_contexts, n_genes))
    design = [
        (drug, line, at) for at in range(n_replicates) for line in range(n_contexts) for drug in range(-1, n_treatments)
    ]
    counts, rows = [], []
    for drug, line, at in design:
        n = 1 + rng.poisson(n_cells - 1) if drug >= 0 else n_controls * n_cells
        change = effects[drug, line] if drug >= 0 else 0.0
        counts.append(_counts(rng, base[line] + plate[at, line] + change, n))
        rows += [(drug, line, at)] * n
    drug, line, at = np.array(rows).T
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(np.array([*treatments, CONTROL])[drug]),
            "cell_line": pd.Categorical(np.array(contexts)[line]),
            "plate": pd.Categorical(np.array(plates)[at]),
            "strength": pd.Categorical(np.array([*strengths, CONTROL])[drug]),
        },
        index=[f"cell{number + 1}" for number in range(len(rows))],
    )
    genes = [f"gene{number + 1}" for number in range(n_genes)]
    names = [f"{treatment}|{context}" for context in contexts for treatment in treatments]
    truth = pd.DataFrame(effects.transpose(1, 0, 2).reshape(-1, n_genes), index=names, columns=genes)
    return AnnData(
        sparse.vstack(counts, format="csr"), obs=obs, var=pd.DataFrame(index=genes), uns={"log_fold_change": truth}
    )


def _effects(
    rng: np.random.Generator, n_treatments: int, n_contexts: int, n_genes: int
) -> tuple[list[str], np.ndarray]:
    """Draw strengths, and log fold changes, treatments × contexts × genes."""
    loadings = rng.normal(size=(_N_PROGRAMS, n_genes)) * (rng.random((_N_PROGRAMS, n_genes)) < _PROGRAM)
    use = rng.normal(size=(n_treatments, _N_PROGRAMS)) * (rng.random((n_treatments, _N_PROGRAMS)) < 0.5)
    use[np.arange(n_treatments), rng.integers(_N_PROGRAMS, size=n_treatments)] += rng.choice([-1.0, 1.0], n_treatments)
    has = rng.uniform(0.4, 1.6, (n_contexts, _N_PROGRAMS))
    kinds = np.array(["none", "strong", "weak"])[
        np.digitize(np.arange(n_treatments) / n_treatments, [_NONE, _NONE + _STRONG])
    ]
    size = np.array([{"none": 0.0, "weak": _WEAK_SIZE, "strong": _STRONG_SIZE}[kind] for kind in kinds])
    use *= (size / np.linalg.norm(use, axis=1))[:, None]
    return list(kinds), np.einsum("tk,ck,kg->tcg", use, has, loadings)


def _counts(rng: np.random.Generator, logs: np.ndarray, n: int) -> sparse.csr_matrix:
    """Draw the counts of ``n`` cells with the same mean logarithms, base 2."""
    mean = rng.lognormal(0.0, _DEPTH, (n, 1)) * 2.0**logs
    varied = mean * rng.gamma(1.0 / _DISPERSION, _DISPERSION, mean.shape)
    return sparse.csr_matrix(rng.poisson(varied), dtype=np.float32)
