"""For every row of a matrix its nearest rows, nearly all of them: near rows make a list, and near lists are compared.

Lists are compared as wholes, so that all distances are matrix products. How many lists each is compared with is read off a
sample of rows, whose true neighbours are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kronax.solvers import device
from kronax.solvers.graph.search import group_size, in_blocks, largest, most_similar, rows_at_a_time

EXACT = 8192  # rows up to which the exact search takes no longer
_LISTS = 1.5  # times √n
_UNEVEN = 1.4  # a list of the sample may be so much longer than the mean
_LONGEST = 4.0  # a list of all rows may be so much longer than the mean
_SAMPLED = 32  # rows a list from which the centres of the lists are found
_STEPS = 4  # of the power method, towards the direction in which a list is longest
_TRIED = 512  # rows whose neighbours tell the recall
_FEWEST = 8  # of these at a time
_ERRORS = 2.0  # standard errors by which the sample's recall has to exceed the one asked for
_ROWS = 4096  # in a block


@dataclass(frozen=True)
class _Lists:
    """Rows in lists.

    Attributes
    ----------
    order, starts
        Rows list after list, (n,), and where each list starts, (number of lists + 1,).
    label
        The list of every row, (n,).
    centres
        The mean row of every list.
    nearest
        For every list all lists, the nearest first, which is itself: (number of lists, number of lists).
    """

    order: np.ndarray
    starts: np.ndarray
    label: np.ndarray
    centres: np.ndarray
    nearest: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.starts)


def nearest(rows: np.ndarray, k: int, *, recall: float, progress: bool = False) -> np.ndarray:
    """Find the ``k`` nearest other rows of every row, in any order: (n, k).

    Parameters
    ----------
    rows
        ``(n, d)``, of unit length.
    k
        Fewer than ``n``.
    recall
        Share of the true neighbours to be found, in the mean over all rows; 1 for all. All are found, too, if there are few
        rows, or on an accelerator.
    """
    if recall == 1 or len(rows) <= EXACT or device.platform() != "cpu":
        return most_similar(rows, rows, k, progress=progress)[1]
    with device.one_thread_each():
        lists = _in_lists(rows)
        return _searched(rows, lists, _reach(rows, lists, k, recall), k, progress)


def _in_lists(rows: np.ndarray) -> _Lists:
    """Halve a sample until there are about 1.5 √n parts, put every row to the nearest part's mean, and halve long lists."""
    n, n_lists = len(rows), int(_LISTS * np.sqrt(len(rows)))
    n_sampled = min(n, _SAMPLED * n_lists)
    sample = rows[np.arange(n_sampled) * n // n_sampled].astype(np.float32)
    parts = halved(sample, np.arange(len(sample)), _UNEVEN * len(sample) / n_lists)
    centres = np.stack([sample[part].mean(axis=0) for part in parts])
    beyond = 0.5 * np.einsum("ij,ij->i", centres, centres)
    label = np.empty(n, np.int64)

    def assign(start: int) -> None:
        block = slice(start, start + _ROWS)
        label[block] = (rows[block].astype(np.float32) @ centres.T - beyond).argmax(axis=1)

    in_blocks(assign, range(0, n, _ROWS), progress=False)
    found = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
    members = [part for of_list in found for part in halved(rows, of_list, _LONGEST * n / n_lists) if len(part)]
    order, starts = np.concatenate(members, dtype=np.int32), np.cumsum([0, *map(len, members)])
    label[order] = np.repeat(np.arange(len(members)), np.diff(starts))
    # the matrix that adds up the rows of every list
    centres = (sparse.csr_array((np.ones(n), order, starts)) @ rows) / np.diff(starts)[:, None]
    closeness = centres @ centres.T - 0.5 * np.einsum("ij,ij->i", centres, centres)
    np.fill_diagonal(closeness, np.inf)
    return _Lists(order, starts, label, centres, np.argsort(-closeness, axis=1, kind="stable"))


def halved(rows: np.ndarray, members: np.ndarray, longest: float) -> Iterator[np.ndarray]:
    """Halve a list across its longest direction, and the halves, until none has more than so many members."""
    waiting = [members]
    while waiting:
        part = waiting.pop()
        if len(part) <= longest:
            yield part
            continue
        beyond = rows[part] - rows[part].mean(axis=0)
        direction = beyond[np.einsum("ij,ij->i", beyond, beyond).argmax()]
        for _ in range(_STEPS):
            direction = (beyond @ direction) @ beyond
            direction /= max(np.linalg.norm(direction), np.finfo(rows.dtype).tiny)
        half = len(part) // 2
        across = np.argpartition(beyond @ direction, half)
        waiting += [part[across[half:]], part[across[:half]]]


def _reach(rows: np.ndarray, lists: _Lists, k: int, recall: float) -> np.ndarray:
    """Return with how many of its nearest lists each has to be compared.

    For a sample of rows, all true neighbours are found. The number is the smallest with which so many of them are among the
    candidates that the recall, less two standard errors, is as wanted; and there must be more than ``k`` candidates.
    """
    (n, width), n_lists = rows.shape, len(lists.centres)
    tried = lists.order[np.arange(_TRIED) * n // _TRIED]  # of every list its share
    place = np.argsort(lists.nearest[lists.label[tried]], axis=1)  # of a list among the nearest
    needed = np.empty((_TRIED, k), np.int64)  # lists, for the first, second, … true neighbour
    size, group = rows_at_a_time(2 * n, _FEWEST), group_size(n, k)  # of scores in double precision
    padding = -n % group

    def find(start: int) -> None:
        block = tried[start : start + size]
        scores = np.full((len(block), n + padding), -np.inf)
        np.matmul(rows[block], rows.T, out=scores[:, :n])
        scores[np.arange(len(block)), block] = -np.inf
        least = np.take_along_axis(scores, largest(scores, k, group), axis=1).min(axis=1)
        near = scores >= least[:, None] - width * np.finfo(np.float64).eps  # any k of those as near as the k-th will do
        for i, columns in enumerate(near):
            at = place[start + i, lists.label[np.flatnonzero(columns)]]
            needed[start + i] = 1 + np.partition(at, k - 1)[:k]

    in_blocks(find, range(0, _TRIED, size), progress=False)
    n_compared = next(
        count
        for count in range(1, n_lists + 1)
        if (share := (needed <= count).mean(axis=1)).mean() - _ERRORS * share.std() / np.sqrt(_TRIED) >= recall
    )
    enough = 1 + (lists.sizes[lists.nearest].cumsum(axis=1) <= k).sum(axis=1)
    return np.maximum(n_compared, enough)


def _searched(rows: np.ndarray, lists: _Lists, reach: np.ndarray, k: int, progress: bool) -> np.ndarray:
    """Compare the rows of every list with those of its nearest lists, and keep the ``k`` nearest.

    From ``|x − y|²`` only ``x·y − |y|²/2`` matters. Coordinates are taken from the centre of the list that is searched for, so
    that single precision is enough however close together rows are.
    """
    (n, width), sizes = rows.shape, lists.sizes
    offsets = np.empty((n, width), np.float32)  # of the rows from the centres of their lists, list after list
    found = np.empty((n, k), lists.order.dtype)

    def offset(start: int) -> None:
        block = lists.order[start : start + _ROWS]
        offsets[start : start + _ROWS] = rows[block] - lists.centres[lists.label[block]]

    def search(one: int) -> None:
        others = lists.nearest[one, : reach[one]]
        ends = np.cumsum(sizes[others])
        n_points = ends[-1]
        group = group_size(n_points, k)
        points = np.zeros((n_points + -n_points % group, width + 1), np.float32)
        position = np.empty(n_points, np.int64)
        for other, end in zip(others, ends, strict=True):
            start, stop = lists.starts[other : other + 2]
            here = slice(end - (stop - start), end)
            position[here] = np.arange(start, stop)
            points[here, :width] = offsets[start:stop] + (lists.centres[other] - lists.centres[one]).astype(np.float32)
        points[:, width] = -0.5 * np.einsum("ij,ij->i", points, points)
        points[n_points:, width] = np.finfo(np.float32).min  # farther than any row
        size = rows_at_a_time(len(points))
        for first in range(0, sizes[one], size):
            queries = points[first : min(first + size, sizes[one])].copy()
            queries[:, width] = 1.0
            scores = queries @ points.T
            among = np.arange(len(queries))
            scores[among, first + among] = -np.inf
            found[lists.order[position[first + among]]] = lists.order[position[largest(scores, k, group)]]

    in_blocks(offset, range(0, n, _ROWS), progress=False)
    in_blocks(search, range(len(lists.centres)), progress=progress)
    return found
