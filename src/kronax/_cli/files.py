"""Files of AnnData and MuData objects; those that cannot be read, or written again, are refused before the work."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._cli.refusals import InputError, in_words, require_there
from kronax._data import tensor as tensors
from kronax._data.chunks import is_dask

_CELLS, _STORE, _TENSOR = "an .h5ad file", "a .zarr store", "an .h5mu file"
_CHUNK = 2**24  # entries, zeros included: a chunk of 2,000 genes has 8,388 cells


def read_cells(path: Path, *, lazily: bool = False) -> AnnData:
    """Read an .h5ad file or a .zarr store; with ``lazily``, its matrices stay there and become dask arrays."""
    if lazily:
        _require_dask()
    parts = _parts(path, _CELLS, or_store=True)
    kind = _STORE if path.is_dir() else _CELLS
    if "mod" in parts:
        msg = (
            f"{path} holds several modalities. In Python, kx.tl.med_magma(mudata.read_h5mu(path)) makes one cell graph of "
            "all; here, write one of them to an .h5ad file. To complete a tensor: python -m kronax complete FILE.h5mu"
        )
        raise InputError(msg)
    if not {"obs", "var"} <= parts:
        hint = " Write one in Python: sc.read_10x_h5(…).write_h5ad(…)." if "matrix" in parts else ""
        msg = f"{path} is not {kind} of cells: it has no obs and var, but {sorted(parts)}.{hint}"
        raise InputError(msg)
    whole = anndata.read_zarr if path.is_dir() else anndata.read_h5ad
    adata = _read(_read_lazily if lazily else whole, path, kind)
    for axis in ("obs_names", "var_names"):
        if isinstance(getattr(adata, axis).dtype, pd.StringDtype):
            setattr(adata, axis, getattr(adata, axis).astype(object))  # the kind of text that every anndata writes
    return adata


def has_modalities(path: Path) -> bool:
    """Return whether a file or a store holds a MuData object."""
    return "mod" in _parts(path, _CELLS, or_store=True)


def read_h5mu(path: Path) -> MuData:
    """Read an .h5mu file."""
    parts = _parts(path, _TENSOR)
    if "mod" not in parts:
        msg = f"{path} is not an .h5mu file: it has no modalities. kx.pp.tensor makes them from a long table in Python."
        raise InputError(msg)
    with tensors.without_pulling():
        return _read(mudata.read_h5mu, path, _TENSOR)


def _parts(path: Path, kind: str, *, or_store: bool = False) -> set[str]:
    """Name what an HDF5 file, or a zarr store where one will do, holds."""
    needed = f"{kind} or {_STORE}" if or_store else kind
    try:
        if path.is_dir():
            store = any((path / name).exists() for name in (".zgroup", "zarr.json"))
            if store and or_store:
                return _read(lambda found: set(_opened(found)), path, _STORE)
            hint = " It is a zarr store; write a file in Python: mudata.read_zarr(…).write_h5mu(…)." if store else ""
            msg = f"{path} is a folder; {needed} is needed.{hint}"
            raise InputError(msg)
        require_there(path, needed)
        if not path.is_file():
            msg = f"{path} is not a file; {needed} is needed."
            raise InputError(msg)
        with h5py.File(path) as file:
            return set(file)
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{path} cannot be read as {kind}: {in_words(error)}."
        raise InputError(msg) from error


def _read(read: Callable[[Path], Any], path: Path, kind: str) -> Any:
    """Read a file; any error of a library counts as an error of the file."""
    try:
        return read(path)
    except Exception as error:
        msg = f"{path} cannot be read as {kind}: {in_words(error)}."
        raise InputError(msg) from error


def _opened(path: Path) -> Any:
    import zarr

    return zarr.open_group(path, mode="r") if path.is_dir() else h5py.File(path)


# Matrices that stay in their file


def _require_dask() -> None:
    try:
        import dask.array  # noqa: F401
    except ImportError as error:
        msg = '--out-of-core needs dask: pip install "kronax[dask]"'
        raise InputError(msg) from error


def _read_lazily(path: Path) -> AnnData:
    """Read all but X, the layers and X of raw, which become dask arrays."""
    from anndata.experimental import read_dispatched

    def read(read_whole: Callable[[Any], Any], name: str, stored: Any, iospec: Any) -> Any:
        part, *within = name.strip("/").split("/")
        is_matrix = (part, *within) in {("X",), ("raw", "X")} or part == "layers" and len(within) == 1
        return _in_chunks(stored) if is_matrix else read_whole(stored)

    return read_dispatched(_opened(path), read)


def _in_chunks(stored: Any) -> Any:
    """Return a stored matrix as a dask array in chunks of rows; one that is stored by columns (CSC), in chunks of columns."""
    from anndata.experimental import read_elem_lazy

    if stored.attrs["encoding-type"] == "csc_matrix":
        return read_elem_lazy(stored)
    n_cols = (stored.attrs["shape"] if "shape" in stored.attrs else stored.shape)[1]
    return read_elem_lazy(stored, chunks=(max(1, _CHUNK // max(1, int(n_cols))), -1))


@contextmanager
def near(adata: AnnData, layer: str | None, beside: Path) -> Iterator[None]:
    """Keep a matrix that is not in memory in a store of its own, in a folder, which holds the genes of the object alone.

    It is read in every pass, and the file that it comes from may have many times as many genes.
    """
    matrix = adata.X if layer is None else adata.layers[layer]
    if not is_dask(matrix):
        yield
        return
    import zarr

    with tempfile.TemporaryDirectory(dir=beside, prefix=".kronax-") as scratch:
        store = zarr.open_group(Path(scratch, "matrix.zarr"), mode="w", zarr_format=2)
        try:
            anndata.io.write_elem(store, "matrix", matrix)
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"The chosen genes cannot be copied to {beside}: {in_words(error)}."
            raise InputError(msg) from error
        copy = _in_chunks(store["matrix"])
        if layer is None:
            adata.X = copy
        else:
            adata.layers[layer] = copy
        yield


@contextmanager
def reading(path: Path | None) -> Iterator[None]:
    """Let what goes wrong while matrices are read from a file count as an error of the file."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{path} cannot be read to its end: {in_words(error)}."
        raise InputError(msg) from error


