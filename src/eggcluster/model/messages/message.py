"""What travels in the cluster: the kinds of frames, the targets, and the names that no application may send."""

from enum import IntEnum

from eggcluster.errors import BadReceiver, ReservedAction

# The lifecycle messages of docs/messenger.md. Whoever receives one knows that the master sent it.
LIFECYCLE_ACTIONS = frozenset(
    {
        "agent-start",
        "app-start",
        "egg-ready",
        "egg-pids",
        "egg-workers",
        "agent-worker-died",
        "app-worker-died",
        "agent-exit",
        "app-exit",
        "realport",
        "boot-failed",
        "reload-worker",
        "debug",
    }
)

# What our own code in agent and app workers says to each other (ipc/internal_messenger.py). An application can send
# no such message, nor listen to one.
INTERNAL_ACTIONS = frozenset(
    {
        "egg-schedule-announce",
        "egg-schedule-ask",
        "egg-schedule-run",
        "egg-schedule-join",
        "egg-schedule-now",
        "egg-schedules",
    }
)

RESERVED_ACTIONS = LIFECYCLE_ACTIONS | INTERNAL_ACTIONS


class FrameKind(IntEnum):
    """What a frame is. The last four are the master's own language with its children."""

    MESSAGE = 1  # an application's; no answer
    REQUEST = 2  # an application's; somebody waits for REPLY, FAILURE or LOST
    REPLY = 3  # what the handler returned
    FAILURE = 4  # what the handler raised
    CANCEL = 5  # the one who asked does not wait any more
    LOST = 6  # master only: the receiver went away before it answered, or there is none
    EVENT = 7  # master only: a lifecycle message or an order
    REPORT = 8  # child to master only: "agent-start", "app-start", "boot-failed"


class Target(IntEnum):
    """To whom a frame goes; `target_id` in its header says which one where there are several."""

    MASTER = 0
    AGENT = 1
    PARENT = 2
    APPS = 3  # every app worker
    ALL = 4  # the agent and every app worker
    RANDOM = 5  # one listening app worker
    SLOT = 6  # target_id: the slot
    WORKER = 7  # target_id: the worker id
    ADDRESS = 8  # target_id: a packed address; answers go back this way


Receiver = int | str  # a worker id, or a name such as "agent" or "app#2"

_WORKER = Target.WORKER  # a global: it is looked up for each message
_NAMES = {
    "master": Target.MASTER,
    "agent": Target.AGENT,
    "parent": Target.PARENT,
    "app": Target.APPS,
    "all": Target.ALL,
}


def parse_receiver(to: Receiver) -> tuple[Target, int]:
    """Target and target id behind a receiver's name; BadReceiver where it is none."""
    if isinstance(to, int) and not isinstance(to, bool):
        if 0 < to < 1 << 64:
            return _WORKER, to
    elif isinstance(to, str):
        if to in _NAMES:
            return _NAMES[to], 0
        role, _, slot = to.partition("#")
        if role == "app" and slot.isascii() and slot.isdigit() and len(slot) < 9 and 0 < int(slot) < 1 << 24:
            return Target.SLOT, int(slot)
    raise BadReceiver(f'{to!r} is no receiver: use a worker id, "agent", "app", "app#2", "all", "master" or "parent"')


def check_action(action: str) -> None:
    """ReservedAction for a lifecycle or internal message, TypeError for what is no string."""
    if not isinstance(action, str):
        raise TypeError(f"an action is a string, not {action!r}")
    if action in RESERVED_ACTIONS:
        check_not_internal(action)
        raise ReservedAction(f'"{action}" is a lifecycle message: only the master sends it')


def check_not_internal(action: str) -> None:
    """ReservedAction for a name that is between our own code: nobody else may send it, listen to it, or stop that."""
    if action in INTERNAL_ACTIONS:
        raise ReservedAction(f'"{action}" is eggcluster\'s own: choose another action')
