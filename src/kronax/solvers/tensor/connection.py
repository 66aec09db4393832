"""What links a treatment with a context in which it was not measured.

A prediction rests on what was measured of the treatment in other contexts, and on other treatments that were measured both
there and in the context itself: these show how the contexts compare. Treatments and contexts are thus the nodes of a graph, and
measurements are its edges. If no path leads from a treatment to a context, a prediction has nothing to rest on; if few treatments
connect two blocks of contexts, hardly anything.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kronax.solvers.tensor.completion import whole_fibers

FEWEST = 3  # linking treatments: with fewer, it is unknown how far a prediction can be trusted
_FEW, _THIN = 0.05, 0.75  # see :func:`blocks_of`


@dataclass(frozen=True)
class Blocks:
    """Blocks of contexts, linked with one another by few treatments or none.

    Attributes
    ----------
    context
        ``(C,)``: the number of a context's block, -1 if nothing was measured in it.
    treatment
        ``(D, n)``: whether a treatment was measured in a block.
    across
        ``(D, C)``: whether a fiber's treatment was measured only in other blocks than the fiber's.
    """

    context: np.ndarray
    treatment: np.ndarray
    across: np.ndarray

    @property
    def bridging(self) -> np.ndarray:
        """``(D,)``: whether a treatment was measured in several blocks."""
        return self.treatment.sum(axis=1) > 1


def blocks_of(some: np.ndarray) -> Blocks:
    """Divide contexts into blocks.

    If a measured fiber were held out, its best link would be through another context of its treatment: the one that shares
    the most treatments with the fiber's own. For 95% of the measured fibers, these two share ``q`` treatments or more. Contexts
    that share ``¾ q`` are in one block, and so are those connected by a chain of such contexts.

    Parameters
    ----------
    some
        ``(D, C)``: whether a fiber has a measured entry.
    """
    shared = _products(some.T)
    np.fill_diagonal(shared, 0.0)
    twice = some & (some.sum(axis=1, keepdims=True) > 1)
    best = np.stack([(some * n).max(axis=1, initial=0.0) for n in shared], axis=1) - 1.0  # its treatment does not count
    usual = np.quantile(best[twice], _FEW) if twice.any() else 0.0
    alike = (shared > 0) & (shared >= _THIN * usual)
    label = connected_components(alike, directed=False)[1]
    known = some.any(axis=0)
    context = np.full(len(known), -1)
    context[known] = np.unique(label[known], return_inverse=True)[1]
    treatment = in_blocks(some, context)
    return Blocks(context, treatment, known & treatment.any(axis=1)[:, None] & ~treatment[:, context])


def in_blocks(some: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Mark the treatments measured in each block, ``(D, n)``."""
    return (some.astype(np.int64) @ (context[:, None] == np.arange(context.max(initial=-1) + 1))) > 0


def held_out_links(some: np.ndarray) -> np.ndarray:
    """Count the treatments that would link each measured fiber's treatment and context without it, ``(D, C)``.

    NaN for fibers that are not measured, and for a treatment's only measured fiber.
    """
    contexts = _products(some)  # of two treatments
    np.fill_diagonal(contexts, 0.0)
    links = (contexts >= 2).astype(np.float32) @ some.astype(np.float32)  # this one and another
    return np.where(some & (some.sum(axis=1, keepdims=True) > 1), links, np.nan)


def _products(some: np.ndarray) -> np.ndarray:
    """Count what two rows have in common."""
    m = some.astype(np.float32)
    return m @ m.T


def unlinked(measured: np.ndarray) -> np.ndarray:
    """Mark the missing entries to which no measurement leads, ``(D, C, G)``.

    An entry is linked if its row and its column are connected through measured entries in one of the tensor's three
    unfoldings: its treatment with its context and gene, its context with its treatment and gene, or its gene with its
    fiber. If fibers are missing whole, only the graph of treatments and contexts matters. Treatments, contexts
    and genes that were never measured are not marked.
    """
    known = measured.any(axis=(1, 2))[:, None, None] & measured.any(axis=(0, 2))[:, None] & measured.any(axis=(0, 1))
    if whole_fibers(measured):
        return known & ~_connected(measured[:, :, 0])[:, :, None]
    for mode in range(3):
        if not known.any():
            break
        unfolding = np.moveaxis(measured, mode, 0)
        same = _connected(unfolding.reshape(len(unfolding), -1)).reshape(unfolding.shape)
        known = known & ~np.moveaxis(same, 0, mode)
    return known


def _connected(edges: np.ndarray) -> np.ndarray:
    """Mark the entries of a matrix whose row and column are connected by a path of True entries."""
    n, m = edges.shape
    rows, columns = np.nonzero(edges)
    graph = sparse.csr_array((np.ones(len(rows), bool), (rows, n + columns)), shape=(n + m, n + m))
    label = connected_components(graph, directed=False)[1]
    return label[:n, None] == label[n:]


def linking_treatments(measured: np.ndarray) -> np.ndarray:
    """Count the treatments that link a treatment with a context, ``(D, C)``.

    These are the treatments measured in the context that were measured in some other entry together with the treatment.
    If the missing entries of a fiber differ, the count is their median; genes never measured are left out.
    """
    m = measured[:, :, :1] if whole_fibers(measured) else measured
    m = m.astype(np.float32)
    together = sum(m[:, c] @ m[:, c].T for c in range(m.shape[1])) > 0
    together = together.astype(np.float32)
    np.fill_diagonal(together, 0.0)
    gene = m.any(axis=(0, 1))
    counts = np.zeros(m.shape[:2])
    for c in range(m.shape[1]):
        gaps = (m[:, c] == 0) & gene
        found = np.where(gaps, together @ m[:, c], np.nan)
        has = gaps.any(axis=1)
        counts[has, c] = np.nanmedian(found[has], axis=1)
    return counts
