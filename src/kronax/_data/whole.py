"""Results are written whole or not at all, whatever comes in between: an error, an interruption, a warning that is made an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data.tensor import without_pulling

_TABLES = ("obs", "var")
_MAPPINGS = ("uns", "layers", "obsm", "varm", "obsp", "varp")


@contextmanager
def whole_or_nothing(data: AnnData | MuData) -> Iterator[None]:
    """Leave an object as it was if what is done meanwhile fails; values themselves must not be changed in place."""
    contents = _contents(data)
    try:
        yield
    except BaseException:
        for content in contents:
            content.restore()
        raise


@dataclass(frozen=True)
class _Contents:
    """What an object holds under which names."""

    data: AnnData | MuData
    tables: dict[str, pd.DataFrame]
    mappings: dict[str, dict[str, Any]]
    modalities: dict[str, AnnData]

    @classmethod
    def of(cls, data: AnnData | MuData) -> "_Contents":
        """Take note of what an object holds."""
        tables = {name: getattr(data, name) for name in _TABLES}
        return cls(
            data,
            # tables that are read as they are needed are no DataFrames: what is written to them stays
            {name: table.copy(deep=False) for name, table in tables.items() if isinstance(table, pd.DataFrame)},
            {name: dict(content) for name in _MAPPINGS if (content := getattr(data, name, None)) is not None},
            dict(data.mod) if isinstance(data, MuData) else {},
        )

    def restore(self) -> None:
        """Put everything back that is gone or was replaced, and remove what is new."""
        if any(self.data.mod[name] is not part for name, part in self.modalities.items()):
            with without_pulling():
                for name, part in self.modalities.items():
                    self.data.mod[name] = part
                self.data.update()
        for name, table in self.tables.items():
            setattr(self.data, name, table)
        for name, before in self.mappings.items():
            _restore(getattr(self.data, name), before)


def _contents(data: AnnData | MuData) -> list[_Contents]:
    parts = list(data.mod.values()) if isinstance(data, MuData) else []
    return [_Contents.of(part) for part in [data, *parts]]


def _restore(content: Any, before: dict[str, Any]) -> None:
    for key in [key for key in content if key not in before or content[key] is not before[key]]:
        del content[key]
    for key, value in before.items():
        if key not in content:
            content[key] = value
