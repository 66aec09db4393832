"""What the graph methods write: one graph of the cells and one of the features of every matrix.

Results for the cells of a MuData object are written to the object itself, those for features to their modality.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import batches, keys
from kronax._data.aside import Place, tell
from kronax._data.graph_in import METRICS, Matrices, count_blocks, layers_of, modalities, writes_cell_precision
from kronax._data.isolated import expand, expand_square, warn_of_isolated
from kronax._data.matrix import Counts, place
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear, of_cells, of_genes, params_of, without_none
from kronax._logging import logger, warn
from kronax.solvers import checks
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import Precision, Sparse, mean_diagonal
from kronax.solvers.gaussian.precision import complete as all_entries
from kronax.solvers.gaussian.within import Within
from kronax.solvers.graph.graph import Graph, of_pairs, on_edges, on_pairs, without_weak
from kronax.solvers.graph.partial_correlations import absolute_graph, graph_of_pairs, partial_correlation_graph
from kronax.solvers.graph.significance import PairTest, Samples
from kronax.solvers.graph.weights import Search, affinity_graph
from kronax.solvers.medmagma import em, shared_rows, variables
from kronax.solvers.status import Status

TESTS = ("p_value", "q_value")
ALL_CELLS = "q_value_all_cells"
# cells and features: with fewer, even the median direction, which is taken for noise, may hold structure
FEWEST_FOR_NOISE = 20


@dataclass(frozen=True)
class Learnt:
    """The structure of the cells and of every matrix, with the precisions that belong together."""

    cells: em.Axis
    parts: dict[str, em.Structure]
    features: dict[str, Precision | None]
    strength: tuple[float, ...]
    status: Status


def combine(
    matrices: Matrices, parts: dict[str, em.Structure], penalty: m_step.Penalty, *, progress: bool = False
) -> Learnt:
    """Let the matrices agree on one structure of the cells."""
    if len(parts) == 1:
        ((name, part),) = parts.items()
        features = {name: part.cols.precision}
        return Learnt(part.rows, parts, features, part.strength, part.status)
    embeddings = [part.rows.embedding for part in parts.values()]
    if any(part.spectrum is None for part in parts.values()):
        joint = shared_rows.joint_embedding(embeddings, list(matrices.members.values()), len(matrices.cells))
        status = _of_all({name: part.status for name, part in parts.items()})
        return Learnt(em.Axis(joint, None), parts, dict.fromkeys(parts), (np.nan,), status)
    shared = shared_rows.combine(
        [part.spectrum for part in parts.values()],
        embeddings,
        list(matrices.members.values()),
        len(matrices.cells),
        penalty=penalty,
        progress=progress,
    )
    ends = {name: part.status for name, part in parts.items()} | {"all together": shared.status}
    return Learnt(
        em.Axis(shared.embedding, shared.rows),
        parts,
        dict(zip(parts, shared.cols, strict=True)),
        shared.strength,
        _of_all(ends),
    )


def _of_all(ends: dict[str, Status]) -> Status:
    """Return the status of several solves, which has the objective of the last one."""
    short = [f"{name}: {status.reason}" for name, status in ends.items() if not status.converged]
    return replace(
        list(ends.values())[-1],
        converged=not short,
        reason="; ".join(short) or "every modality's solve and the joint one reached their goals",
    )


def cell_graph(
    learnt: Learnt,
    n_obs: int,
    n_neighbors: int | None,
    weights: str,
    search: Search | None,
    *,
    with_precision: bool,
    progress: bool,
) -> dict[str, sparse.csr_array]:
    """Return connectivities, distances and, if wanted, signed precision of the cells; complete if ``n_neighbors`` is None."""
    precision, n = learnt.cells.precision, len(learnt.cells.embedding)
    k = n - 1 if n_neighbors is None else n_neighbors
    if weights == "affinity":
        chosen = None if n_neighbors is None else search
        graph = affinity_graph(learnt.cells.embedding, k, search=chosen, progress=progress)
    else:
        sizes = [len(phi) for phi in learnt.features.values()]
        shift = np.average([mean_diagonal(phi) for phi in learnt.features.values()], weights=sizes)
        graph = _precision_graph(precision, float(shift), k, weights, progress)
    graph = without_weak(graph, epochs_of_umap(n_obs))
    return _matrices(graph, precision if with_precision else None, complete=n_neighbors is None)


def epochs_of_umap(n_obs: int) -> int:
    """Return UMAP's default number of epochs: it deletes edges this many times weaker than the strongest, in place."""
    return 500 if n_obs <= 10_000 else 200


