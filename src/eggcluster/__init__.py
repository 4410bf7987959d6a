"""Egg.js's process model for Python web applications.

    parent ──(starts)──► Master ──┬──► Agent            once: background tasks, long connections, schedule
                           │      ├──► App worker #1    HTTP requests
      command line ──control      ├──► App worker #2
                                  └──► ...  #N          one Messenger between all of them, through the master

Runs in all processes. The names below are the whole public interface. Each is imported at its first use: the master
does not import what only a worker needs, and a worker does not import the master.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from eggcluster.cluster import Cluster as Cluster
    from eggcluster.cluster import start_cluster as start_cluster
    from eggcluster.errors import BadReceiver as BadReceiver
    from eggcluster.errors import BootError as BootError
    from eggcluster.errors import ClusterNotRunning as ClusterNotRunning
    from eggcluster.errors import ControlError as ControlError
    from eggcluster.errors import DeclarationError as DeclarationError
    from eggcluster.errors import EggclusterError as EggclusterError
    from eggcluster.errors import LeaderGone as LeaderGone
    from eggcluster.errors import MessageTooLarge as MessageTooLarge
    from eggcluster.errors import MessengerBusy as MessengerBusy
    from eggcluster.errors import MessengerClosed as MessengerClosed
    from eggcluster.errors import MessengerError as MessengerError
    from eggcluster.errors import NoLeader as NoLeader
    from eggcluster.errors import NoSecret as NoSecret
    from eggcluster.errors import NotSerializable as NotSerializable
    from eggcluster.errors import OptionsError as OptionsError
    from eggcluster.errors import ReceiverDied as ReceiverDied
    from eggcluster.errors import RemoteError as RemoteError
    from eggcluster.errors import RequestTimeout as RequestTimeout
    from eggcluster.errors import ReservedAction as ReservedAction
    from eggcluster.errors import RunFailed as RunFailed
    from eggcluster.errors import SharedFull as SharedFull
    from eggcluster.errors import SharedNotReady as SharedNotReady
    from eggcluster.errors import SharedTooLarge as SharedTooLarge
    from eggcluster.ipc.messenger import Messenger as Messenger
    from eggcluster.master.master import Master as Master
    from eggcluster.master.worker_manager import WorkerManager as WorkerManager
    from eggcluster.model.lives.worker import AgentWorker as AgentWorker
    from eggcluster.model.lives.worker import AppWorker as AppWorker
    from eggcluster.model.schedule.schedule_run import ScheduleRun as ScheduleRun
    from eggcluster.model.schedule.schedule_terms import ScheduleTerms as ScheduleTerms
    from eggcluster.options import ClusterOptions as ClusterOptions
    from eggcluster.options import parse_options as parse_options
    from eggcluster.worker.agent.agent import Agent as Agent
    from eggcluster.worker.app.application import Application as Application
    from eggcluster.worker.context.current import messenger as messenger
    from eggcluster.worker.context.secret import secret as secret
    from eggcluster.worker.schedule.runner import scheduled_for as scheduled_for
    from eggcluster.worker.schedule.strategy import ScheduleStrategy as ScheduleStrategy
    from eggcluster.worker.sharing.client_spec import idempotent as idempotent

_HOMES = {
    "Agent": "worker.agent.agent",
    "AgentWorker": "model.lives.worker",
    "AppWorker": "model.lives.worker",
    "Application": "worker.app.application",
    "Cluster": "cluster",
    "ClusterOptions": "options",
    "Master": "master.master",
    "Messenger": "ipc.messenger",
    "ScheduleRun": "model.schedule.schedule_run",
    "ScheduleStrategy": "worker.schedule.strategy",
    "ScheduleTerms": "model.schedule.schedule_terms",
    "WorkerManager": "master.worker_manager",
    "idempotent": "worker.sharing.client_spec",
    "messenger": "worker.context.current",
    "parse_options": "options",
    "scheduled_for": "worker.schedule.runner",
    "secret": "worker.context.secret",
    "start_cluster": "cluster",
    **dict.fromkeys(
        (
            "BadReceiver",
            "BootError",
            "ClusterNotRunning",
            "ControlError",
            "DeclarationError",
            "EggclusterError",
            "LeaderGone",
            "MessageTooLarge",
            "MessengerBusy",
            "MessengerClosed",
            "MessengerError",
            "NoLeader",
            "NoSecret",
            "NotSerializable",
            "OptionsError",
            "ReceiverDied",
            "RemoteError",
            "RequestTimeout",
            "ReservedAction",
            "RunFailed",
            "SharedFull",
            "SharedNotReady",
            "SharedTooLarge",
        ),
        "errors",
    ),
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
