"""Which worker this process is, for code that only knows `from eggcluster import messenger`. Runs anywhere.

Outside of a cluster `messenger` exists too, so that modules that register handlers can be imported by tests and
tools; sending then raises MessengerClosed.
"""

from eggcluster.ipc.messenger import Messenger
from eggcluster.model.role import Role

messenger = Messenger()
_role: Role | None = None


def become(role: Role) -> Messenger:
    """This process is a worker of that role from now on; gives its messenger."""
    global _role
    _role = role
    messenger.serve_as(role)
    return messenger


def messenger_for(role: Role) -> Messenger:
    """The messenger of an `Agent` or `Application` object: this worker's own where it has that role.

    An app's module may import the agent's and the other way round; the object of the other role then gets a
    messenger of its own, whose handlers nobody calls.
    """
    return messenger if _role in (None, role) else Messenger(role)
