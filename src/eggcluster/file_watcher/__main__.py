"""The entry of the file watcher: `python -m eggcluster.file_watcher SOCKET_FD NAME`. Only the master starts it."""

from eggcluster.kernel.process_adoption import die_with_parent

die_with_parent()  # before the other imports, during which nothing else would end it

from eggcluster.file_watcher.watching import main  # noqa: E402
from eggcluster.kernel.process_end import run_and_exit  # noqa: E402

run_and_exit(main)
