"""Options: what can be set, where it comes from, and whether it is right. Runs in the process that starts a cluster.

The other processes only receive `ResolvedOptions`. They do not pay for the rest (10 ms), which is imported at its first
use.
"""

from typing import TYPE_CHECKING

from eggcluster.options.cluster_options import AUTO, ClusterOptions, ResolvedOptions

if TYPE_CHECKING:
    from eggcluster.options.parse import parse_options
    from eggcluster.options.sources import CommandLine

__all__ = ["AUTO", "ClusterOptions", "CommandLine", "ResolvedOptions", "parse_options"]


def __getattr__(name: str) -> object:
    if name == "parse_options":
        from eggcluster.options.parse import parse_options

        return parse_options
    if name == "CommandLine":
        from eggcluster.options.sources import CommandLine

        return CommandLine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
