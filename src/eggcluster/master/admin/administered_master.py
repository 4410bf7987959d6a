"""What the admin port needs of the master. Runs in the master."""

from typing import Any, Protocol

from eggcluster.master.departure import Departure
from eggcluster.master.relay.switchboard import Switchboard
from eggcluster.master.tally import Tally
from eggcluster.master.worker_manager import WorkerManager
from eggcluster.model.lives.supervisor import Supervisor
from eggcluster.options import ResolvedOptions


class AdministeredMaster(Protocol):
    """The part of the master that the admin port shows."""

    options: ResolvedOptions
    supervisor: Supervisor
    switchboard: Switchboard
    worker_manager: WorkerManager
    tally: Tally
    departure: Departure
    started_at: float

    def status(self) -> dict[str, Any]: ...
