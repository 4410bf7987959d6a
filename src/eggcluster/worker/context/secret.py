"""`eggcluster.secret(purpose)`: keys that all workers of a cluster derive alike. Runs in all workers."""

import hmac

from eggcluster.errors import NoSecret
from eggcluster.worker.context.current import current_context

OUTSIDE = (
    "there is no cluster, so there is no secret: call this in an app worker or in the agent; use a fixed key in tests"
)


def secret(purpose: str) -> bytes:
    """Return a key of 32 bytes for one purpose, such as "session cookies": the same in the agent and all app workers,
    after a reload and after a replacement, and another one for each purpose.

    It is HKDF-Expand with SHA-256 (RFC 5869, 2.3) of the cluster's secret; the info is `purpose` in UTF-8. The
    master makes the secret at its start. With `--secret-file` it is the file's, and so the same after a restart. Raise
    NoSecret outside of a cluster, TypeError if `purpose` is not text, ValueError if it is empty.
    """
    if not isinstance(purpose, str):
        raise TypeError(f"secret: {purpose!r} is not a purpose; say in a text what the key is for")
    if not purpose:
        raise ValueError('secret: the purpose is empty; say what the key is for, such as "session cookies"')
    master_secret = current_context().secret
    if not master_secret:
        raise NoSecret(OUTSIDE)
    return hmac.digest(master_secret, purpose.encode() + b"\x01", "sha256")