def feature_graph(
    learnt: Learnt,
    name: str,
    found: Counts,
    n_neighbors: int | None,
    weights: str,
    q_max: float | None,
    *,
    progress: bool,
) -> tuple[dict[str, sparse.csr_array], np.ndarray | None]:
    """Return connectivities, distances and signed precision of one matrix' features and, unless that is sparse, p- and q-values.

    Where groups were found, also the q-values of all cells alone. With how many others every feature was tested comes second.
    """
    precision, shift = learnt.features[name], mean_diagonal(learnt.cells.precision)
    p = len(precision)
    if isinstance(precision, Sparse):
        graph = _precision_graph(precision, shift, min(n_neighbors or p, p - 1), weights, progress)
        return _matrices(graph, precision, complete=n_neighbors is None), None
    part = learnt.parts[name]
    estimates = variables.estimates(precision, part)
    samples = Samples(part.margins.skewness, part.margins.counts, found.rows.shape[0], estimates.along)
    of_all = estimates.of_all and PairTest(estimates.of_all, shift, samples)
    test = PairTest(estimates.tested, shift, samples._replace(spreads=estimates.spreads), of_all)
    if q_max is not None:
        pairs, estimates = test.edges(q_max), estimates.of_tested()
        graph = graph_of_pairs(estimates.joining, shift, pairs, absolute=weights == "absolute")
        graphs = _matrices(graph, None, complete=False) | {"precision": on_pairs(estimates.shown, pairs)}
        where = graphs["precision"]
    else:
        complete = n_neighbors is None
        k = p - 1 if complete else min(n_neighbors, p - 1)
        graph = _precision_graph(estimates.joining, shift, k, weights, progress)
        graphs = _matrices(graph, estimates.shown, complete=complete)
        of_tests = (some for some in (estimates.tested, estimates.of_all) if some is not None)
        where = sum(abs(all_entries(some)) for some in of_tests) if complete else graphs["precision"]
    graphs |= _values(test, where)
    if of_all and not estimates.named:  # the graph is of all cells, and so are its modules
        graphs[ALL_CELLS] = _values(of_all, where)["q_value"]
    return graphs, test.n_tested


def _values(test: PairTest, where: sparse.csr_array) -> dict[str, sparse.csr_array]:
    """Return p- and q-values where a symmetric matrix has entries, its diagonal left out."""
    rows, cols = sparse.triu(where, k=1, format="coo").coords
    found = test.values(rows, cols)
    return {kind: of_pairs(rows, cols, values, where.shape[0]) for kind, values in zip(TESTS, found, strict=True)}


def _precision_graph(precision: Precision, shift: float, k: int, weights: str, progress: bool) -> Graph:
    connect = absolute_graph if weights == "absolute" else partial_correlation_graph
    return connect(precision, shift, k, progress=progress)


def _matrices(graph: Graph, precision: Precision | None, *, complete: bool) -> dict[str, sparse.csr_array]:
    found = {"connectivities": graph.connectivities, "distances": graph.distances}
    if precision is None:
        return found
    return found | {"precision": all_entries(precision) if complete else on_edges(precision, graph)}


def write(
    data: AnnData | MuData,
    key_added: str,
    matrices: Matrices,
    learnt: Learnt,
    cells: dict[str, sparse.csr_array],
    features: dict[str, dict[str, sparse.csr_array]],
    n_tested: dict[str, np.ndarray | None],
    params: dict[str, Any],
    named: Mapping[str, batches.Named | None],
) -> None:
    """Write what was learnt, all at once; :func:`kronax.tl.med_magma` lists it."""
    tell(_make_room(data, key_added, learnt, cells, features))
    for name, part in modalities(data).items():
        _warn_of_orphans(part, key_added, features[name])
    names = keys.graph_keys(key_added)
    for kind, matrix in cells.items():
        data.obsp[getattr(names, kind)] = expand_square(matrix, matrices.cells, matrices.n_obs)
    if cells:
        _refuse_ingest(data.obsp[names.distances])
    data.obsm[names.obsm] = expand(learnt.cells.embedding, matrices.cells, matrices.n_obs)
    common = {
        "connectivities_key": names.connectivities,
        "distances_key": names.distances,
        **(
            {"precision_key": names.precision}
            if any("precision" in graph for graph in (cells, *features.values()))
            else {}
        ),
        **(
            {f"{kind}_key": getattr(names, kind) for kind in (*TESTS, "n_tested")}
            if any(tested is not None for tested in n_tested.values())
            else {}
        ),
        "params": without_none(params),
        "version": version("kronax"),
    }
    layers = layers_of(data, params["layer"])
    for name, part in modalities(data).items():
        found, fit = matrices.counts[name], learnt.parts[name]
        _write_features(part, names, found, fit, features[name], n_tested[name])
        of_batches = _write_batches(part, names, found, fit, named.get(name))
        part.uns[names.uns] = (
            common
            | {"params": without_none(params | {"layer": layers[name]}), "strength": np.array(learnt.strength)}
            | ({f"{ALL_CELLS}_key": names.q_value_all_cells} if ALL_CELLS in features[name] else {})
            | _report(fit, with_genes=bool(features[name]))
            | of_batches
        )
    if isinstance(data, MuData):
        of_features = {f"{kind}_key" for kind in (*TESTS, "n_tested")}
        data.uns[names.uns] = {key: value for key, value in common.items() if key not in of_features} | {
            **learnt.status.stored(),
            "strength": np.array(learnt.strength),
            "modalities": np.array(list(learnt.parts), dtype=str),
            "n_cells": np.array([len(found.cells) for found in matrices.counts.values()]),
        }


