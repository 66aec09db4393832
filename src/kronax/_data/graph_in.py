"""What the graph methods take: arguments, and one matrix of cells × features, or one of every modality.

An AnnData object holds one matrix. A MuData object holds one for every modality, whose cells are matched by name.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import objects
from kronax._data.chunks import read_any
from kronax._data.matrix import Counts, place
from kronax._logging import logger, warn
from kronax.solvers import checks, device
from kronax.solvers.gaussian import m_step
from kronax.solvers.medmagma import em, shared_rows
from kronax.solvers.rows import connected
from kronax.solvers.scales.laplace import Laplace

PENALTIES = ("shrinkage", "ridge", "l1")
GRAPHS = ("both", "cells", "genes")
METRICS = {"affinity": "cosine", "partial_correlation": "partial correlation", "absolute": "absolute precision"}
Layer = str | None | Mapping[str, str | None]  # in every modality, or by its name; None for X
STRONGEST_RIDGE = 1e10  # beyond it, rounding is all that is left of the structure
FEWEST_NEIGHBORS = 2
LARGEST_Q = 0.3  # q-values beyond p-values of .3 are not ranked
MOST_WITH_PRECISION = 5_000  # cells; with more, their precision takes up to half of the time
_SPIKE_INS = r"ERCC[-_]\d{5}"  # External RNA Controls Consortium; the genes ERCC1 to ERCC8 are not among them


@dataclass(frozen=True)
class Matrices:
    """What was read.

    Attributes
    ----------
    counts
        The matrix of every modality; of an AnnData object one, under the name ``""``.
    members
        For each, the positions of its rows among the cells that take part.
    cells
        Positions in the object of the cells that take part: those with a non-zero value in some matrix.
    n_obs
        Number of cells of the object.
    """

    counts: dict[str, Counts]
    members: dict[str, np.ndarray]
    cells: np.ndarray
    n_obs: int

    @property
    def in_memory(self) -> bool:
        """Whether all matrices are in memory."""
        return all(found.in_memory for found in self.counts.values())


def modalities(data: AnnData | MuData) -> dict[str, AnnData]:
    """Name the AnnData objects that hold the matrices."""
    return dict(data.mod) if isinstance(data, MuData) else {"": data}


def layers_of(data: AnnData | MuData, layer: Layer) -> dict[str, str | None]:
    """Return the layer of every modality, by the names of :func:`modalities`."""
    names = list(modalities(data))
    if not isinstance(layer, Mapping):
        return dict.fromkeys(names, layer)
    if not isinstance(data, MuData):
        msg = f"`layer` must be a str or None for an AnnData object; a mapping is for modalities, found {layer!r}."
        raise TypeError(msg)
    for name in layer:
        checks.known(name, names, "modality")
    missing = [name for name in names if name not in layer]
    if missing:
        msg = f"`layer` names no layer of {', '.join(map(repr, missing))}; None stands for `X`. Found {dict(layer)!r}."
        if layer:
            msg += (
                f" To leave modalities out: `mudata.MuData({{name: mdata[name].copy() for name in {tuple(layer)}}})`."
            )
        raise ValueError(msg)
    return {name: layer[name] for name in names}


def _require_layers(mdata: MuData, layers: dict[str, str | None]) -> None:
    """Require every modality's layer; the remedy is a mapping."""
    there = {name: layer if layer in mdata.mod[name].layers else None for name, layer in layers.items()}
    remedy = f"Layers can differ between modalities: `layer={there}`, where None stands for `X`."
    for name, layer in layers.items():
        if layer is not None:
            more = remedy if any(there.values()) else ""
            objects.key_in(layer, mdata.mod[name].layers, f"mdata[{name!r}].layers", more)


