"""Vectors of a low-rank matrix: held, or never formed where they are projections of rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kronax.solvers.device import on_all_cores
from kronax.solvers.rows.noise_free import NoiseFree

_COLUMNS, _AT_ONCE = 1024, 2  # of U multiplied at a time, and products held at the same time
_SMALL = 1024  # rows up to which the whole matrix is computed faster than some of its entries
_CHUNK = 2**22  # numbers gathered at a time
_CACHED = 2**16  # numbers that fit into a cache
_MOST_DOUBLE = 2**22  # numbers in U, beyond which it is in float32


def quadratic(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute ``U diag(w) Uᵀ``, (n, n), exactly symmetric: half a product for the positive weights, less half a one for the others."""

    def product(some: np.ndarray) -> np.ndarray:
        roots = vectors.take(some, axis=1)
        roots *= np.sqrt(np.abs(weights[some])).astype(roots.dtype)
        return roots @ roots.T  # of which NumPy computes half

    found = np.zeros((len(vectors),) * 2, vectors.dtype)
    for add, sign in ((np.add, 1.0), (np.subtract, -1.0)):
        which = np.flatnonzero(sign * weights > 0)
        pieces = [which[start : start + _COLUMNS] for start in range(0, len(which), _COLUMNS)]
        for start in range(0, len(pieces), _AT_ONCE):
            for some in on_all_cores(product, pieces[start : start + _AT_ONCE]):
                add(found, some, out=found)
    return found


