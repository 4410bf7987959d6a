"""What the master and its file watcher say to each other, one JSON object in each line. Runs in both."""

import msgspec

from eggcluster.kernel.file_stamps import Stamp


class WatchOrder(msgspec.Struct):
    """What to watch from now on, instead of what an earlier order named.

    A file of `sources` that the file watcher does not know yet has changed if its stamp is another one now. `patterns`
    name more files, as glob.glob takes them, relative to `base_dir`.
    """

    base_dir: str
    sources: list[Stamp]
    patterns: list[str]


class FilesChanged(msgspec.Struct):
    """`count` files have changed, come or gone since the last report; `paths` are the first of them."""

    count: int
    paths: list[str]


def encode_line(message: WatchOrder | FilesChanged) -> bytes:
    """Return the line of a message."""
    return msgspec.json.encode(message) + b"\n"


def read_order(line: bytes) -> WatchOrder:
    """Return the order of a line; msgspec.MsgspecError for another line."""
    return msgspec.json.decode(line, type=WatchOrder)


def read_changes(line: bytes) -> FilesChanged:
    """Return the report of a line; msgspec.MsgspecError for another line."""
    return msgspec.json.decode(line, type=FilesChanged)
