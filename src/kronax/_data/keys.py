"""Every name under which kronax stores something in an AnnData or MuData object."""

from typing import NamedTuple

MED_MAGMA = "med_magma"
GMGM = "gmgm"
EMBEDDING = "embedding"  # also the method of such graphs
SCANPY_DEFAULT = "neighbors"
QUOTIENT = "quotient"
GENE_MODULE = "gene_module"
MODULE_ACTIVITY = "module_activity"  # obsm and uns
GRAPH_ROBUSTNESS = "graph_robustness"  # uns
KRONECKER_SUM = "kronecker_sum"  # uns of simulated data
TRUTH = "truth"  # obsp and varp of simulated data
LATENT = "latent"  # layer of simulated data
SCALE = "scale"  # obs and var of simulated data
COMPLETED = "completed"  # layers
COMPLETION = "completion"  # uns of a MuData
N_PROFILES = "n_profiles"  # obs
MEASURED = "measured"  # obs
PREDICTED_VALUES = "predicted_values"  # of tables that the command line writes: how many of a row's values are
CONFIDENCE = "completion_confidence"  # obs
VARIANCE = "completion_variance"  # obs
FALLBACK = "completion_fallback"  # obs
INFORMATION = "completion_information"  # obs
NEXT = "next_experiment"  # obs
NEXT_EXPERIMENTS = "next_experiments"  # uns of a MuData
CONTEXTS = "contexts"  # uns of a MuData: what the user knows of them
OF_PROFILES = (MEASURED, CONFIDENCE, VARIANCE, FALLBACK, INFORMATION, NEXT)  # obs: of a treatment in a context
OF_EFFECTS = ("n_cells", "n_replicates", "effect_size", "acd", "p_value")  # obs: of a measurement
TREATMENT_FACTORS = "X_completion"  # obsm
GENE_FACTORS = "completion"  # varm
QUICKSTART_CLUSTERS = "med_magma_leiden"  # obs
QUICKSTART_UMAP = "X_med_magma_umap"  # obsm


MATRICES = ("connectivities", "distances", "precision")  # of a graph, fields of the following
OF_GENES = (*MATRICES, "p_value", "q_value", "q_value_all_cells")  # of a gene graph


class GraphKeys(NamedTuple):
    """Where a graph method with a given ``key_added`` writes."""

    uns: str  # uns: parameters, convergence, and the names below, as scanpy's neighbours have them
    connectivities: str  # obsp and varp
    distances: str  # obsp and varp
    precision: str  # obsp and varp
    p_value: str  # varp
    q_value: str  # varp
    q_value_all_cells: str  # varp; where groups of cells were found
    n_tested: str  # var
    obsm: str
    varm: str
    log_scale: str  # obs and var; with batches varm


def graph_keys(key_added: str) -> GraphKeys:
    """Return the names under which a graph method writes.

    scanpy looks for its default graph, ``uns["neighbors"]``, only under these two names, whatever the entry says.
    """
    prefix = "" if key_added == SCANPY_DEFAULT else f"{key_added}_"
    return GraphKeys(
        uns=key_added,
        connectivities=f"{prefix}connectivities",
        distances=f"{prefix}distances",
        precision=f"{key_added}_precision",
        p_value=p_value(key_added),
        q_value=q_value(key_added),
        q_value_all_cells=f"{q_value(key_added)}_all_cells",
        n_tested=f"{key_added}_n_tested",
        obsm=f"X_{key_added}",
        varm=key_added,
        log_scale=log_scale(key_added),
    )


def stability(key_added: str) -> str:
    """Return the name, in var, of the stability of every gene in its module."""
    return f"{key_added}_stability"


def p_value(key_added: str) -> str:
    """Return the name, in varp, of the p-values of gene edges."""
    return f"{key_added}_p_value"


def q_value(key_added: str) -> str:
    """Return the name, in varp, of the q-values of gene edges."""
    return f"{key_added}_q_value"


def log_scale(key_added: str) -> str:
    """Return the name, in obs and var, of the logarithms of cell and gene scales."""
    return f"{key_added}_log_scale"
