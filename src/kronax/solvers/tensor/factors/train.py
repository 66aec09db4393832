"""Factors trained by Adam on minibatches of whole fibers, with early stopping on held-out ones."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.device import to_device, to_host
from kronax.solvers.status import Status, ended
from kronax.solvers.tensor.factors.model import Fibers, Form, Parameters, Settings, loss
from kronax.solvers.tensor.factors.options import FactorizationOptions
from kronax.solvers.tensor.folds import fiber_folds

ADAM = optax.scale_by_adam()
_UNLIKE = 0.1  # standard deviation of the contexts' initial factors for ``start="alike"``
_SIZE = 0.3  # standard deviation of the first predictions, relative to that of the scaled values
_RESTING = 1 / 3  # share of the epochs, the last ones, in which the learning rate falls
_LEAST_SPARE = 4  # fibers of treatments measured twice: with fewer, none are held out


class Task(NamedTuple):
    """What is trained on, and how."""

    values: np.ndarray  # (D, C, G), scaled
    some: np.ndarray  # (D, C): fibers with a measured entry
    held_out: np.ndarray  # (D, C)
    form: Form
    settings: Settings
    options: FactorizationOptions
    progress: bool


class Run(NamedTuple):
    """Trained parameters, and how training went; ``n_best`` is the number of epochs that led to them."""

    form: Form
    number: int  # of the start
    parameters: dict[str, np.ndarray]
    held_out_loss: np.ndarray
    n_best: int
    status: Status

    @property
    def loss(self) -> float:
        """What starts are compared by."""
        trace = self.status.objective if np.isnan(self.held_out_loss).all() else self.held_out_loss
        return float(trace[self.n_best - 1])


def train(task: Task, number: int, n_epochs: int | None = None, start: dict[str, np.ndarray] | None = None) -> Run:
    """Train until the predictions of held-out fibers no longer improve, or for a number of epochs on all fibers."""
    options, rng = task.options, np.random.default_rng((task.options.random_state, number))
    where = np.nonzero(task.some)
    fibers = Fibers(to_device(task.values[where], np.float32), *(to_device(a, np.int32) for a in where))
    out = task.held_out[where] if n_epochs is None else np.zeros(len(where[0]), bool)
    in_training, held = np.flatnonzero(~out), to_device(batches_of(np.flatnonzero(out), options.batch_size))
    parameters = (
        start_of(task, rng) if start is None else {name: to_device(a.copy()) for name, a in start.items()}
    )  # reused
    state = ADAM.init(parameters)
    trace, held_trace, best, n_best = [], [], parameters, 0
    limit = options.max_epochs if n_epochs is None else n_epochs
    patient = True
    with tqdm(total=limit, desc=task.form.name, unit="epoch", delay=2, leave=False, disable=not task.progress) as bar:
        while patient and len(trace) < limit:
            batches = batches_of(rng.permutation(in_training), options.batch_size)
            settings = task.settings if out.any() else _coming_to_rest(task.settings, len(trace), limit)
            parameters, state, value, error = train_epoch(parameters, state, task.form, fibers, batches, held, settings)
            value, error = float(to_host(value)), float(to_host(error))
            trace.append(value)
            held_trace.append(error if out.any() else np.nan)
            for found in (value, error):
                _require_finite(found, len(trace), task)
            losses = {"training": trace[-1]} | ({"held_out": held_trace[-1]} if out.any() else {})
            bar.set_postfix({name: f"{value:.4g}" for name, value in losses.items()}, refresh=False)
            bar.update()
            if not out.any() or held_trace[-1] <= np.min(held_trace):
                n_best = len(trace)
                best = jax.tree.map(jnp.copy, parameters) if out.any() else parameters
            patient = len(trace) - n_best < options.patience
    reason = _reason(options, len(trace), n_best, bool(out.any()))
    arrays = {name: to_host(value).copy() for name, value in best.items()}
    status = ended(not patient or not out.any(), reason, trace)
    return Run(task.form, number, arrays, np.array(held_trace), n_best, status)


def refitted(task: Task, run: Run) -> dict[str, np.ndarray]:
    """Return parameters trained further, on all fibers, for as many epochs as held-out ones chose.

    Training continues from where the held-out fibers were predicted best. Started anew, without held-out fibers to stop it, it
    could reach another minimum: one, say, in which large components cancel where little was measured, and err where nothing
    was.
    """
    return train(task, run.number, run.n_best, run.parameters).parameters


def held_out_errors(task: Task, run: Run) -> np.ndarray:
    """Compute the weighted mean squared error of every held-out fiber at the best epoch."""
    where = np.nonzero(task.held_out)
    fibers = Fibers(to_device(task.values[where], np.float32), *(to_device(a, np.int32) for a in where))
    parameters = {name: to_device(value) for name, value in run.parameters.items()}
    rows = to_device(np.arange(len(where[0])), np.int32)
    return to_host(_fiber_errors(parameters, run.form, fibers, rows, task.settings))


@partial(jax.jit, static_argnames="form")
def _fiber_errors(parameters: Parameters, form: Form, fibers: Fibers, rows: Array, settings: Settings) -> Array:
    squares, number = jax.lax.map(lambda row: loss(parameters, form, *take(fibers, row[None]), settings)[1], rows)
    return squares / jnp.maximum(number, 1.0)


@partial(jax.jit, static_argnames="form", donate_argnames=("parameters", "state"))
def train_epoch(
    parameters: Parameters,
    state: optax.OptState,
    form: Form,
    fibers: Fibers,
    batches: np.ndarray,
    held_out: Array,
    settings: Settings,
) -> tuple[Parameters, optax.OptState, Array, Array]:
    """Make a step of Adam with every minibatch; return the mean loss of these, and the error of the held-out fibers."""

    def step(carry, batch):
        parameters, state = carry
        differentiated = jax.value_and_grad(loss, has_aux=True)
        (value, (_, count)), gradient = differentiated(parameters, form, *take(fibers, batch), settings)
        with jax.numpy_dtype_promotion("standard"):  # what optax is written for
            updates, state = ADAM.update(_decayed(gradient, parameters, settings), state)
        parameters = {n: p - settings.learning_rate * updates[n] for n, p in parameters.items()}
        for mode in form.non_negative:
            parameters[mode] = jnp.maximum(parameters[mode], 0.0)
        return (parameters, state), (value * count, count)

    (parameters, state), (losses, counts) = jax.lax.scan(step, (parameters, state), batches)
    squares, number = jax.lax.map(lambda batch: loss(parameters, form, *take(fibers, batch), settings)[1], held_out)
    return parameters, state, losses.sum() / counts.sum(), squares.sum() / jnp.maximum(number.sum(), 1.0)


def take(fibers: Fibers, batch: Array) -> tuple[Fibers, Array]:
    """Take the fibers of a minibatch; −1 is padding."""
    return jax.tree.map(lambda a: a[jnp.maximum(batch, 0)], fibers), batch >= 0


def _decayed(gradient: Parameters, parameters: Parameters, settings: Settings) -> Parameters:
    """Add the decay to a gradient."""

    def decay(name: str) -> Array:
        return settings.attention_decay if name.startswith("w_") else settings.weight_decay

    return {n: g if n.endswith("bias") else g + decay(n) * parameters[n] for n, g in gradient.items()}


def start_of(task: Task, rng: np.random.Generator) -> Parameters:
    """Draw factors whose products are small; attention starts with equal weights."""
    form, rank = task.form, task.options.rank
    n_treatments, n_contexts, n_genes = task.values.shape
    sizes = {"treatment": (n_treatments, rank)}
    if form.flat:
        sizes["gene"] = (n_contexts, rank, n_genes)
    else:
        sizes |= {"context": (n_contexts, rank), "gene": (n_genes, rank)}
    alike = task.options.start == "alike" and not form.flat
    spread = (_SIZE / np.sqrt(rank)) ** (1 / (2 if form.flat or alike else 3))
    parameters = {mode: rng.normal(scale=spread, size=size) for mode, size in sizes.items()}
    if alike:
        parameters["context"] = 1.0 + _UNLIKE * rng.normal(size=sizes["context"])
    for mode in form.non_negative:
        parameters[mode] = np.abs(parameters[mode])
    if form.attention == "additive":
        parameters |= {f"w_{mode}": np.zeros((rank, rank)) for mode in sizes}
    if form.biases:
        parameters["gene_bias"] = np.zeros((n_contexts, n_genes) if form.flat else n_genes)
        parameters |= {"treatment_bias": np.zeros(n_treatments), "bias": np.zeros(())}
    return {name: to_device(value, np.float32) for name, value in parameters.items()}


def held_out_fibers(some: np.ndarray, options: FactorizationOptions) -> np.ndarray:
    """Choose held-out fibers for early stopping; every treatment and context keeps a measured one."""
    n_spare = int(some[some.sum(axis=1) > 1].sum())
    n_wanted = options.held_out * some.sum()
    if n_wanted == 0 or n_spare < _LEAST_SPARE:
        return np.zeros_like(some)
    n_folds = int(np.clip(round(n_spare / n_wanted), 2, n_spare))
    held_out = next(iter(fiber_folds(some, n_folds, options.random_state)))
    held_out[:, ~(some & ~held_out).any(axis=0)] = False
    return held_out


def _coming_to_rest(settings: Settings, n_done: int, n_epochs: int) -> Settings:
    """Lower the learning rate, in a straight line to 0, in the last epochs."""
    share = min((n_epochs - n_done) / max(_RESTING * n_epochs, 1.0), 1.0)
    return settings._replace(learning_rate=settings.learning_rate * np.float32(share))


def batches_of(rows: np.ndarray, size: int) -> np.ndarray:
    """Deal rows into minibatches ``(n, size)``, the last filled up with −1; at least one."""
    n_batches = max(-(-len(rows) // size), 1)
    filled = np.full(n_batches * size, -1, np.int32)
    filled[: len(rows)] = rows
    return filled.reshape(n_batches, size)


def _reason(options: FactorizationOptions, n_epochs: int, n_best: int, stops: bool) -> str:
    """Return why training ended."""
    if not stops:
        return f"trained for {n_epochs} epochs; no fibers were held out"
    if n_epochs - n_best >= options.patience:
        return f"the held-out loss was lowest after epoch {n_best} and did not improve in the {options.patience} epochs after it"
    return f"training ended at its limit of {n_epochs} epochs; the held-out loss was lowest after epoch {n_best}"


def _require_finite(value: float, epoch: int, task: Task) -> None:
    """Stop where training has diverged."""
    if np.isfinite(value):
        return
    options = task.options
    msg = (
        f"The loss is {value} in epoch {epoch} of {task.form.name} with rank={options.rank}, "
        f"learning_rate={options.learning_rate:g}, weight_decay={options.weight_decay:g}, "
        f"variance_weight={options.variance_weight:g}, scale={options.scale!r}. Lower the learning rate or the variance "
        "weight, or scale the values."
    )
    raise FloatingPointError(msg)
