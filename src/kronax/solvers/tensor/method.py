"""What a method of tensor completion is: a solver, its options, what it needs and what it cannot do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kronax.solvers.device import computing
from kronax.solvers.tensor.completion import Completion, whole_fibers
from kronax.solvers.tensor.side import Side


@dataclass(frozen=True)
class Sought:
    """Where side information is found: keys of similarities, columns of coordinates with their scales, of weights, a layer."""

    treatment_similarities: tuple[str, ...] = ()
    context_similarity: str | None = None
    context_coordinates: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    standard_errors: str | None = None


class Options:
    """The options of a method: a frozen dataclass, which checks its fields as soon as it is made."""

    @property
    def sought(self) -> Sought:
        """The side information that the options name; most methods know of none."""
        return Sought()


@dataclass(frozen=True)
class Memory:
    """Bytes that a solve takes, and advice on how to need fewer, if its options allow that."""

    n_bytes: int
    remedy: str = ""


@dataclass(frozen=True)
class Advice:
    """What to change after a solve that has not converged: new values of options, and in words an alternative."""

    options: dict[str, Any]
    otherwise: str


@dataclass(frozen=True)
class Method:
    """A method of tensor completion.

    Attributes
    ----------
    solve
        ``solve(values, options, *, progress=False)``, from a tensor ``(D, C, G)`` with NaN to a :class:`Completion`. Of methods
        whose options can name side information, with ``side`` too.
    options
        The class of its options.
    needs
        ``needs(measured, options)``, from the mask of the measured entries to the :class:`Memory` that a solve takes. Raises
        a ValueError if the options ask for what the tensor does not allow.
    instead
        ``instead(options)``: what to do about treatments, contexts and genes of which nothing was measured, in words that
        follow "Leave them out, or". Empty where the method predicts them, by means or biases.
    advice
        ``advice(options)``, for solves that have not converged. None where all do.
    share
        ``share(values, fold, n_folds, options, *, n_at_once)``, with ``side`` like `solve`: what completions that each lack one fold
        need not find out by themselves, for every fold what `solve` takes as ``known``. None where there is nothing to share.
    """

    solve: Callable[..., Completion]
    options: type[Options]
    needs: Callable[[np.ndarray, Any], Memory]
    instead: Callable[[Any], str] = lambda _: ""
    advice: Callable[[Any], Advice] | None = None
    share: Callable[..., list[Any]] | None = None

    def __call__(
        self, values: np.ndarray, options: Any, *, progress: bool = False, side: Side | None = None, known: Any = None
    ) -> Completion:
        """Complete a tensor; ``side`` is the information that the options name, None if they name none."""
        more = {} if side is None else {"side": side}
        if known is not None:
            more["known"] = known
        with computing():
            return self.solve(values, options, progress=progress, **more)

    def known(
        self,
        values: np.ndarray,
        fold: np.ndarray,
        n_folds: int,
        options: Any,
        *,
        n_at_once: float,
        side: Side | None = None,
    ) -> list[Any]:
        """Return what the completions without each of the folds share, if they share anything; see :attr:`share`."""
        if self.share is None:
            return [None] * n_folds
        more = {} if side is None else {"side": side}
        with computing():
            return self.share(values, fold, n_folds, options, n_at_once=n_at_once, **more)


def tensors(copies: int, *, with_gaps: int = 0) -> Callable[[np.ndarray, Any], Memory]:
    """Return the ``needs`` of a method that takes so many tensors of float64.

    If single entries of profiles are missing, it takes ``with_gaps`` of them, if that is more.
    """

    def needs(measured: np.ndarray, options: Any) -> Memory:
        most = copies if whole_fibers(measured) else max(copies, with_gaps)
        return Memory(8 * most * measured.size)

    return needs


def more_iterations(options: Any) -> Advice:
    """Advise more iterations, or a goal that is easier to reach."""
    return Advice({"max_iter": 4 * options.max_iter}, f"a larger `tol` than {options.tol:g}")
