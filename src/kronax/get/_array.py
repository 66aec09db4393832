from mudata import MuData

from kronax._data import named
from kronax._data import tensor as tensors
from kronax._data.named import NamedArray
from kronax.metrics._cross_validate import CrossValidation


def array(data: MuData | CrossValidation, *, layer: str | None = None) -> NamedArray:
    """Get a tensor as an array, treatments × contexts × genes, with names.

    This is the input of :func:`kronax.metrics.by_category` and the other metrics of arrays.

    Parameters
    ----------
    data
        One modality per context, treatments × genes; or the result of :func:`kronax.metrics.cross_validate`. Not
        changed.
    layer
        Layer to read, such as ``"completed"``; for a cross-validation, the method whose predictions to read. If None,
        measured values: `X`, or for a cross-validation those that were held out.

    Returns
    -------
    :class:`NamedArray` with the treatments of all contexts and the genes that all of them have. NaN where a value is
    missing; for a cross-validation, where none was held out or there is no prediction. NumPy functions accept it as it
    is.

    Raises
    ------
    KeyError
        If a modality lacks the layer, or the cross-validation the method.
    TypeError
        If `data` is neither a MuData object of numeric AnnData objects in memory, nor a cross-validation.
    ValueError
        If a MuData object is not a valid input of :func:`kronax.tl.complete_tensor`.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50, missing=0.3)
    >>> found = kx.get.array(mdata)
    >>> found
    NamedArray, 20 treatments × 4 contexts × 50 genes, 30% NaN
    >>> found.contexts[0]
    'line0'

    Metrics take two of them:

    >>> result = kx.metrics.cross_validate(mdata, methods="mean_2d", n_folds=4)
    >>> slope = kx.metrics.calibration_slope(kx.get.array(result), kx.get.array(result, layer="mean_2d"))
    """
    if isinstance(data, CrossValidation):
        return named.of_held_out(data.profiles, layer)
    return named.of_tensor(tensors.read(data, layer))