def _make_room(
    data: AnnData | MuData,
    key_added: str,
    learnt: Learnt,
    cells: dict[str, sparse.csr_array],
    features: dict[str, dict[str, sparse.csr_array]],
) -> dict[Place, Place]:
    """Remove an earlier result everywhere, and set aside what is the user's own; return the old and the new names."""
    parts = modalities(data)
    if isinstance(data, AnnData):
        (fit,), (graph,) = learnt.parts.values(), features.values()
        return clear(data, key_added, of_cells(key_added, cells) + _of_fit(key_added, fit, graph))
    moved = clear(data, key_added, of_cells(key_added, cells))
    for name, part in parts.items():
        moved |= clear(part, key_added, _of_fit(key_added, learnt.parts[name], features[name]))
    return moved


def _warn_of_orphans(part: AnnData, key_added: str, graph: dict[str, sparse.csr_array]) -> None:
    """Warn of gene modules whose graph was removed and not learnt again."""
    orphans = [
        f"`var[{key!r}]`"
        for key, entry in part.uns.items()
        if params_of(part, key).get("neighbors_key") == key_added and "agreement" in entry and key in part.var
    ]
    if orphans and not graph:
        warn(
            f"The modules in {checks.listed(orphans)} are of the gene graph that was under {key_added!r} before; graphs='cells' "
            "learns none. Delete them, or run with graphs='both' and kx.tl.gene_modules."
        )


def _of_fit(key_added: str, fit: em.Structure, graph: dict[str, sparse.csr_array]) -> list[Place]:
    return of_genes(key_added, graph, scales=isinstance(fit, em.Fit))


def _refuse_ingest(distances: sparse.csr_matrix) -> None:
    """Make scanpy's ingest, which needs rows of equal length, say why it fails: it begins by converting to lists.

    Only this object refuses: copies, parts and matrices read from a file behave as usual.
    """
    distances.tolil = _no_lists


def _no_lists(*_: Any, **__: Any) -> None:
    msg = (
        "scanpy.tl.ingest cannot use a graph of kronax: it needs the same number of neighbours for every cell, and coordinates "
        "of new cells, which kronax does not have. Run `sc.pp.neighbors(adata, key_added='for_ingest')` and pass "
        "`neighbors_key='for_ingest'`. To edit the distances as lists, take `.copy().tolil()`."
    )
    raise NotImplementedError(msg)


def _write_features(
    adata: AnnData,
    names: keys.GraphKeys,
    found: Counts,
    fit: em.Structure,
    graph: dict[str, sparse.csr_array],
    n_tested: np.ndarray | None,
) -> None:
    n, p = found.shape
    for kind, matrix in graph.items():
        adata.varp[getattr(names, kind)] = expand_square(matrix, found.genes, p)
    adata.varm[names.varm] = expand(fit.cols.embedding, found.genes, p)
    if n_tested is not None:
        adata.var[names.n_tested] = expand(n_tested, found.genes, p).astype(np.int64)
    if isinstance(fit, em.Fit):
        adata.obs[names.log_scale] = expand(fit.log_rows, found.cells, n, fill=np.nan)
        adata.var[names.log_scale] = expand(fit.log_cols, found.genes, p, fill=np.nan)


