"""The fields after a chunked body. Pure; used in app workers."""

from dataclasses import dataclass

from eggcluster.http.fields import RULED
from eggcluster.http.head import Header, Limits

# RFC 9110, 6.5.1: what frames, routes, modifies or authenticates a request comes too late in a trailer, and a reader
# that merges trailers into the head would be deceived by it.
FORBIDDEN_TRAILERS = RULED | frozenset(
    b"authorization cache-control content-encoding content-range content-type cookie forwarded keep-alive max-forwards "
    b"proxy-authorization range te trailer x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)


@dataclass(frozen=True)
class Trailers:
    """The fields after a chunked body, with lower-case names, and the limits that hold for them."""

    fields: list[Header]
    limits: Limits

    def are_too_many(self) -> bool:
        return len(self.fields) > self.limits.max_headers

    def are_too_large(self) -> bool:
        return sum(len(name) + len(value) + 4 for name, value in self.fields) > self.limits.max_header_bytes

    def have_forbidden(self) -> bool:
        return any(name in FORBIDDEN_TRAILERS for name, _ in self.fields)