def read(data: AnnData | MuData, layer: Layer) -> Matrices:
    """Check and copy the matrix of every modality."""
    if not isinstance(data, MuData):
        objects.is_anndata(data, "an AnnData or MuData object", backed=True)
        counts = _read_one(data, layers_of(data, layer)[""], "adata")
        return Matrices({"": counts}, {"": np.arange(len(counts.cells))}, counts.cells, data.n_obs)
    objects.is_multimodal(data)
    layers = layers_of(data, layer)
    _require_layers(data, layers)
    counts = {name: _read_one(part, layers[name], f"mdata[{name!r}]") for name, part in data.mod.items()}
    at = {name: data.obs_names.get_indexer(data.mod[name].obs_names[found.cells]) for name, found in counts.items()}
    cells = np.unique(np.concatenate(list(at.values())))
    return Matrices(counts, {name: np.searchsorted(cells, where) for name, where in at.items()}, cells, data.n_obs)


def _read_one(adata: AnnData, layer: str | None, of: str) -> Counts:
    """Read the matrix of one object, which need not be in memory."""
    counts = read_any(adata, layer, of)
    n, p = counts.rows.shape
    if counts.in_memory or n > p:
        return counts
    # genes × genes is then the larger side, and the passes go over genes
    msg = (
        f"{place(layer, of)} has {checks.number(n, 'cell')} and {checks.number(p, 'gene')}. A matrix that is not in memory must have more cells "
        f"than genes: select genes, or load it with `{of} = {of}.to_memory()`."
    )
    raise ValueError(msg)


def require_in_memory(matrices: Matrices, graphs: str, **needing: bool) -> None:
    """Require that matrices are in memory, if anything needs it: the arguments whose value is True, or several modalities."""
    lazy = [name for name, found in matrices.counts.items() if not found.in_memory]
    if not lazy:
        return
    where = f"The matrix of `{f'mdata[{lazy[0]!r}]' if lazy[0] else 'adata'}` is not in memory"
    if needed := [f"`{name}`" for name, needs in needing.items() if needs]:
        one = len(needed) == 1
        msg = (
            f"{where}, which {', '.join(needed)} {'needs' if one else 'need'} as given. Leave "
            f"{'it at its default' if one else 'them at their defaults'}, or load the matrix with `to_memory()`."
        )
        raise ValueError(msg)
    if len(matrices.counts) > 1 and graphs != "cells":
        msg = (
            f"{where}. Of several modalities, learn graphs='cells' alone, or load the matrix with `to_memory()`; "
            f"found graphs={graphs!r}."
        )
        raise ValueError(msg)


def require(
    matrices: Matrices,
    n_neighbors: int | None,
    penalty: m_step.Penalty,
    laplace: Laplace | None = None,
    *,
    within: bool = False,
    own: bool = False,
) -> None:
    """Require a number of neighbours that the cells allow, and the memory that the work needs, also within groups, or such of its own."""
    n = len(matrices.cells)
    if n_neighbors is not None:
        if n <= FEWEST_NEIGHBORS:
            msg = (
                f"At least {FEWEST_NEIGHBORS + 1} cells with non-zero values are needed for {FEWEST_NEIGHBORS} neighbours "
                f"of each, found {n}. `n_neighbors=None` connects as few as 2."
            )
            raise ValueError(msg)
        why = f" ({n} cells have non-zero values)"
        checks.integer(n_neighbors, "n_neighbors", low=FEWEST_NEIGHBORS, high=n - 1, why=why)
    shapes = [found.rows.shape for found in matrices.counts.values()]
    needed = max(
        em.bytes_needed(
            *found.rows.shape,
            found.rows.n_entries if found.in_memory else 0,
            complete=n_neighbors is None,
            within=within or (own and em.groups_are_found(found.rows.shape)),
        )
        for found in matrices.counts.values()
    )
    if len(shapes) > 1:
        n_entries = sum(found.rows.n_entries for found in matrices.counts.values() if found.in_memory)
        needed += shared_rows.bytes_needed(n, sum(p for _, p in shapes), n_entries)
    if penalty.kind == "l1":
        needed += m_step.bytes_for_l1(n, sum(p for _, p in shapes))
    if laplace:
        needed += max(laplace.bytes_needed(*shape) for shape in shapes)
    remedies = ["Choose fewer genes with sc.pp.highly_variable_genes", "fewer cells"]
    remedies += ["a number for `n_neighbors`"] * (n_neighbors is None)
    remedies += ['penalty="shrinkage", which needs no cells × cells matrix'] * (penalty.kind == "l1")
    remedies += ["laplace=False"] * (laplace is not None)
    objects.memory(needed, ", or ".join(remedies) + ".")


