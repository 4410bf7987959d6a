"""What `/live` and `/ready` say. Pure; runs in the master."""

from typing import NamedTuple

from eggcluster.model.lives.phase import ExitCode, Phase


class Probe(NamedTuple):
    """The answer to a probe: whether it succeeds, and why, in a line."""

    succeeds: bool
    text: str

    @property
    def status(self) -> int:
        """The HTTP status: 200, or 503 (RFC 9110, 15.6.4)."""
        return 200 if self.succeeds else 503


def live(phase: Phase, exit_code: ExitCode) -> Probe:
    """Return whether the master does its work. That it answers at all says the most: its loop moves."""
    if phase >= Phase.APPS_STOP and exit_code is not ExitCode.CLOSED:
        return Probe(False, f"{phase.word}, will exit with code {exit_code:d}")
    return Probe(True, phase.word)


def ready(phase: Phase, *, is_leaving: bool, is_open: int, wanted: int) -> Probe:
    """Return whether a balancer may send new connections: `is_open` slots take them, and `wanted` have to."""
    if phase is not Phase.SERVING:
        return Probe(False, phase.word)
    if is_leaving:
        return Probe(False, "leaving: the cluster serves on for a while, and closes then")
    workers = "1 app worker takes" if is_open == 1 else f"{is_open} app workers take"
    return Probe(is_open >= wanted, f"{workers} connections, {wanted} have to")
