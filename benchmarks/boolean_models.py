"""Curated models of regulation in development, simulated, for ``gene_networks.py``: those of BEELINE (Pratapa et al. 2020).

mCAD: cortical areas, Giacomantonio and Goodhill (2010). VSC: ventral spinal cord, Lovrics et al. (2014). HSC: blood,
Krumsiek et al. (2011). GSD: gonads, Ríos et al. (2015). A rule says when a gene is made: ``&`` and, ``|`` or, ``~`` not.

Concentrations follow the chemical Langevin equation of ``regulation.py``, with the production of a gene its rule in the fuzzy logic of
products, applied to Hill functions of the regulators. Every cell starts at random and is seen at a random time, so that some are
on their way and others at one of the model's steady states.
"""

import numpy as np
from regulation import DECAY, STEP, STEPS, Cells

MOST = 5.0  # production; half of the concentration that it sustains switches a regulator's targets
STEEPNESS = 10  # of the Hill functions, as in BEELINE
NOISE = 0.5
N_CELLS = 2000  # as in BEELINE

MODELS = {
    "mCAD": {
        "Fgf8": "Fgf8 & Sp8 & ~Emx2",
        "Emx2": "Coup & ~(Fgf8 | Pax6 | Sp8)",
        "Pax6": "Sp8 & ~(Emx2 | Coup)",
        "Coup": "~(Fgf8 | Sp8)",
        "Sp8": "Fgf8 & ~Emx2",
    },
    "VSC": {
        "Dbx1": "~(Nkx61 | Nkx62)",
        "Dbx2": "~(Nkx22 | Nkx61 | Olig2)",
        "Irx3": "~(Nkx22 | Olig2)",
        "Nkx22": "~(Dbx2 | Pax6)",
        "Nkx61": "~Dbx2",
        "Nkx62": "~(Dbx1 | Nkx61)",
        "Olig2": "~(Irx3 | Nkx22)",
        "Pax6": "~Nkx22",
    },
    "HSC": {
        "Gata2": "Gata2 & ~(Gata1 & Fog1) & ~Pu1",
        "Gata1": "(Gata1 | Gata2 | Fli1) & ~Pu1",
        "Fog1": "Gata1",
        "Eklf": "Gata1 & ~Fli1",
        "Fli1": "Gata1 & ~Eklf",
        "Scl": "Gata1 & ~Pu1",
        "Cebpa": "Cebpa & ~(Gata1 & Fog1 & Scl)",
        "Pu1": "(Cebpa | Pu1) & ~(Gata1 | Gata2)",
        "cJun": "Pu1 & ~Gfi1",
        "EgrNab": "Pu1 & cJun & ~Gfi1",
        "Gfi1": "Cebpa & ~EgrNab",
    },
    "GSD": {
        "UGR": "UGR & ~(NR5A1 | WNT4)",
        "CBX2": "UGR & ~(NR0B1 & WNT4 & CTNNB1)",
        "GATA4": "UGR | WNT4 | NR5A1 | SRY",
        "WT1mKTS": "UGR | GATA4",
        "WT1pKTS": "(UGR | GATA4) & ~(WNT4 & CTNNB1)",
        "NR5A1": "(UGR | CBX2 | WT1mKTS | GATA4) & ~(NR0B1 & WNT4)",
        "NR0B1": "(WT1mKTS | WNT4 & CTNNB1) & ~(NR5A1 & SOX9)",
        "SRY": "(NR5A1 & WT1mKTS & CBX2 | GATA4 & WT1pKTS & CBX2 & NR5A1 | SOX9 | SRY) & ~CTNNB1",
        "SOX9": "(SOX9 & FGF9 | SRY | PGD2 | SRY & CBX2 | GATA4 & NR5A1 & SRY) & ~(WNT4 | CTNNB1 | FOXL2)",
        "FGF9": "SOX9 & ~WNT4",
        "PGD2": "SOX9",
        "DMRT1": "(SRY | SOX9) & ~FOXL2",
        "DHH": "SOX9",
        "DKK1": "SRY | SOX9",
        "AMH": "(SOX9 & GATA4 & NR5A1 | SOX9 & NR5A1 & GATA4 & WT1mKTS) & ~(NR0B1 & CTNNB1)",
        "WNT4": "(GATA4 | CTNNB1 | RSPO1 | NR0B1) & ~(FGF9 | DKK1)",
        "RSPO1": "(WNT4 | CTNNB1) & ~DKK1",
        "FOXL2": "WNT4 & CTNNB1 & ~(DMRT1 | SOX9)",
        "CTNNB1": "(WNT4 | RSPO1) & ~(SRY | SOX9 & AMH)",
    },
}


class Truth(np.ndarray):
    """Degrees of truth from 0 to 1, as if all were independent."""

    def __and__(self, other: "Truth") -> "Truth":
        return self * other

    def __or__(self, other: "Truth") -> "Truth":
        return self + other - self * other

    def __invert__(self) -> "Truth":
        return 1 - self


def edges(rules: dict[str, str]) -> np.ndarray:
    """Return positions of regulators and targets, (edges, 2), without genes that regulate themselves."""
    names = list(rules)
    inputs = [(names.index(source), target) for target, rule in enumerate(_compiled(rules)) for source in rule.co_names]
    return np.array([(source, target) for source, target in inputs if source != target])


def simulate(rules: dict[str, str], n_others: int, rng: np.random.Generator) -> Cells:
    """Draw concentrations, genes of the model first, then others that nothing regulates."""
    compiled, n = _compiled(rules), len(rules)
    x = rng.uniform(0, MOST / DECAY, (N_CELLS, n + n_others))
    made = np.broadcast_to(rng.uniform(0.5, MOST, n + n_others), x.shape).copy()
    last = rng.integers(STEPS, size=(N_CELLS, 1))
    for step in range(STEPS):
        active = _hill(x[:, :n]).T.view(Truth)
        levels = dict(zip(rules, active, strict=True))
        made[:, :n] = MOST * np.stack([eval(rule, {}, levels) for rule in compiled], axis=1)
        lost = DECAY * x
        noise = NOISE * np.sqrt(STEP * (made + lost)) * rng.standard_normal(x.shape)
        x = np.where(step < last, np.maximum(x + (made - lost) * STEP + noise, 0), x)
    return Cells(x, np.zeros(N_CELLS, dtype=int))


def _hill(x: np.ndarray) -> np.ndarray:
    powers = (x / (MOST / DECAY / 2)) ** STEEPNESS
    return powers / (1 + powers)


def _compiled(rules: dict[str, str]) -> list:
    return [compile(rule, name, "eval") for name, rule in rules.items()]
