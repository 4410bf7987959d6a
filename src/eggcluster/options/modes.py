"""Checks of what a start mode cannot do."""

from collections.abc import Iterator

from eggcluster.options.cluster_options import ClusterOptions
from eggcluster.options.source import Naming


def check_recycling(options: ClusterOptions, name: Naming) -> Iterator[str]:
    """Memory is known of whole processes only."""
    if options.max_rss and options.start_mode != "process":
        yield (
            f"{name('max_rss')}: with {name('start_mode')} {options.start_mode} all workers share one process, and "
            "nobody can tell whose memory it is; use max_lifetime or max_requests"
        )
