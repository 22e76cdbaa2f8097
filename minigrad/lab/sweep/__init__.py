"""Sweeps: a grid of runs, on this machine or a cluster, that survives being killed.

    config = sweep.read(Path("sweep.toml"))
    report = sweep.run(config, "results")
    print(sweep.summary(config, report.rows))

config.py says what a grid is, folder.py what is on disk, local.py and cluster.py where runs are
done, coordinator.py how it goes together.
"""

from .cluster import Cluster
from .config import Config, Run, parse, read
from .coordinator import Report, run
from .errors import ClusterError, SweepError
from .folder import open_for_reading
from .local import LocalPool
from .outcome import summary

__all__ = [
    "Cluster", "ClusterError", "Config", "LocalPool", "Report", "Run", "SweepError",
    "open_for_reading", "parse", "read", "run", "summary",
]  # fmt: skip
