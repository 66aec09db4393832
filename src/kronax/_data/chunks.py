"""A matrix that is not in memory, as chunks of rows: a dask array, or one in the file that backs an object."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data.matrix import Counts, find_matrix, raw_instead, read_counts, require_counted, require_real
from kronax.solvers import checks
from kronax.solvers.device import each_on_all_cores
from kronax.solvers.rows.chunked import Chunked, Preparation, Survey, survey
from kronax.solvers.scales.powered import SAMPLE

_ROWS = 8192  # of a chunk of a file


def is_dask(found: Any) -> bool:
    """Return whether a matrix is a dask array; one need not have dask to ask."""
    kinds = type(found).__mro__  # the array of a view of an AnnData object is of a kind of its own
    return any(kind.__module__.split(".")[0] == "dask" for kind in kinds)


def in_chunks(adata: AnnData, found: Any) -> bool:
    """Return whether a matrix of an object is to be read in chunks."""
    return is_dask(found) or adata.isbacked and not (isinstance(found, np.ndarray) or sparse.issparse(found))


def read_any(adata: AnnData, layer: str | None, of: str = "adata", n_sampled: int = SAMPLE) -> Counts:
    """Read a matrix that need not be in memory; of one that is not, so many rows at most are sampled."""
    found, where = find_matrix(adata, layer, of)
    if in_chunks(adata, found):
        return read_chunks(found, where, raw_instead(adata, of), n_sampled)
    return read_counts(adata, layer, of)


def mapped(array: Any, function: Callable[..., sparse.csr_matrix], *shared: Any, of_rows: np.ndarray) -> Any:
    """Return a dask array whose chunks are what a function makes of those of another one, when they are asked for.

    The function is called with the chunk, with the part of ``of_rows``, (n,), that belongs to its rows, and with what is shared.
    """
    import dask.array

    beside = dask.array.from_array(of_rows[:, None], chunks=(array.chunks[0], 1))
    return array.map_blocks(
        function, beside, *shared, dtype=np.float64, chunks=array.chunks, meta=sparse.csr_matrix((0, 0))
    )


def read_chunks(found: Any, where: str, raw: str, n_sampled: int = SAMPLE) -> Counts:
    """Look at every chunk once, and return how the rows and columns with non-zero values are read."""
    stride = max(1, -(-found.shape[0] // n_sampled))
    surveyed = _surveyed_dask if is_dask(found) else _surveyed_file
    kind, chunks, lengths, surveys = surveyed(found, where, stride)
    if n_bad := sum(part.n_bad for part in surveys):
        starts = np.cumsum(lengths) - lengths
        first = next(number for number, part in enumerate(surveys) if part.n_bad)
        msg = (
            f"{where} has {n_bad:,} masked, NaN or infinite values, the first of them in rows {starts[first]:,} to "
            f"{starts[first] + lengths[first] - 1:,}. Replace them, or remove the cells or genes that hold them.{raw}"
        )
        raise ValueError(msg)
    row_counts = [part.row_counts for part in surveys]
    col_counts = np.sum([part.col_counts for part in surveys], axis=0)
    cells, genes = np.flatnonzero(np.concatenate(row_counts)), np.flatnonzero(col_counts)
    shape = int(sum(lengths)), len(col_counts)
    require_counted(shape, cells, genes, where, raw)
    all_genes = len(genes) == shape[1]
    rows = kind(
        chunks,
        np.array([np.count_nonzero(counts) for counts in row_counts]),
        np.array([counts.sum() for counts in row_counts]),
        col_counts[genes],
        Preparation(None if all_genes else genes),
    )
    sample = sparse.csr_array(sparse.vstack([part.sample for part in surveys], format="csr"))
    sample = sample if all_genes else sample[:, genes]
    return Counts(rows, cells, genes, shape, sum(part.n_negative for part in surveys), sample)


def _surveyed_dask(array: Any, where: str, stride: int) -> tuple[type[Chunked], Sequence[Any], list[int], list[Survey]]:
    import dask
    from dask.delayed import delayed

    from kronax.solvers.rows.on_dask import OnDask

    require_real(array.dtype, where, "")
    if np.isnan(np.concatenate(array.chunks)).any():
        msg = f"{where} is a dask array whose chunks have unknown sizes. Run `.compute_chunk_sizes()` on it first."
        raise ValueError(msg)
    lengths, widths = array.chunks
    if len(widths) > 1:
        msg = (
            f"{where} is a dask array in {len(widths)} chunks along the genes ({checks.listed(widths, 3)} genes); a chunk must have "
            "all genes of its cells. Rechunk it, `.rechunk((rows, -1))`, or read the file with chunks of whole rows."
        )
        raise ValueError(msg)
    chunks = list(array.to_delayed().ravel())
    starts = np.cumsum(lengths) - lengths
    tasks = [
        delayed(survey, pure=False)(chunk, int(start), stride) for chunk, start in zip(chunks, starts, strict=True)
    ]
    return OnDask, chunks, list(lengths), list(dask.compute(*tasks))


def _surveyed_file(
    stored: Any, where: str, stride: int
) -> tuple[type[Chunked], Sequence[Any], list[int], list[Survey]]:
    require_real(stored.dtype, where, "")
    if getattr(stored, "format", "csr") == "csc":
        msg = (
            f"{where} is stored by genes (CSC) in the file that backs the object, which cannot be read cell by cell. Run "
            "`adata = adata.to_memory()`, or write the file with a CSR matrix."
        )
        raise ValueError(msg)
    n = stored.shape[0]
    bounds = [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]
    chunks: list[Callable[[], Any]] = [partial(stored.__getitem__, rows) for rows in bounds]
    look = partial(_survey_of, chunks, bounds, stride)
    surveys = list(each_on_all_cores(look, range(len(chunks))))
    return Chunked, chunks, [rows.stop - rows.start for rows in bounds], surveys


def _survey_of(chunks: Sequence[Callable[[], Any]], bounds: Sequence[slice], stride: int, number: int) -> Survey:
    return survey(chunks[number](), bounds[number].start, stride)
