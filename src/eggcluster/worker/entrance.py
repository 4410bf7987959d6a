"""What every worker does on its way in, whatever it is made of: its place on the module path, its life."""

import socket
import sys
from collections.abc import Callable

from eggcluster.ipc.boot_order import BootOrder
from eggcluster.model.role import Role
from eggcluster.worker.close_order import CloseOrder
from eggcluster.worker.life import Life
from eggcluster.worker.place import Place


def find_application(order: BootOrder) -> None:
    """The application's modules are in its base directory, before any other."""
    if order.options.base_dir not in sys.path:
        sys.path.insert(0, order.options.base_dir)


def life_of(order: BootOrder, sock: socket.socket, place: Place, close_order: CloseOrder) -> Life:
    """The life that was ordered, in its place. A worker pays for its own role's imports only."""
    life: Callable[..., Life]
    if order.role == Role.AGENT.value:
        from eggcluster.worker.agent_life import AgentLife as life
    else:
        from eggcluster.worker.app_life import AppLife as life
    return life(order, sock, place, close_order)
