"""The entry of a template: `python -m eggcluster.template CONTROL_FD NAME`. Only process mode starts it."""

from eggcluster.kernel.process_adoption import die_with_parent

die_with_parent()  # before the other imports, during which nothing else would end it

from eggcluster.kernel.process_end import run_and_exit  # noqa: E402
from eggcluster.template.template_process import main  # noqa: E402

run_and_exit(main)