def check(
    *,
    key_added: str,
    graphs: str,
    weights: str,
    cell_precision: bool | str,
    center: bool,
    n_comps: int,
    n_neighbors: int | None,
    random_state: int,
    q_max: float | None,
    penalty: str,
) -> None:
    """Check the parameters that all graph methods have."""
    checks.name(key_added, "key_added")
    checks.one_of(graphs, GRAPHS, "graphs")
    checks.one_of(weights, tuple(METRICS), "weights")
    checks.auto_or_boolean(cell_precision, "cell_precision")
    if cell_precision is True and graphs == "genes":
        msg = "cell_precision=True needs the graph of the cells: graphs='both' or 'cells', found graphs='genes'."
        raise ValueError(msg)
    checks.boolean(center, "center")
    checks.integer(n_comps, "n_comps", low=2)
    checks.integer(random_state, "random_state", low=0)
    if n_neighbors is not None:
        checks.integer(n_neighbors, "n_neighbors", low=FEWEST_NEIGHBORS)
    if q_max is not None:
        checks.positive(q_max, "q_max", high=LARGEST_Q)
        for other, found in (("graphs", graphs == "cells" and graphs), ("penalty", penalty == "l1" and penalty)):
            if found:
                msg = f"`q_max` chooses edges of the gene graph by their q-values, which there are not with {other}={found!r}."
                raise ValueError(msg)


def penalty(kind: str, strength: float | tuple[float, float] | None, *, joint: bool) -> m_step.Penalty:
    """Check the parameters of a penalty and put them together."""
    checks.one_of(kind, PENALTIES, "penalty")
    checks.boolean(joint, "joint")
    if strength is None:
        return m_step.Penalty(kind, None, joint)
    if kind == "shrinkage":
        msg = f"`strength` is for `penalty` 'ridge' or 'l1'; shrinkage finds its own. Found strength={strength!r}."
        raise ValueError(msg)
    both = strength if isinstance(strength, tuple | list | np.ndarray) else (strength,)
    if not 1 <= len(both) <= (2 if kind == "l1" else 1):
        msg = f"`strength` must be one number{', or two, for cells and genes' if kind == 'l1' else ''}, found {strength!r}."
        raise ValueError(msg)
    for value in both:
        checks.positive(value, "strength", high=1.0 if kind == "l1" else STRONGEST_RIDGE)
    return m_step.Penalty(kind, tuple(map(float, both)) if len(both) > 1 else float(both[0]), joint)


def needs_precision(graphs: str, weights: str, cell_precision: bool | str) -> bool:
    """Return whether precision matrices are needed, and not the embedding alone."""
    return graphs != "cells" or weights != "affinity" or cell_precision is True


def writes_cell_precision(
    cell_precision: bool | str, matrices: Matrices, graphs: str, weights: str, n_neighbors: int | None
) -> bool:
    """Return whether the precision of the cells is written; if that is left open, where it costs little beside the rest."""
    if cell_precision != "auto":
        return bool(cell_precision)
    if weights != "affinity":
        return True
    few = n_neighbors is None or len(matrices.cells) <= MOST_WITH_PRECISION
    return matrices.in_memory and graphs == "both" and few


def of_each(matrices: Matrices, penalty: m_step.Penalty) -> m_step.Penalty:
    """Return the penalty for a single matrix; a quick one will do for several, whose shared structure is fitted later."""
    quick = penalty.kind == "ridge" and penalty.strength is not None
    return penalty if quick or len(matrices.counts) == 1 else m_step.Penalty()


@contextmanager
def computing(matrices: Matrices) -> Iterator[None]:
    """Compute with the settings that kronax needs, and with as many LAPACK threads as pay off for the matrices."""
    size = max(min(found.rows.shape) for found in matrices.counts.values())
    with device.computing(), device.threads_for(size):
        yield


def log_start(method: str, matrices: Matrices) -> None:
    """Log in one line what is worked on and where."""
    where = device.current()
    for name, found in matrices.counts.items():
        (n, p), of = found.rows.shape, f" {name}:" if name else ""
        logger.info(
            "%s:%s %d cells × %d genes, %d non-zeros, float64 on %s", method, of, n, p, found.rows.n_entries, where
        )