class Vectors(ABC):
    """``U``, (n, r).

    Attributes
    ----------
    shape
        ``n`` and ``r``.
    still
        Marks of the rows that are zero, (n,).
    """

    shape: tuple[int, int]
    still: np.ndarray

    @abstractmethod
    def array(self) -> np.ndarray:
        """Return ``U``."""

    @abstractmethod
    def some(self, columns: np.ndarray) -> np.ndarray:
        """Return some columns of ``U``."""

    @abstractmethod
    def forms(self, weights: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``Σ_r w_r u_ir u_kr`` for ``k = i``, (n,), and for some pairs, float64."""

    @abstractmethod
    def with_constant(self) -> "Vectors":
        """Return ``[U, 1/√n]``, with 0 in the last column of rows that are zero."""

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """Compute ``Σ_r w_r u_ir²`` of every row, (n,), float64."""
        return self.forms(weights, (np.zeros(0, np.int64),) * 2)[0]

    def quadratic(self, weights: np.ndarray) -> np.ndarray:
        """Compute ``U diag(w) Uᵀ``, (n, n), float64, as precise as ``U``."""
        return quadratic(self.array(), weights).astype(np.float64, copy=False)


@dataclass(frozen=True)
class Held(Vectors):
    """Vectors in memory."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Return ``n`` and ``r``."""
        return self.values.shape

    @property
    def still(self) -> np.ndarray:
        """Mark the rows that are zero."""
        return ~self.values.any(axis=1)

    def array(self) -> np.ndarray:
        """Return ``U``."""
        return self.values

    def some(self, columns: np.ndarray) -> np.ndarray:
        """Return some columns of ``U``."""
        return self.values[:, columns]

    def forms(self, weights: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``Σ_r w_r u_ir u_kr``."""
        n, size = len(self.values), max(1, _CACHED // max(1, len(weights)))
        squares = [self.values[start : start + size].astype(np.float64) ** 2 @ weights for start in range(0, n, size)]
        if n <= _SMALL and len(pairs[0]):
            return np.concatenate(squares), ((self.values * weights) @ self.values.T)[pairs]
        return np.concatenate(squares), self._products(weights, *pairs)

    def _products(self, weights: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Multiply each of the rows with its partners, many at a time, in float64."""
        order, found = np.argsort(rows, kind="stable"), np.empty(len(rows))
        starts, size = np.flatnonzero(np.diff(rows[order], prepend=-1)), max(1, _CHUNK // max(1, len(weights)))
        for own in np.split(order, starts[1:]) if len(order) else []:
            row = self.values[rows[own[0]]] * weights
            for start in range(0, len(own), size):
                some = own[start : start + size]
                found[some] = self.values[cols[some]] @ row
        return found

    def with_constant(self) -> "Held":
        """Return ``[U, 1/√n]``."""
        constant = np.where(self.still, 0.0, len(self.values) ** -0.5).astype(self.values.dtype)
        return Held(np.column_stack([self.values, constant]))


@dataclass(frozen=True)
class Projected(Vectors):
    """``U = Z·right − 1·offsetᵀ``, with zeros in rows that do not vary: an ``n × r`` array is made only on demand.

    Attributes
    ----------
    z
        ``Z``, (n, m).
    right, offset
        (m, r) and (r,).
    varies
        Tells of ``Z`` which rows do, (n,); called when it is needed.
    """

    z: NoiseFree
    right: np.ndarray
    offset: np.ndarray
    varies: Callable[[NoiseFree], np.ndarray]

    @cached_property
    def still(self) -> np.ndarray:
        """Marks of the rows that do not vary."""
        return ~self.varies(self.z)

    @property
    def shape(self) -> tuple[int, int]:
        """Return ``n`` and ``r``."""
        return self.z.shape[0], self.right.shape[1]

    def array(self) -> np.ndarray:
        """Return ``U``."""
        values = self.z.products(self.right, self.offset, self._dtype())
        values[self.still] = 0.0
        return values

    def some(self, columns: np.ndarray) -> np.ndarray:
        """Return some columns of ``U``."""
        return replace(self, right=self.right[:, columns], offset=self.offset[columns]).array()

    def forms(self, weights: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``Σ_r w_r u_ir u_kr``."""
        dtype, weighted_offset = self._dtype(), weights * self.offset
        inner, linear = quadratic(self.right.astype(dtype, copy=False), weights), self.right @ weighted_offset
        constant = float(weighted_offset @ self.offset)
        squares, products = self.z.forms(inner, linear, constant, pairs, dtype)
        none = self.still[pairs[0]] | self.still[pairs[1]]
        return np.where(self.still, 0.0, squares), np.where(none, 0.0, products)

    def with_constant(self) -> "Projected":
        """Return ``[U, 1/√n]``."""
        n, m = self.z.shape
        offset = np.append(self.offset, -(n**-0.5))
        return replace(self, right=np.column_stack([self.right, np.zeros(m)]), offset=offset)

    def _dtype(self) -> type:
        return np.float32 if np.prod(self.shape, dtype=float) > _MOST_DOUBLE else np.float64


@dataclass(frozen=True)
class Joined(Vectors):
    """Vectors and others beside them, in one array only where one is asked for."""

    first: Vectors
    others: Vectors

    @property
    def shape(self) -> tuple[int, int]:
        """Return ``n`` and ``r``."""
        return self.first.shape[0], self.first.shape[1] + self.others.shape[1]

    @property
    def still(self) -> np.ndarray:
        """Mark the rows that are zero."""
        return self.first.still & self.others.still

    def array(self) -> np.ndarray:
        """Return ``U``."""
        first = self.first.array()
        return np.hstack([first, self.others.array().astype(first.dtype, copy=False)])

    def some(self, columns: np.ndarray) -> np.ndarray:
        """Return some columns of ``U``."""
        return self.array()[:, columns]

    def forms(self, weights: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``Σ_r w_r u_ir u_kr``."""
        own, of_others = self._split(weights)
        found = zip(self.first.forms(own, pairs), self.others.forms(of_others, pairs), strict=True)
        squares, products = (one + other for one, other in found)
        return squares, products

    def quadratic(self, weights: np.ndarray) -> np.ndarray:
        """Compute ``U diag(w) Uᵀ``."""
        own, of_others = self._split(weights)
        found = self.first.quadratic(own)
        found += self.others.quadratic(of_others)
        return found

    def with_constant(self) -> "Joined":
        """Return ``[U, 1/√n]``."""
        constant = np.where(self.still, 0.0, self.shape[0] ** -0.5)
        return replace(self, others=Joined(self.others, Held(constant[:, None])))

    def _split(self, weights: np.ndarray) -> list[np.ndarray]:
        return np.split(weights, [self.first.shape[1]])
