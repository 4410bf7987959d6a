"""Checks of what a reload at a change of files needs. Runs in the process that starts a cluster."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

from eggcluster.options.cluster_options import ResolvedOptions
from eggcluster.options.sources import Naming
from eggcluster.wording import shown


def check_library(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that the library which waits for changes is installed."""
    if options.reload and find_spec("watchfiles") is None:
        yield (
            f'{name("reload")}: the library watchfiles is not installed; pip install "eggcluster[dev]", '
            "or use --no-reload, which works without"
        )


def check_dirs(options: ResolvedOptions, name: Naming) -> Iterator[str]:
    """Check that each directory to watch is there."""
    for directory in options.reload_dir if options.reload else ():
        if not os.path.isdir(directory):
            yield f"{name('reload_dir')}: {shown(directory)} is not a directory"
