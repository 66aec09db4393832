"""Files of AnnData and MuData objects; those that cannot be read, or written again, are refused before the work."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import mudata
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._cli.refusals import InputError, in_words
from kronax._data import tensor as tensors


def read_h5ad(path: Path) -> AnnData:
    """Read an .h5ad file."""
    parts = _parts(path, "an .h5ad", "anndata.read_zarr(…).write_h5ad(…)")
    if "mod" in parts:
        msg = (
            f"{path} holds several modalities. In Python, kx.tl.med_magma(mudata.read_h5mu(path)) makes one cell graph of "
            "all; here, write one of them to an .h5ad file. To complete a tensor: python -m kronax complete FILE.h5mu"
        )
        raise InputError(msg)
    if not {"obs", "var"} <= parts:
        hint = " Write one in Python: sc.read_10x_h5(…).write_h5ad(…)." if "matrix" in parts else ""
        msg = f"{path} is not an .h5ad file: it has no obs and var, but {sorted(parts)}.{hint}"
        raise InputError(msg)
    adata = _read(anndata.read_h5ad, path, "an .h5ad")
    for axis in ("obs_names", "var_names"):
        if isinstance(getattr(adata, axis).dtype, pd.StringDtype):
            setattr(adata, axis, getattr(adata, axis).astype(object))  # the kind of text that every anndata writes
    return adata


def read_h5mu(path: Path) -> MuData:
    """Read an .h5mu file."""
    parts = _parts(path, "an .h5mu", "mudata.read_zarr(…).write_h5mu(…)")
    if "mod" not in parts:
        msg = f"{path} is not an .h5mu file: it has no modalities. kx.pp.tensor makes them from a long table in Python."
        raise InputError(msg)
    with tensors.without_pulling():
        return _read(mudata.read_h5mu, path, "an .h5mu")


def _parts(path: Path, kind: str, from_zarr: str) -> set[str]:
    """Name what an HDF5 file holds."""
    try:
        if path.is_dir():
            zarr = any((path / name).exists() for name in (".zgroup", "zarr.json"))
            hint = f" It is a zarr store; write a file in Python: {from_zarr}." if zarr else ""
            msg = f"{path} is a folder; {kind} file is needed.{hint}"
            raise InputError(msg)
        if not path.is_file():
            msg = f"{path} is {'a link to what is ' if path.is_symlink() else ''}not there; {kind} file is needed."
            raise InputError(msg)
        with h5py.File(path) as file:
            return set(file)
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{path} cannot be read as {kind} file: {in_words(error)}."
        raise InputError(msg) from error


def _read(read: Callable[[Path], AnnData | MuData], path: Path, kind: str) -> AnnData | MuData:
    """Read a file; any error of a library counts as an error of the file."""
    try:
        return read(path)
    except Exception as error:
        msg = f"{path} cannot be read as {kind} file: {in_words(error)}."
        raise InputError(msg) from error


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
