"""What links a treatment with a context in which it was not measured.

A prediction rests on what was measured of the treatment in other contexts, and on other treatments, measured there and in
the context itself: they tell how the two compare. So treatments and contexts are the nodes of a graph, and measurements are
its edges. Where no path leads from a treatment to a context, nothing was learnt that a prediction could rest on; where few
treatments connect two blocks of contexts, hardly anything.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kronax.solvers.tensor.completion import whole_fibers

FEWEST = 3  # linking treatments: with fewer, nothing tells how far a prediction can be trusted
_FEW, _THIN = 0.05, 0.75  # see :func:`blocks_of`


@dataclass(frozen=True)
class Blocks:
    """Blocks of contexts that few treatments link, or none, with contexts of other blocks.

    Attributes
    ----------
    context
        ``(C,)``: the number of a context's block, -1 if nothing was measured in it.
    treatment
        ``(D, n)``: whether a treatment was measured in a block.
    across
        ``(D, C)``: whether a fiber's treatment was measured, but in other blocks than the fiber's only.
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

    A measured fiber, were it held out, is best linked through the context of its treatment that shares most treatments
    with its own. All but 5% of the measured fibers have such a context that shares ``q`` treatments or more. Contexts that
    share ``¾ q`` are of one block, and so are those that a chain of such contexts connects.

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
    """Say which treatments were measured in which blocks, ``(D, n)``."""
    return (some.astype(np.int64) @ (context[:, None] == np.arange(context.max(initial=-1) + 1))) > 0


def held_out_links(some: np.ndarray) -> np.ndarray:
    """Count the treatments that link a measured fiber's treatment with its context without this fiber, ``(D, C)``.

    NaN for fibers that are not measured, and for the only one of a treatment.
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
    fiber. If fibers are missing whole, only the graph of treatments and contexts matters. What is never measured, a
    treatment, a context or a gene, is another matter and not marked.
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
    """Say of every row and column of a matrix whether a path of its True entries connects them."""
    n, m = edges.shape
    rows, columns = np.nonzero(edges)
    graph = sparse.csr_array((np.ones(len(rows), bool), (rows, n + columns)), shape=(n + m, n + m))
    label = connected_components(graph, directed=False)[1]
    return label[:n, None] == label[n:]


def linking_treatments(measured: np.ndarray) -> np.ndarray:
    """Count the treatments that link a treatment with a context, ``(D, C)``.

    These are the treatments measured in the context that were measured in some other entry together with the treatment.
    If the missing entries of a fiber differ, it is their median; genes never measured do not count.
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
