"""What the model decides by, made of what the master has: the options, the slots. Runs in the master."""

from eggcluster.model.lives.roster import Slot
from eggcluster.model.lives.settings import RecycleLimits, SupervisorSettings
from eggcluster.model.steering.steering_plan import SlotView
from eggcluster.options import ResolvedOptions


def steering_view(slot: Slot) -> SlotView:
    """Return what steering has to know of a slot."""
    worker = slot.current
    if worker is None or not slot.listening:
        return SlotView(slot.number, open=False)
    beat = worker.heartbeat
    return SlotView(slot.number, beat.accepting and not worker.stalled, beat.connections, beat.accepted, beat.full)


def supervisor_settings(options: ResolvedOptions, *, for_program: bool) -> SupervisorSettings:
    """Return the supervisor's part of the options, all times in seconds. `for_program`: a program started the cluster,
    and waits for the end of the boot."""
    return SupervisorSettings(
        workers=options.workers,
        app_start_timeout=options.app_start_timeout,
        agent_start_timeout=options.agent_start_timeout,
        app_close_timeout=options.app_close_timeout / 1000,
        agent_close_timeout=options.agent_close_timeout / 1000,
        close_timeout=options.close_timeout / 1000,
        worker_timeout=options.worker_timeout,
        agent_timeout=options.agent_timeout,
        limits=RecycleLimits(options.max_requests, options.max_lifetime, options.max_rss, (options.threads + 1) // 2),
        replace_apps=options.env != "local",
        max_draining=options.max_draining,
        retries_boot=bool(options.reload) and not for_program,
        strict=options.strict,
    )
