"""Do several modalities tell cell types apart better together? See README.md.

CITE-seq: cells are typed by four lineage proteins, which are then taken away, with their genes. What is left of proteins and
genes, each alone and both together, has to find the types.
"""

import argparse
import logging
from pathlib import Path

import mudata
import numpy as np
import peers
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from report import header, progress, table

import kronax as kx

LINEAGES = {"CD4": ("CD4",), "CD8": ("CD8A", "CD8B"), "CD19": ("CD19",), "CD11c": ("ITGAX",)}  # protein: genes
POSITIVE = 1.5  # centred log-ratio above which a cell has a lineage's protein; the two modes lie near 0 and 4
RESOLUTIONS = tuple(np.round(np.arange(0.1, 2.05, 0.1), 2))


def main() -> None:
    args = arguments()
    logging.getLogger("kronax").setLevel("WARNING")
    mdata = mudata.read_h5mu(args.data)
    rna, adt = mdata["rna"].copy(), mdata["adt"].copy()
    labels = typed(adt)
    known = labels != ""
    rna = rna[:, [not lineage_gene(name) for name in rna.var_names]].copy()
    sc.pp.filter_genes(rna, min_cells=3)
    logs = peers.log_normalized(rna)
    chosen = peers.variable_genes(logs)
    rna, logs = rna[:, chosen].copy(), logs[:, chosen].copy()
    adt = adt[:, [name not in LINEAGES for name in adt.var_names]].copy()
    kinds, sizes = np.unique(labels[known], return_counts=True)
    progress(f"{rna.n_vars} genes, {adt.n_vars} proteins; {dict(zip(map(str, kinds), map(int, sizes), strict=True))}")

    graphs = {}
    peers.scanpy_graph(logs)
    graphs["genes, scanpy"] = logs.obsp["connectivities"]
    for name, data in {"genes": rna, "proteins": adt, "genes and proteins": MuData({"rna": rna, "adt": adt})}.items():
        kx.tl.med_magma(data)
        graphs[f"{name}, kronax"] = data.obsp["med_magma_connectivities"]
    rows = [[name, *scores(graph[known][:, known], labels[known], args.seeds)] for name, graph in graphs.items()]
    print(header())
    columns = ["", "nominal assortativity", "best AMI", "AMI at resolution 1"]
    print(
        "\n"
        + table("Cell types by lineage proteins that the graphs have not seen", columns, rows, markdown=args.markdown)
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="an .h5mu file with modalities rna and adt, counts")
    parser.add_argument("--seeds", type=int, default=5, help="Leiden runs per resolution, averaged (default: 5)")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    return parser.parse_args()


def typed(adt: AnnData) -> np.ndarray:
    """Name the one lineage whose protein a cell has; the empty string where there are none or several."""
    logs = np.log1p(adt.to_df())
    ratio = logs.sub(logs.mean(axis=1), axis=0)
    positive = np.stack([ratio[name].to_numpy() > POSITIVE for name in LINEAGES], axis=1)
    return np.where(positive.sum(1) == 1, np.array(list(LINEAGES))[positive.argmax(1)], "")


def lineage_gene(name: str) -> bool:
    return name.rsplit("_", 1)[-1] in {gene for genes in LINEAGES.values() for gene in genes}


def scores(graph, labels: np.ndarray, n_seeds: int) -> list[str]:
    sweep = kx.metrics.ami_sweep(graph, labels=labels, resolutions=RESOLUTIONS, n_seeds=n_seeds)
    by_resolution = sweep.groupby("resolution")["ami"].mean()
    assortativity = kx.metrics.assortativity(graph, labels=labels)
    return [f"{value:.3f}" for value in (assortativity, by_resolution.max(), by_resolution[1.0])]


if __name__ == "__main__":
    main()