def _write_batches(
    adata: AnnData, names: keys.GraphKeys, found: Counts, fit: em.Structure, named: batches.Named | None
) -> dict[str, Any]:
    """Write the scale of every gene in every batch, and return what ``uns`` holds of the batches."""
    if not named:
        return {}
    logs = np.where(fit.offsets.n_entries > 0, fit.log_cols + fit.offsets.logs, np.nan)
    adata.varm[names.log_scale] = batches.table(adata, found, named, logs)
    return batches.report(named, fit.offsets)


def _report(fit: em.Structure, *, with_genes: bool) -> dict[str, Any]:
    """Return what ``uns`` holds of one fit."""
    tails = asdict(fit.tails) if isinstance(fit, em.Fit) else {}
    return (
        {**fit.status.stored(), "rank": fit.rank, "noise": fit.noise}
        | tails
        | (_cells_counted(fit) if with_genes else {})
    )


def _cells_counted(fit: em.Structure) -> dict[str, Any]:
    """Return how many independent cells the genes have seen and, if they were looked at within groups, of how many."""
    found = fit.spectrum
    if found is None or found.units is None:
        return {}
    counted = {"n_effective": found.independent * len(fit.rows.embedding)}
    return counted | ({"n_groups": len(found.within.between)} if found.within else {})


def _tell_of_cells(method: str, learnt: Learnt, *, asked: bool) -> None:
    """Log what was found out about the cells as samples of the genes; who asked for groups need not be told of them."""
    for name, part in learnt.parts.items():
        found, n = _cells_counted(part), len(part.rows.embedding)
        of = f"{method}:{f' {name}:' if name else ''}"
        if found.get("n_effective", n) < n:
            logger.info("%s many cells are alike: for the genes, %d count as %.0f", of, n, found["n_effective"])
        if "n_groups" in found:
            logger.info(
                "%s genes are looked at within %d %s", of, found["n_groups"], _kind_of_groups(part.spectrum.within)
            )
        elif method == "med_magma" and found and part.rank > 1 and not asked:
            logger.info(
                "%s genes are looked at in all cells together, which can join markers of one type; name types or clusters with "
                "`groupby=` to look within them too",
                of,
            )


def _kind_of_groups(within: Within) -> str:
    """Say what groups are, and where they count."""
    if within.named:
        return "groups of cells too"
    of = "clusters of cells, found here"
    return f"{of}, too" if em.groups_help(within.shape) else f"{of}, to test their edges"


def finish(
    data: AnnData | MuData,
    method: str,
    matrices: Matrices,
    parts: dict[str, em.Structure],
    penalty: m_step.Penalty,
    n_neighbors: int | None,
    settings: dict[str, Any],
    *,
    key_added: str,
    copy: bool,
    progress: bool,
    named: Mapping[str, batches.Named | None] = MappingProxyType({}),
    search: Search | None = None,
) -> AnnData | MuData | None:
    """Turn the structure of every matrix into graphs, and write them to the object or a copy of it.

    ``named`` are the batches of every matrix. ``search`` finds the neighbours of cells, all of them exactly if it is None.
    """
    for part in parts.values():
        scales = (part.log_rows, part.log_cols) if isinstance(part, em.Fit) else ()
        checks.finite(part.rows.embedding, part.cols.embedding, *scales)
    learnt = combine(matrices, parts, penalty, progress=progress)
    graphs, weights = settings["graphs"], settings["weights"]
    with_precision = writes_cell_precision(settings["cell_precision"], matrices, graphs, weights, n_neighbors)
    cells = (
        cell_graph(
            learnt,
            matrices.n_obs,
            n_neighbors,
            weights,
            search,
            with_precision=with_precision,
            progress=progress,
        )
        if graphs != "genes"
        else {}
    )
    features, n_tested = dict.fromkeys(parts, {}), dict.fromkeys(parts)
    for name in parts if graphs != "cells" else ():
        counts, q_max = matrices.counts[name], settings.get("q_max")
        found = feature_graph(learnt, name, counts, n_neighbors, weights, q_max, progress=progress)
        features[name], n_tested[name] = found
    checks.finite(*(matrix.data for graph in (cells, *features.values()) for matrix in graph.values()))
    params = {
        "method": method,
        "n_neighbors": len(matrices.cells) - 1 if n_neighbors is None else int(n_neighbors),
        "metric": METRICS[weights],
        "use_rep": keys.graph_keys(key_added).obsm,
        **settings,
    }
    data = data.copy() if copy else data
    with whole_or_nothing(data):
        write(data, key_added, matrices, learnt, cells, features, n_tested, params, named)
        for name, part in modalities(data).items():
            warn_of_isolated(part, matrices.counts[name], name)
            if named.get(name):
                batches.warn_of(named[name], parts[name].offsets, name)
        _warn(data, params, matrices, learnt, cells, features, penalty)
    if graphs != "cells":
        _tell_of_cells(method, learnt, asked=params.get("groupby") is not None)
    return data if copy else None


