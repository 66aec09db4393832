"""Chunks of a dask array: whatever scheduler is in use computes the passes, in threads, processes or on other machines."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import dask
import numpy as np
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed
from tqdm.auto import tqdm

from kronax.solvers.rows.chunked import Call, Chunked
from kronax.solvers.rows.rows import Arrays, add_arrays, added, in_float64, in_one


class OnDask(Chunked):
    """An ``n × m`` matrix in chunks of rows, each a :class:`dask.delayed.Delayed`."""

    def results(self, kernel: Callable[..., Any], *shared: Any) -> Iterator[Any]:
        """Yield what the kernel returns for every chunk, in the order of the rows, and keep nothing of it."""
        found = deque(dask.compute(*self._delayed(kernel, shared)))
        while found:
            yield found.popleft()

    def sums(self, kernel: Callable[..., Arrays], *shared: Any, title: str = "", progress: bool = False) -> Arrays:
        """Return the sums over all chunks of the arrays that the kernel returns, added where they are made."""
        parts = [delayed(in_float64, pure=False)(part) for part in self._delayed(kernel, shared)]
        with _Bar(title, len(self), progress):
            return added(parts, delayed(add_arrays, pure=False)).compute()

    def each(
        self, kernel: Callable[..., np.ndarray], *shared: Any, title: str = "", progress: bool = False
    ) -> np.ndarray:
        """Return one array with a row for every row of the matrix."""
        with _Bar(title, len(self), progress):
            return in_one(self.results(kernel, *shared), self.shape[0])

    def _delayed(self, kernel: Callable[..., Any], shared: tuple[Any, ...]) -> list[Delayed]:
        together = delayed(shared, pure=False, traverse=False)  # sent once, not with every chunk
        return [
            delayed(_called, pure=False)(call._replace(shared=()), together, chunk)
            for call, chunk in zip(self.calls(kernel, ()), self.chunks, strict=True)
        ]


def _called(call: Call, shared: tuple[Any, ...], chunk: Any) -> Any:
    return call._replace(shared=shared)(chunk)


class _Bar(Callback):
    """A progress bar of the chunks done. Distributed schedulers have a dashboard of their own."""

    def __init__(self, title: str, n_chunks: int, progress: bool) -> None:
        self.bar = tqdm(
            desc=title, total=n_chunks, unit="chunk", delay=2, leave=False, disable=not (progress and title)
        )
        super().__init__(posttask=self._done)

    def _done(self, key: Any, *_: Any) -> None:
        if _called.__name__ in str(key):
            self.bar.update()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.bar.close()
