"""Simulated counts of genes that regulate each other, for ``gene_networks.py``.

The model is that of SERGIO (Dibaeinia and Sinha 2020): the concentration ``x`` of a gene follows the chemical Langevin equation

    ``dx = (P − λx) dt + q(√P dW₁ + √(λx) dW₂)``,

with production ``P`` of a gene without regulators fixed in every cell type, and otherwise the sum of Hill functions of its regulators,
``k x²/(h² + x²)``, or ``k`` less that if they repress; ``h`` is the regulator's mean over the types.
"""

from dataclasses import dataclass

import numpy as np

DECAY = 0.8
STEP, STEPS = 0.02, 750
N_MANY, HISTORIES, FAR = 30_000, 1_200, 100  # cells, from so many histories, and steps between those of one


@dataclass(frozen=True)
class Network:
    """Regulators and targets, (edges, 2), among ``n_genes`` genes; acyclic."""

    edges: np.ndarray
    n_genes: int

    def directed(self) -> np.ndarray:
        """Which gene, in rows, regulates which, (genes, genes)."""
        found = np.zeros((self.n_genes, self.n_genes), dtype=bool)
        found[tuple(self.edges.T)] = True
        return found

    def unrelated(self) -> np.ndarray:
        """Which genes no path of one or two edges joins, whatever their directions, (genes, genes)."""
        joined = (self.directed() | self.directed().T).astype(int)
        return joined + joined @ joined == 0


@dataclass(frozen=True)
class Cells:
    """Counts, (cells, genes), and the type of every cell."""

    counts: np.ndarray
    types: np.ndarray


