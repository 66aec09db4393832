"""A short cross-validation of a completion, and what it says."""

import numpy as np
import pandas as pd
from mudata import MuData

from kronax import metrics
from kronax._logging import logger
from kronax.solvers.tensor.method import Options

BASELINES = {"mean_1d": "the treatment's mean over contexts", "mean_2d": "that, averaged with the context's mean"}
_FEW = 5  # profiles, whose mean would say little
_SAME = 0.005  # a smaller difference of correlations tells nothing in a few folds


def of(mdata: MuData, method: str, options: Options, layer: str | None, n_folds: int) -> metrics.CrossValidation:
    """Predict measured profiles that are held out, by the method as it was used, and by means."""
    logger.info("cross-validation: %d folds", n_folds)
    methods = {method: (method, options)} | {name: name for name in BASELINES if name != method}
    return metrics.cross_validate(mdata, methods=methods, n_folds=n_folds, layer=layer, with_controls=False)


def lines(result: metrics.CrossValidation, method: str) -> list[str]:
    """Tell how well held-out profiles were predicted, whether better than by means, and whether confidences hold."""
    wide = max(map(len, result.methods))
    table = result.table
    return [
        f"  Held out: {result.profiles.n_obs:,} measured profiles, in {result.parameters['n_folds']} folds, predicted from the others",
        f"  {'':<{wide}}{'correlation':>14}{'of a profile':>15}{'error':>10}",
        *(
            f"  {name:<{wide}}{row.pct:>14.3f}{row.pct_fiber:>15.3f}{np.sqrt(row.mse):>10.3g}   {BASELINES.get(name, '')}".rstrip()
            for name, row in table.iterrows()
        ),
        "  Correlation of predicted and measured values, all together, and mean over profiles; error: root mean square.",
        f"  {_verdict(table['pct'], method)}",
        *_promises(result, method),
    ]


def _verdict(correlation: pd.Series, method: str) -> str:
    """Compare the method with the better mean."""
    others = correlation.drop(method).dropna()
    if not len(others) or np.isnan(correlation[method]):
        return "Nothing can be said: a prediction that does not vary has no correlation."
    if correlation[method] < _SAME:
        return f"{method} predicts nothing here: held-out values do not go with what is predicted for them."
    best = others.idxmax()
    gain = correlation[method] - others[best]
    if gain > _SAME:
        return f"{method} predicts better than means do, by {gain:.3f}."
    if gain < -_SAME:
        return f'{best} predicts better here, by {-gain:.3f}: use --method {best}, or learn why in "Which method?" of the docs.'
    return f"{method} predicts no better than {best}: what is specific to a context cannot be learnt from these data."


def _promises(result: metrics.CrossValidation, method: str) -> list[str]:
    """Tell what the least and the most confident predictions reached."""
    found = result.promises()
    if found.empty or method not in found.index.get_level_values("method"):
        return []
    found = found.loc[method]
    if found["n"].min() < _FEW:
        return []
    low, high = found.iloc[0], found.iloc[-1]
    return [
        f"  Confidence promised / cosine reached: {low.promised:.2f} / {low.reached:.2f} in the least confident fifth, "
        f"{high.promised:.2f} / {high.reached:.2f} in the most."
    ]
