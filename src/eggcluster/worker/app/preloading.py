"""Imports the application for the workers that are forked from this process. Runs in the template of `--preload`."""

import logging
import time

from eggcluster.ipc.worker_spec import WorkerSpec
from eggcluster.logs import LogHandler, application_boots, configure_logs, escape_own_lines
from eggcluster.options import ResolvedOptions
from eggcluster.worker.app.application import Application
from eggcluster.worker.app.loading import load_application
from eggcluster.worker.app.start_limit import limited_start
from eggcluster.worker.context.current import become_template, current_context
from eggcluster.worker.context.preloaded import Preloaded
from eggcluster.worker.lifecycle.monkey_patches import refuse_patched_threads
from eggcluster.worker.lifecycle.startup import add_base_dir

SPEAKER = "template"

_logger = logging.getLogger("eggcluster.worker")


def prepare(spec: WorkerSpec) -> LogHandler:
    """Make this process a template for `spec`, with the module path and the log of an app worker. OptionsError if the
    log cannot be configured."""
    escape_own_lines()
    become_template(spec.secret)
    add_base_dir(spec)
    return configure_logs(spec.options, SPEAKER, spec.log_level)


def preload(spec: WorkerSpec, log_handler: LogHandler) -> Preloaded:
    """Import the application, run its `on_preload`, and leave both to the workers. What either raises is the failure of
    each worker that is forked from now on."""
    options = spec.options
    application_boots()
    began, app, error = time.monotonic(), None, None
    try:
        with limited_start(spec.start_deadline, options.app_start_timeout):
            app = _load(options)
    except BaseException as raised:  # also SystemExit, as in a worker
        error = raised
    else:
        _logger.info("preloaded %s in %.0fms", options.app, (time.monotonic() - began) * 1000)
    context = current_context()
    context.preloaded = Preloaded(app, error, began, log_handler)
    return context.preloaded


def _load(options: ResolvedOptions) -> Application:
    try:
        for module in options.require:
            current_context().import_module(module)
        app = load_application(options)
        app.run_preload()
        return app
    finally:  # the cause of whatever was raised
        refuse_patched_threads()
