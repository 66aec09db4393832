"""Speed and memory from commit to commit. ``setup`` calls everything once, so that no compilation is timed."""

import time
from statistics import median

import scanpy as sc

import kronax as kx


class Pbmc68k:
    """The 700 cells × 765 genes that scanpy is shipped with."""

    timeout = 600

    def setup(self):
        self.adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
        kx.pp.quotient(self.adata)
        kx.tl.med_magma(self.adata)
        scanpy_graph(self.adata)

    def time_quotient(self):
        kx.pp.quotient(self.adata)

    def time_med_magma(self):
        kx.tl.med_magma(self.adata)

    def peakmem_med_magma(self):
        kx.tl.med_magma(self.adata)

    def track_med_magma_over_scanpy(self):
        """Median of five ratios, the calls in turns: the machine's load falls on both."""
        return median(seconds(kx.tl.med_magma, self.adata) / seconds(scanpy_graph, self.adata) for _ in range(5))

    track_med_magma_over_scanpy.unit = "ratio"


def scanpy_graph(adata):
    sc.pp.pca(adata)
    sc.pp.neighbors(adata)


def seconds(function, adata):
    start = time.perf_counter()
    function(adata)
    return time.perf_counter() - start