def _warn(
    data: AnnData | MuData,
    params: dict[str, Any],
    matrices: Matrices,
    learnt: Learnt,
    cells: dict[str, sparse.csr_array],
    features: dict[str, dict[str, sparse.csr_array]],
    penalty: m_step.Penalty,
) -> None:
    """Warn of what the user should know about the result."""
    found = [] if learnt.status.converged else [f"{params['method']} did not converge: {learnt.status.reason}."]
    remedy = " A smaller `strength` of the l1 penalty leaves some." if penalty.kind == "l1" else ""
    for name, part in learnt.parts.items():
        genes = f"features of {name!r}" if name else "genes"
        found += _near_zero(matrices, part, name, params) + _without_variance(data, matrices, part, name, params)
        if part.rank < 2 and min(matrices.counts[name].rows.shape) >= FEWEST_FOR_NOISE:
            found.append(
                f"{'Only one' if part.rank else 'No'} direction{name and f' of {name!r}'} rises above the noise: cells and "
                f"{genes} show no structure, and {'its graph means' if name else 'the graphs mean'} little."
            )
        if features[name] and not features[name]["connectivities"].nnz:
            found.append(f"The graph of the {genes} has no edge{_with_small_q(params, features[name])}.{remedy}")
    if cells and not cells["connectivities"].nnz:
        found.append(f"The graph of the cells has no edge.{remedy}")
    n_blocks = count_blocks(matrices)
    if n_blocks > 1:
        found.append(
            f"The non-zero values form {n_blocks} blocks without a cell or gene in common. Nothing can be compared between "
            "different blocks, including scales."
        )
    for msg in found:
        warn(msg)


def _with_small_q(params: dict[str, Any], graph: dict[str, sparse.csr_array]) -> str:
    """Say which edges were asked for, and how many of them are negative."""
    if (q_max := params.get("q_max")) is None:
        return ""
    n_negative = graph["q_value"].nnz // 2
    there = f"; its precision has {n_negative:,} negative ones" if n_negative else ""
    return f" with a positive partial correlation and q ≤ {q_max:g}{there}"


def _near_zero(matrices: Matrices, part: em.Structure, name: str, params: dict[str, Any]) -> list[str]:
    """Return a warning that counts the values taken for zeros, if there are any."""
    if not isinstance(part, em.Fit) or not part.tails.n_near_zero:
        return []
    n_entries = matrices.counts[name].rows.n_entries
    layer = params["layer"].get(name) if isinstance(params["layer"], Mapping) else params["layer"]
    where = place(layer, f"mdata[{name!r}]" if name else "adata")
    return [
        f"{part.tails.n_near_zero:,} of {n_entries:,} non-zero values of {where} are so small beside the others of their cell and "
        "gene that they were taken for zeros: otherwise, their logarithms would have decided the power for all. Estimated or corrected "
        "counts and pseudocounts have such values where counts have 0. Set them to 0, in counts with "
        f"`{where.strip('`')}[{where.strip('`')} < 0.5] = 0`, to be sure which are meant; with `power=…` all are used as "
        "they are."
    ]


def _without_variance(
    data: AnnData | MuData, matrices: Matrices, part: em.Structure, name: str, params: dict[str, Any]
) -> list[str]:
    """Return warnings that name cells and features without variance, which have no partial correlations."""
    if part.spectrum is None:
        return []
    adata, found = (data[name] if name else data), matrices.counts[name]
    sides = [("feature", adata.var_names, found.genes, part.spectrum.cols)]
    if params["weights"] != "affinity" and len(matrices.counts) == 1:
        sides.append(("cell", adata.obs_names, found.cells, part.spectrum.rows))
    said = []
    for kind, names, positions, vectors in sides:
        still = positions[vectors.still]
        if len(still):
            of = f" of {name!r}" if name else ""
            said.append(
                f"{checks.number(len(still), kind)}{of} ({checks.listed(names[still], 3)}) did not vary once scales and means "
                f"were removed, and {'has' if len(still) == 1 else 'have'} no edge."
            )
    return said
