"""Which worker this process is, for code that only knows `from eggcluster import messenger`. Runs anywhere.

Outside of a cluster `messenger` exists too, so that modules that register handlers can be imported by tests and
tools; sending then raises MessengerClosed.
"""

import asyncio
from typing import TYPE_CHECKING

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.ipc.messenger import Messenger
from eggcluster.model.role import Role

if TYPE_CHECKING:
    from eggcluster.worker.sharing.sharing import Sharing

messenger = Messenger()
_role: Role | None = None
_place: tuple[BootOrder, asyncio.AbstractEventLoop] | None = None
_sharing: "Sharing | None" = None


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


def settle(order: BootOrder, loop: asyncio.AbstractEventLoop) -> None:
    """What this process was ordered to be, and the loop that it lives in."""
    global _place
    _place = order, loop


def sharing() -> "Sharing":
    """This process's shared clients and shared state; made, and imported, when they are first asked for: a worker that
    shares nothing does not pay for it."""
    global _sharing
    if _sharing is None:
        _sharing = _make_sharing()
    return _sharing


def sharing_in_use() -> "Sharing | None":
    """The same, where it has been asked for."""
    return _sharing


def _make_sharing() -> "Sharing":
    if _place is None:
        from eggcluster.worker.sharing.sharing import LocalSharing

        return LocalSharing()
    order, loop = _place
    if order.cluster_fd is not None:
        from eggcluster.kernel.inherited import inherited_socket
        from eggcluster.worker.sharing.hub import Hub

        return Hub(order, inherited_socket(order.cluster_fd))
    from eggcluster.worker.sharing.uplink import Uplink

    return Uplink(order, loop)
