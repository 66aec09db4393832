from mudata import MuData

from kronax import _named_array, _tensor
from kronax._named_array import NamedArray
from kronax.metrics._cross_validate import CrossValidation


def array(data: MuData | CrossValidation, *, layer: str | None = None) -> NamedArray:
    """Give a tensor as an array, treatments × contexts × genes, with names.

    That is what :func:`kronax.metrics.by_category` and the other metrics of arrays take.

    Parameters
    ----------
    data
        One modality per context, treatments × genes; or the result of :func:`kronax.metrics.cross_validate`. Not changed.
    layer
        Layer to take, such as ``"completed"``; of a cross-validation, the method whose predictions are wanted. If None,
        the measured values: `X`; of a cross-validation, those that were held out.

    Returns
    -------
    :class:`NamedArray` with the treatments of all contexts and the genes that all of them have. NaN where a value is
    missing; of a cross-validation, where none was held out or there is no prediction. NumPy's functions take it as it is.

    Raises
    ------
    KeyError
        If a modality lacks the layer, or the cross-validation the method.
    TypeError
        If `data` is neither a MuData object of AnnData objects in memory, with numbers, nor a cross-validation.
    ValueError
        If a MuData object is none that :func:`kronax.tl.complete_tensor` takes.

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

    Two of them can be compared:

    >>> result = kx.metrics.cross_validate(mdata, methods="mean_2d", n_folds=4)
    >>> slope = kx.metrics.calibration_slope(kx.get.array(result), kx.get.array(result, layer="mean_2d"))
    """
    if isinstance(data, CrossValidation):
        return _named_array.of_held_out(data.profiles, layer)
    return _named_array.of_tensor(_tensor.read(data, layer))
