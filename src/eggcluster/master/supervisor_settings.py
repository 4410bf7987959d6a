"""From the options to the settings of the supervisor. Runs in the master."""

from eggcluster.model.lives.settings import RecycleLimits, SupervisorSettings
from eggcluster.options import ResolvedOptions


def supervisor_settings(options: ResolvedOptions) -> SupervisorSettings:
    """Return the options that the supervisor decides by; all times in seconds."""
    return SupervisorSettings(
        workers=options.workers,
        app_start_timeout=options.app_start_timeout,
        agent_start_timeout=options.agent_start_timeout,
        app_close_timeout=options.app_close_timeout / 1000,
        agent_close_timeout=options.agent_close_timeout / 1000,
        close_timeout=options.close_timeout / 1000,
        worker_timeout=options.worker_timeout,
        agent_timeout=options.agent_timeout,
        limits=RecycleLimits(options.max_requests, options.max_lifetime, options.max_rss),
        replace_apps=options.env != "local",
        strict=options.strict,
    )