def warn_of_spike_ins(data: AnnData | MuData, matrices: Matrices) -> None:
    """Warn of spike-ins, which the noise multiplies differently: relative to a cell's genes, they show its RNA content."""
    for name in matrices.counts:
        names = objects.texts((data[name] if name else data).var_names)
        spikes = [text for text in names if re.match(_SPIKE_INS, text)]
        if spikes:
            msg = (
                f"{checks.number(len(spikes), 'feature')}{f' of {name!r}' if name else ''} "
                f"{'is a spike-in' if len(spikes) == 1 else 'are spike-ins'} ({checks.listed(spikes, 3)}). The same amount was "
                "added to every cell, so relative to the other genes they show how much RNA a cell had, and the graphs will "
                "follow that. Leave them out before choosing variable genes: "
                '`adata = adata[:, ~adata.var_names.str.startswith("ERCC-")].copy()`.'
            )
            warn(msg)


def warn_of_negative(data: AnnData | MuData, matrices: Matrices, layer: Layer, power: float | None) -> None:
    """Warn, once, of values that noise may not have multiplied.

    The model has negative values, so they are no error. But a cell's scale multiplies its counts, not centred values or
    log-ratios: in these there is no scale to find.
    """
    layers = layers_of(data, layer)
    negative = {name: found.n_negative for name, found in matrices.counts.items()}
    found = [
        f"{count:,} of {matrices.counts[name].rows.n_entries:,} non-zero values of "
        f"{place(layers[name], f'mdata[{name!r}]' if name else 'adata')}"
        for name, count in negative.items()
        if count
    ]
    if not found:
        return
    raw = not isinstance(data, MuData) and data.raw is not None
    msg = (
        f"{' and '.join(found)} {'is' if sum(negative.values()) == 1 else 'are'} negative. "
        f"{'Values are therefore used as they are, without a power that compresses counts. ' if power is None else ''}"
        "If negative values come from centring, scaling or log-ratios, multiplicative noise is not removed: name a "
        "layer of counts or log-normalised values with `layer=…`, "
        f"{'take them from `adata.raw.to_adata()`, ' if raw else ''}or use kx.tl.gmgm, whose model has no such noise. "
        "Set a few stray ones to 0."
    )
    warn(msg)


def count_blocks(matrices: Matrices) -> int:
    """Count the blocks of cells and features, of all matrices together, that no non-zero value connects."""
    if not matrices.in_memory:
        return max(map(_blocks_of_one, matrices.counts.values()))  # modalities share cells
    if _hang_together(matrices):
        return 1
    entries = {name: found.matrix.tocoo() for name, found in matrices.counts.items()}
    rows = np.concatenate([matrices.members[name][matrix.row] for name, matrix in entries.items()])
    starts = np.cumsum([len(matrices.cells), *(matrix.shape[1] for matrix in entries.values())])
    cols = np.concatenate([start + matrix.col for start, matrix in zip(starts[:-1], entries.values(), strict=True)])
    edges = sparse.coo_array((np.ones(len(rows), np.int8), (rows, cols)), (starts[-1], starts[-1]))
    return int(sparse.csgraph.connected_components(edges, directed=False)[0])


def _blocks_of_one(counts: Counts) -> int:
    """Count the blocks of one matrix: the sample of its rows, if it connects all genes, connects all cells too."""
    if connected.hang_together(counts.sample if counts.sample is not None else counts.matrix):
        return 1
    return connected.count(counts.rows.results(connected.component_of_cols))


def _hang_together(matrices: Matrices) -> bool:
    """Return whether shared features connect all cells; where they do, as nearly always, a few steps show it."""
    patterns = {name: found.matrix.astype(bool) for name, found in matrices.counts.items()}
    reached, n_reached = np.arange(len(matrices.cells)) == 0, 0
    while n_reached < reached.sum():
        n_reached = reached.sum()
        for name, pattern in patterns.items():
            members = matrices.members[name]
            reached[members] |= pattern @ (pattern.T @ reached[members])
    return bool(reached.all())
