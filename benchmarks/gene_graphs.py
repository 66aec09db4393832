"""How well are the edges of known graphs recovered? See README.md.

Both graphs of a Kronecker-sum Gaussian are Barabási–Albert trees; one matrix is drawn, and its rows and columns are
multiplied by χ² noise. The area under the precision–recall curve ranks all pairs by the absolute value of the estimate.
"""

import argparse
import random

import igraph
import numpy as np
from report import header, progress, table
from scipy import sparse
from sklearn.metrics import average_precision_score

from kronax.solvers import em, m_step
from kronax.solvers.precision import dense


def main() -> None:
    args = arguments()
    rows = []
    for signs in ("positive", "random"):
        for noise in (0.0, 0.5, 1.0):
            progress(f"{signs} signs, noise strength {noise:g}")
            areas = np.mean([recovered(args.shape, signs, noise, seed) for seed in range(args.seeds)], axis=0)
            rows.append([signs, f"{noise:g}", *(f"{area:.4f}" for area in areas)])
    print(header())
    columns = [
        "signs",
        "noise strength",
        "kronax",
        "kronax, closed form only",
        "−ZZᵀ, −ZᵀZ after scaling",
        "−XXᵀ, −XᵀX",
    ]
    title = f"Area under the precision–recall curve, {args.shape[0]} × {args.shape[1]}, mean of both graphs"
    print("\n" + table(title, columns, rows, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(200, 201), help="rows and columns (default: 200 201)")
    parser.add_argument("--seeds", type=int, default=5, help="matrices drawn per line (default: 5)")
    parser.add_argument("--markdown", action="store_true", help="table in Markdown")
    return parser.parse_args()


def recovered(shape: tuple[int, int], signs: str, noise: float, seed: int) -> list[float]:
    """Draw a matrix and give the area under the curve of every method."""
    rng = np.random.default_rng(seed)
    truth = [tree_precision(n, signs, rng) for n in shape]
    x = draw(*truth, rng)
    x = x * rng.chisquare(1, (shape[0], 1)) ** noise * rng.chisquare(1, (1, shape[1])) ** noise
    scaled = x.copy()
    for axis in (1, 0) * 200:
        scaled /= np.sqrt(np.mean(scaled**2, axis=axis, keepdims=True))
    estimates = [fitted(x), closed_form(x), (scaled @ scaled.T, scaled.T @ scaled), (x @ x.T, x.T @ x)]
    return [np.mean([area(found, true) for found, true in zip(pair, truth, strict=True)]) for pair in estimates]


def fitted(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = em.fit(sparse.csr_array(x), center=False)
    return dense(found.rows.precision), dense(found.cols.precision)


def closed_form(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit without cross-validation, whatever the shape."""
    before, m_step.NEARLY_SQUARE = m_step.NEARLY_SQUARE, 0
    try:
        return fitted(x)
    finally:
        m_step.NEARLY_SQUARE = before


def tree_precision(n: int, signs: str, rng: np.random.Generator) -> np.ndarray:
    """Give ``D^-½ A D^-½ / 1.1 + I`` for a Barabási–Albert tree ``A``, as in the MED-MAGMA paper, or with random signs."""
    random.seed(int(rng.integers(2**31)))
    adjacency = np.array(igraph.Graph.Barabasi(n, 1).get_adjacency().data, dtype=float)
    adjacency = np.maximum(adjacency, adjacency.T)
    degree = adjacency.sum(axis=1)
    if signs == "random":
        upper = np.triu(rng.choice([-1.0, 1.0], size=(n, n)), 1)
        adjacency *= upper + upper.T
    return adjacency / np.sqrt(np.outer(degree, degree)) / 1.1 + np.eye(n)


def draw(psi: np.ndarray, phi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix whose precision is the Kronecker sum of two matrices."""
    (lam, u), (mu, v) = np.linalg.eigh(psi), np.linalg.eigh(phi)
    return u @ (rng.normal(size=(len(lam), len(mu))) / np.sqrt(lam[:, None] + mu)) @ v.T


def area(estimate: np.ndarray, truth: np.ndarray) -> float:
    pairs = np.triu_indices(len(truth), 1)
    return average_precision_score(truth[pairs] != 0, np.abs(estimate[pairs]))


if __name__ == "__main__":
    main()