def random_network(n_genes: int, n_regulators: int, rng: np.random.Generator) -> Network:
    """Draw a network in which few regulators have most of the targets, and a target one to three regulators."""
    popularity, order = rng.pareto(1.2, n_regulators) + 0.3, rng.permutation(n_genes)
    edges = []
    for target in range(n_regulators // 2, n_genes):
        able = popularity[:target]
        n_own = min(1 + rng.binomial(2, 0.25), len(able))
        own = rng.choice(len(able), n_own, replace=False, p=able / able.sum())
        edges += [(order[regulator], order[target]) for regulator in own]
    return Network(np.array(edges), n_genes)


@dataclass(frozen=True)
class Regulation:
    """Who regulates whom, and how strongly.

    Attributes
    ----------
    network
        Regulators and their targets.
    strength, half
        ``k``, negative of those that repress, and ``h`` of every edge.
    production, steady
        Of genes that nothing regulates, and the concentrations of all genes without noise, (types, genes).
    """

    network: Network
    strength: np.ndarray
    half: np.ndarray
    production: np.ndarray
    steady: np.ndarray

    def later(self, x: np.ndarray, types: np.ndarray, steps: int, noise: float, rng: np.random.Generator) -> np.ndarray:
        """Return concentrations so many steps later."""
        production = self.production[types]
        for _ in range(steps):
            made, lost = production + _regulated(x, self.network, self.strength, self.half), DECAY * x
            drift = (made - lost) * STEP
            x = np.maximum(x + drift + noise * np.sqrt(STEP * (made + lost)) * rng.standard_normal(x.shape), 0)
        return x


def random_regulation(network: Network, n_types: int, rng: np.random.Generator) -> Regulation:
    """Draw strengths, and the production in every type of the genes that nothing regulates."""
    sources, targets = network.edges.T
    strength = rng.uniform(1, 5, len(sources)) * np.where(rng.random(len(sources)) < 0.4, -1, 1)
    shape = n_types, network.n_genes
    production = np.where(rng.random(shape) < 0.5, rng.uniform(0.5, 2, shape), rng.uniform(3, 5, shape))
    production[:, targets] = 0.0
    steady, half = _steady(network, production, strength)
    return Regulation(network, strength, half, production, steady)


def simulate(
    regulation: Regulation, n_each: int, noise: float, rng: np.random.Generator, apart: int | None = None
) -> Cells:
    """Draw concentrations of cells in the steady state of their type.

    Each has a history of its own; or all cells of a type are taken from one history, so many steps apart, as SERGIO does.
    """
    n_types, n_genes = regulation.steady.shape
    types = np.repeat(np.arange(n_types), n_each)
    histories = types if apart is None else np.arange(n_types)
    x = regulation.later(regulation.steady[histories], histories, STEPS, noise, rng)
    if apart is None:
        return Cells(x, types)
    cells = np.empty((n_types, n_each, n_genes))
    for number in range(n_each):
        x = cells[:, number] = regulation.later(x, histories, apart, noise, rng)
    return Cells(cells.reshape(len(types), -1), types)


def simulate_many(regulation: Regulation, noise: float, seed: int) -> np.ndarray:
    """Draw the concentrations of tens of thousands of cells, as many of every type; those of one history are nearly independent."""
    n_types, n_genes = regulation.steady.shape
    rng, histories = np.random.default_rng([seed, N_MANY]), np.repeat(np.arange(n_types), HISTORIES // n_types)
    x, cells = regulation.steady[histories], np.empty((N_MANY // len(histories), len(histories), n_genes))
    x = regulation.later(x, histories, STEPS, noise, rng)
    for drawn in cells:
        x = drawn[:] = regulation.later(x, histories, FAR, noise, rng)
    return cells.reshape(-1, n_genes)


def simulate_by_sergio(
    network: Network, n_types: int, n_each: int, apart: int, seed: int, of_noise: int | None = None
) -> Cells:
    """Let SERGIO itself (the package sergio-rs) draw concentrations, as this many times ``n_each`` steps of 0.01 hold them.

    ``seed`` is that of the regulation and, unless they have one, of the histories.
    """
    import sergio_rs

    rng, graph = np.random.default_rng(seed), sergio_rs.GRN()
    genes = [sergio_rs.Gene(name=str(number), decay=DECAY) for number in range(network.n_genes)]
    for source, target in network.edges:
        strength = float(rng.uniform(1, 5) * (-1 if rng.random() < 0.4 else 1))
        graph.add_interaction(reg=genes[source], tar=genes[target], k=strength, h=None, n=2)
    graph.set_mrs()
    levels = {"low_range": (0.5, 2), "high_range": (3, 5)}
    types = sergio_rs.MrProfile.from_random(graph, num_cell_types=n_types, seed=seed, **levels)
    sampling = {"num_cells": n_each, "safety_iter": 150, "scale_iter": apart, "dt": 0.01, "noise_s": 1}
    sampling["seed"] = seed if of_noise is None else of_noise
    drawn = sergio_rs.Sim(grn=graph, **sampling).simulate(types)
    counts = np.zeros((n_types * n_each, network.n_genes))
    counts[:, drawn[:, 0].cast(int).to_numpy()] = drawn[:, 1:].to_numpy().T
    return Cells(counts, np.repeat(np.arange(n_types), n_each))


def sequenced(cells: Cells, rng: np.random.Generator) -> Cells:
    """Draw counts: Poisson, of cells with unequal depth and genes that are caught unequally often."""
    n, p = cells.counts.shape
    mean = 0.3 * cells.counts * rng.lognormal(0, 0.4, (n, 1)) * rng.lognormal(0, 1, p)
    return Cells(rng.poisson(mean).astype(float), cells.types)


def _hill(x: np.ndarray, strength: np.ndarray, half: np.ndarray) -> np.ndarray:
    active = x**2 / (half**2 + x**2)
    return np.where(strength > 0, strength * active, -strength * (1 - active))


def _regulated(x: np.ndarray, network: Network, strength: np.ndarray, half: np.ndarray) -> np.ndarray:
    sources, targets = network.edges.T
    found = np.zeros(x.shape[::-1])
    np.add.at(found, targets, _hill(x[:, sources], strength, half).T)
    return found.T


def _steady(network: Network, production: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the concentrations of every type without noise, and ``h``, regulators before their targets."""
    sources, targets = network.edges.T
    steady, half = production / DECAY, np.ones(len(sources))
    waiting = set(targets)
    while waiting:
        ready = {gene for gene in waiting if not waiting.intersection(sources[targets == gene])}
        for gene in ready:
            for edge in np.flatnonzero(targets == gene):
                regulator = steady[:, sources[edge]]
                half[edge] = regulator.mean()
                steady[:, gene] += _hill(regulator, strength[edge], half[edge]) / DECAY
        waiting -= ready
    return steady, half
