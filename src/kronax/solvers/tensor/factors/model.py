"""The models of ``mf``, ``cp`` and ``attention_cp``, and what is minimised when they are trained.

With factors ``r`` of contexts, ``u`` of genes and ``i`` of treatments, ``k`` components each,

    ``mf``              ``ŷ = Σ_d i_d u_d``, its own ``u`` in every context                                        (1)
    ``cp``              ``ŷ = Σ_d r_d i_d u_d``                                                                    (2)
    ``attention_cp``    ``ŷ = Σ_d r_d i_d u_d a_d``,                                                               (3)

each with the biases ``b_u + b_i + b``. Additive attention is ``a = k·softmax(W_r r + W_i i + W_u u)``, so that equal
weights are those of ``cp``. Its exponentials factorise: with ``α = exp(W_r r + W_i i)`` of the fiber and ``β = exp(W_u u)``
of the gene

    ``ŷ = k · Σ_d (r_d i_d α_d)(u_d β_d) / Σ_d α_d β_d``,                                                          (4)

and all fibers of a minibatch are predicted by two matrix products, without an array of entries × components. What is
minimised is, over measured entries with weights ``w``,

    ``(1/N) Σ w (y − ŷ)² − λ Var(ŷ)``  plus the decay of the weights.                                              (5)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from kronax.solvers.tensor.factors.options import Attention, Mode

Parameters = dict[str, Array]
_LEAST_LOGIT = -40.0  # relative to the largest; e^−40 squared is still a normal float32


class Form(NamedTuple):
    """The equation: all that a compiled step depends on besides shapes."""

    flat: bool  # Eq. 1
    attention: Attention | None
    biases: bool
    weighted: bool
    non_negative: tuple[Mode, ...]

    @property
    def name(self) -> str:
        """The method that has this equation."""
        return "mf" if self.flat else "attention_cp" if self.attention else "cp"


class Fibers(NamedTuple):
    """Measured fibers, scaled; NaN in single missing entries."""

    values: Array  # (n, G)
    treatment: Array  # (n,)
    context: Array  # (n,)


class Settings(NamedTuple):
    """What may change without recompiling."""

    learning_rate: Array
    weight_decay: Array
    attention_decay: Array
    variance_weight: Array
    cutoffs: Array  # (C, 4), scaled
    weights: Array  # (5,)


def predict(parameters: Parameters, form: Form, treatment: Array, context: Array) -> Array:
    """Predict fibers, ``(n, G)``: Eq. 1, 2 or 3 and the biases."""
    i, u = parameters["treatment"][treatment], parameters["gene"]
    if form.flat:
        n_contexts, _, n_genes = u.shape
        own = jax.nn.one_hot(context, n_contexts, dtype=i.dtype)
        predicted = (own[:, :, None] * i[:, None, :]).reshape(len(i), -1) @ u.reshape(-1, n_genes)  # (1)
    else:
        predicted = _multilinear(parameters, form.attention, i, parameters["context"][context], u)
    if not form.biases:
        return predicted
    gene = parameters["gene_bias"][context] if form.flat else parameters["gene_bias"]
    return predicted + gene + parameters["treatment_bias"][treatment][:, None] + parameters["bias"]


def _multilinear(parameters: Parameters, attention: Attention | None, i: Array, r: Array, u: Array) -> Array:
    """Return Eq. 2 or 3 without biases."""
    if attention is None:
        return (r * i) @ u.T  # (2)
    rank = u.shape[1]
    if attention == "product":
        products = (r * i)[:, None, :] * u
        return rank * jnp.sum(products * jax.nn.softmax(products, axis=2), axis=2)  # (3)
    alpha = _exponential(r @ parameters["w_context"] + i @ parameters["w_treatment"])
    beta = _exponential(u @ parameters["w_gene"])
    return rank * ((r * i * alpha) @ (u * beta).T) / (alpha @ beta.T)  # (4)


def _exponential(logits: Array) -> Array:
    """Take exponentials relative to the largest of a row, which leaves the softmax as it is.

    They stay so large that the sum in the denominator of Eq. 4 is never 0.
    """
    relative = logits - jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
    return jnp.exp(jnp.maximum(relative, _LEAST_LOGIT))


def loss(
    parameters: Parameters, form: Form, fibers: Fibers, real: Array, settings: Settings
) -> tuple[Array, tuple[Array, Array]]:
    """Return Eq. 5 without the decay; and the weighted sum of squares and the number of entries.

    ``real`` (n,) is False for fibers that only fill a minibatch up.
    """
    predicted = predict(parameters, form, fibers.treatment, fibers.context)
    known = ~jnp.isnan(fibers.values) & real[:, None]
    square = jnp.square(jnp.where(known, fibers.values - predicted, 0.0))
    if form.weighted:
        square = square * _entry_weights(fibers, settings)
    total, count = square.sum(), jnp.maximum(known.sum().astype(square.dtype), 1.0)
    mean = jnp.where(known, predicted, 0.0).sum() / count
    variance = jnp.square(jnp.where(known, predicted - mean, 0.0)).sum() / count
    return total / count - settings.variance_weight * variance, (total, count)  # (5)


def _entry_weights(fibers: Fibers, settings: Settings) -> Array:
    """Return the weight of every entry's category."""
    y = fibers.values
    low, mild, high, top = jnp.moveaxis(settings.cutoffs[fibers.context], 1, 0)[:, :, None]
    weight = jnp.broadcast_to(settings.weights[0], y.shape)
    for category, above in enumerate((y >= low, y >= mild, y > high, y > top), start=1):
        weight = jnp.where(above, settings.weights[category], weight)
    return weight


predict_fibers = jax.jit(predict, static_argnames="form")