def n_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a store."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def matrices(data: AnnData | MuData) -> list[Any]:
    """Return the matrices of an object, those of modalities aside."""
    parts = [data.obsm, data.varm, data.obsp, data.varp]
    own = []
    if isinstance(data, AnnData):
        parts.append(data.layers)
        own = [data.X] if data.raw is None else [data.X, data.raw.X]
    return [*own, *(value for part in parts for key, value in part.items() if key is not None)]


def bytes_in_memory(found: Iterable[Any]) -> int:
    """Add up the sizes of matrices, not compressed."""
    return sum(
        value.data.nbytes + value.indices.nbytes if sparse.issparse(value) else getattr(value, "nbytes", 0)
        for value in found
    )


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write an .h5ad file."""
    adata.write_h5ad(path, compression="gzip")


def write_h5mu(mdata: MuData, path: Path) -> None:
    """Write an .h5mu file."""
    with tensors.without_pulling():
        mdata.write_h5mu(path, compression="gzip")


def require_writable(data: AnnData | MuData, path: Path, beside: Path) -> None:
    """Require that an object like the results can be written to a folder, by writing one cell of an AnnData object."""
    with tempfile.TemporaryDirectory(dir=beside, prefix=".kronax-") as scratch:
        try:
            if isinstance(data, AnnData):
                write_h5ad(data[:1].copy(), Path(scratch, "trial.h5ad"))
            else:
                write_h5mu(data, Path(scratch, "trial.h5mu"))
        except OSError as error:
            msg = f"Nothing can be written to {beside}: {in_words(error)}."
            raise InputError(msg) from error
        except Exception as error:
            msg = (
                f"{path} can be read, but its content cannot be written to a new file: {in_words(error)}. Mend it first, "
                "in Python: take out, or rename, what cannot be written, and write the file anew."
            )
            raise InputError(msg) from error
