"""The kinds of frames, their targets, and the actions that no application may send. Pure; runs in all processes."""

from enum import IntEnum

from eggcluster.errors import BadReceiver, ReservedAction
from eggcluster.wording import short

# The lifecycle messages. docs/messenger.md lists them, and a unit test compares that page with this set. Only the
# master sends them, or a child sends them to the master, so an application can trust those that it receives.
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

# What the package's own code in agent and app workers sends (ipc/internal_messenger.py). An application can neither
# send nor handle these.
INTERNAL_ACTIONS = frozenset(
    {
        "egg-agent-gone",
        "egg-close",
        "egg-leave",
        "egg-shares",
        "egg-survivors",
        "egg-schedule-report",
        "egg-schedule-ask",
        "egg-schedule-run",
        "egg-schedule-join",
        "egg-schedule-now",
        "egg-schedules",
    }
)

RESERVED_ACTIONS = LIFECYCLE_ACTIONS | INTERNAL_ACTIONS


class FrameKind(IntEnum):
    """What a frame is. LOST and EVENT come from the master alone, except that a parent's first frame is an EVENT.
    REPORT goes to the master alone. The other kinds go from any process to any other."""

    MESSAGE = 1  # from an application; has no answer
    REQUEST = 2  # is answered by REPLY, FAILURE or LOST
    REPLY = 3  # what the handler returned
    FAILURE = 4  # what the handler raised
    CANCEL = 5  # the requester does not wait any more
    LOST = 6  # the receiver went away before it answered, or does not exist
    EVENT = 7  # a lifecycle message of the master, or the first frame to a new child
    REPORT = 8  # "agent-start", "app-start", "boot-failed"; "background", "journal"


class Target(IntEnum):
    """The receivers of a frame. For some targets, `target_id` in the header says which one."""

    MASTER = 0
    AGENT = 1
    PARENT = 2
    APPS = 3  # every app worker
    ALL = 4  # the agent and every app worker
    RANDOM = 5  # one listening app worker
    SLOT = 6  # target_id: the slot
    WORKER = 7  # target_id: the worker id
    ADDRESS = 8  # target_id: a packed address; replies use it


Receiver = int | str  # a worker id, or a name such as "agent" or "app#2"

_WORKER = Target.WORKER  # a global, because it is looked up for each message
_NAMES = {
    "master": Target.MASTER,
    "agent": Target.AGENT,
    "parent": Target.PARENT,
    "app": Target.APPS,
    "all": Target.ALL,
}


def parse_receiver(to: Receiver) -> tuple[Target, int]:
    """Return the target and target id of a receiver; BadReceiver if it is unknown."""
    if isinstance(to, int) and not isinstance(to, bool):
        if 0 < to < 1 << 64:
            return _WORKER, to
    elif isinstance(to, str):
        if to in _NAMES:
            return _NAMES[to], 0
        role, _, slot = to.partition("#")
        if role == "app" and slot.isascii() and slot.isdigit() and len(slot) < 9 and 0 < int(slot) < 1 << 24:
            return Target.SLOT, int(slot)
    raise BadReceiver(
        f'unknown receiver {short(to)}: use a worker id, "agent", "app", "app#2", "all", "master" or "parent"'
    )


def check_action(action: str) -> None:
    """Raise ReservedAction for a lifecycle or internal message, TypeError for an action that is not a string."""
    if not isinstance(action, str):
        raise TypeError(f"an action is a string, not {action!r}")
    if action in RESERVED_ACTIONS:
        check_not_internal(action)
        raise ReservedAction(f'"{action}" is a lifecycle message, which only the master sends: choose another action')


def check_not_internal(action: str) -> None:
    """Raise ReservedAction for an internal message, which an application can neither send nor handle."""
    if action in INTERNAL_ACTIONS:
        raise ReservedAction(f'"{action}" is eggcluster\'s own: choose another action')
