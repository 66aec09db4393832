"""A completed tensor as tables that any program opens."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax import get
from kronax._cli.results import Results
from kronax._data import keys
from kronax._logging import logger

MOST_VALUES = 50_000_000  # of a table: as text, they take half a gigabyte


def add_tables(mdata: MuData, results: Results) -> None:
    """Write all profiles, and all confidences if the method has any."""
    found = get.profiles(mdata)
    if found.X.size <= MOST_VALUES:
        results.add("profiles.csv", lambda path: profiles(found).to_csv(path, index=False, float_format="%.6g"))
    else:
        logger.info("profiles.csv is not written: it would have %d million values", found.X.size // 10**6)
    if found.obs[keys.CONFIDENCE].notna().any():
        results.add("confidences.csv", lambda path: confidences(found).to_csv(path, float_format="%.4f"))
    else:
        logger.info("confidences.csv is not written: there are no confidences")


def profiles(found: AnnData) -> pd.DataFrame:
    """Return one row for each treatment in each context; a column for each gene stands behind those that describe it."""
    about = found.obs[["treatment", "context", keys.MEASURED, keys.CONFIDENCE]].copy()
    measured = found.layers.get(keys.MEASURED, np.broadcast_to(about[[keys.MEASURED]], found.shape))
    about[keys.PREDICTED_VALUES] = (~measured & ~np.isnan(found.X)).sum(axis=1)
    return pd.concat([about, found.to_df()], axis=1)


def confidences(found: AnnData) -> pd.DataFrame:
    """Return treatments × contexts, empty where there is no confidence."""
    table = found.obs.set_index(["treatment", "context"])[keys.CONFIDENCE].unstack()
    return table.reindex(index=found.obs["treatment"].cat.categories, columns=found.obs["context"].cat.categories)
