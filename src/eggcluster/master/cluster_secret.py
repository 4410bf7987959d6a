"""The cluster's secret: made by the master at its start, or taken from a file. Runs in the master."""

import hmac
import os

from eggcluster.errors import OptionsError
from eggcluster.options import ResolvedOptions
from eggcluster.runtime.safe_files import read_small
from eggcluster.wording import shown

MAX_FILE_BYTES = 64 * 1024  # of a secret file; `check_secret_file` refuses a larger one
SALT = b"eggcluster"


def cluster_secret(options: ResolvedOptions) -> bytes:
    """Return the 32 bytes from which all workers derive their keys: HKDF-Extract (RFC 5869) of the secret file, byte
    for byte, or of 32 random bytes.

    The master calls this once. A reload does not read the file again: old and new workers run side by side then, and
    must agree. OptionsError if the file has become unreadable since the options were checked.
    """
    path = options.secret_file
    if path is None:
        return extract(os.urandom(32))
    try:
        return extract(read_small(path, MAX_FILE_BYTES))
    except OSError as error:
        name = options.name_of("secret_file")
        raise OptionsError(f"{name}: {shown(path)} cannot be read: {error.strerror}") from None


def extract(material: bytes) -> bytes:
    """Return the pseudorandom key of this material."""
    return hmac.digest(SALT, material, "sha256")
