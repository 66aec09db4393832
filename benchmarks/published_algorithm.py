"""The algorithm of the MED-MAGMA paper: as corrected here, and in the package published with it. See README.md.

The paper's own simulation (section 4.1): one draw of a Kronecker-sum Gaussian on two Barabási–Albert trees, rows and columns
multiplied by powers of χ² variables. Pairs are ranked by the absolute value of the precision, as in the paper, and the area
under the precision–recall curve is given by steps and by trapezoids; mean of both graphs and of all draws.
"""

import argparse
import logging
import time
from typing import NamedTuple

import numpy as np
import peers
from anndata import AnnData
from gene_graphs import AREAS
from report import header, progress, table

import kronax as kx

METHODS = ["MED_MAGMA_2026", "package", "default"]
COLUMNS = ["signs", "noise strength", *METHODS]


class Outcome(NamedTuple):
    """Both precisions, steps of EM, whether they converged, and the time."""

    psi: np.ndarray
    phi: np.ndarray
    n_steps: int
    converged: bool
    seconds: float


def main() -> None:
    args = arguments()
    peers.require_published()
    logging.getLogger("kronax").setLevel("WARNING")
    print(header())
    areas, course = {name: [] for name in AREAS}, []
    methods = dict(zip(METHODS, (preset, package, default), strict=True))
    preset(simulated(args.shape, "positive", 0.0, 0))  # compiles
    for signs in ("positive", "random"):
        for noise in args.noise:
            progress(f"{signs} signs, noise strength {noise:g}")
            found = {name: [] for name in METHODS}
            for seed in range(args.seeds):
                adata = simulated(args.shape, signs, noise, seed)
                for name, method in methods.items():
                    found[name].append((method(adata), adata))
            for title, area in AREAS.items():
                scores = [f"{mean_area(area, found[name]):.3f}" for name in METHODS]
                areas[title].append([signs, f"{noise:g}", *scores])
            for name in METHODS[:2]:
                runs = [run for run, _ in found[name]]
                steps = [run.n_steps for run in runs]
                n_converged = sum(run.converged for run in runs)
                seconds = np.median([run.seconds for run in runs])
                row = [signs, f"{noise:g}", name, f"{min(steps)}–{max(steps)}", f"{n_converged} of {len(runs)}"]
                course.append([*row, f"{seconds:.2f}"])
    size = f"{args.shape[0]} × {args.shape[1]}"
    for title, rows in areas.items():
        print("\n" + table(f"{title}, {size}, mean of both graphs", COLUMNS, rows, markdown=args.markdown))
    columns = ["signs", "noise strength", "", "EM steps", "converged", "seconds"]
    print("\n" + table(f"Course, {size}", columns, course, markdown=args.markdown))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(200, 201), help="rows and columns (default: 200 201)")
    parser.add_argument("--noise", type=float, nargs="+", default=(0.0, 0.5, 1.0), help="noise strengths")
    parser.add_argument("--seeds", type=int, default=3, help="matrices drawn per line (default: 3)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def simulated(shape: tuple[int, int], signs: str, noise: float, seed: int) -> AnnData:
    return kx.datasets.kronecker_sum(*shape, signs=signs, noise=noise, random_state=seed)


def preset(adata: AnnData) -> Outcome:
    return kronax(adata, **kx.tl.MED_MAGMA_2026)


def default(adata: AnnData) -> Outcome:
    """Run kronax with its defaults, but for the means: the simulated matrices have none."""
    return kronax(adata, center=False)


def kronax(adata: AnnData, **arguments) -> Outcome:
    start = time.perf_counter()
    found = kx.tl.med_magma(adata, n_neighbors=None, **arguments, copy=True)
    seconds = time.perf_counter() - start
    psi, phi = (part["med_magma_precision"].toarray() for part in (found.obsp, found.varp))
    return Outcome(psi, phi, int(found.uns["med_magma"]["n_iter"]), bool(found.uns["med_magma"]["converged"]), seconds)


def package(adata: AnnData) -> Outcome:
    found = peers.published_precisions(adata.X)
    psi, phi = (0.5 * (matrix + matrix.T) for matrix in (found.psi, found.phi))
    return Outcome(psi, phi, found.n_steps, found.converged, found.seconds)


def mean_area(area, runs: list[tuple[Outcome, AnnData]]) -> float:
    return float(
        np.mean(
            [
                area(estimate, truth)
                for found, adata in runs
                for estimate, truth in ((found.psi, adata.obsp["truth"]), (found.phi, adata.varp["truth"]))
            ]
        )
    )


if __name__ == "__main__":
    main()
