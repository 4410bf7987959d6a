"""The pages of the admin port, made from what the master knows at that moment. Runs in the master."""

import logging
from collections.abc import Callable

from eggcluster.errors import OptionsError
from eggcluster.master.admin.admin_app import Answer, Page, as_json, text
from eggcluster.master.admin.admin_server import AdminServer
from eggcluster.master.admin.administered_master import AdministeredMaster
from eggcluster.master.admin.cluster_metrics import ClusterMetrics, open_slots
from eggcluster.master.admin.open_metrics import CONTENT_TYPE
from eggcluster.master.admin.probes import Probe, live, ready
from eggcluster.options.admin_address import parse_admin_address

MOST_TOKEN = 4096  # bytes

_logger = logging.getLogger("eggcluster.master")


async def open_admin_server(master: AdministeredMaster) -> AdminServer:
    """Open the admin port of the options. OptionsError if it cannot be bound, or has no token where it is to have
    one."""
    options = master.options
    assert options.admin is not None
    token = _read_token(options.admin_token_file) if options.admin_token_file is not None else None
    server = await AdminServer.open(parse_admin_address(options.admin), admin_pages(master), token)
    _logger.info("admin port on %s", server.address)
    if token is None and not server.address.is_local:
        _logger.warning("the admin port is open to other machines without a token: name one with --admin-token-file")
    return server


def admin_pages(master: AdministeredMaster) -> dict[str, Page]:
    """Return the pages by their path."""
    supervisor = master.supervisor
    metrics = ClusterMetrics(
        master.options,
        supervisor,
        master.switchboard,
        master.worker_manager,
        master.tally,
        master.started_at,
    )

    def is_ready() -> Probe:
        return ready(
            supervisor.phase,
            is_leaving=master.departure.has_begun,
            is_open=open_slots(supervisor.slots),
            wanted=min(master.options.ready_workers, len(supervisor.slots)),
        )

    return {
        "/live": _probe(lambda: live(supervisor.phase, supervisor.exit_code)),
        "/ready": _probe(is_ready),
        "/status": lambda: as_json(master.status()),
        "/metrics": lambda: Answer(200, metrics.text(), CONTENT_TYPE),
    }


def _probe(look: Callable[[], Probe]) -> Page:
    def page() -> Answer:
        probe = look()
        return text(probe.status, probe.text)

    return page


def _read_token(path: str) -> str:
    try:
        with open(path, "rb") as file:
            token = file.read(MOST_TOKEN).strip()
    except OSError as error:
        raise OptionsError(f'admin_token_file: "{path}" cannot be read: {error.strerror or error}') from None
    if not token or not token.isascii() or len(token.split()) != 1:
        raise OptionsError(f'admin_token_file: "{path}" has to hold one word of ASCII, the token')
    return token.decode()
