"""The kinds of values that several options take, or that need a name. Runs in the process that starts a cluster."""

from eggcluster.options.option_type import header, log_level, many, text, whole, whole_or

DAY_MS = 86_400_000
GIB = 1024**3
MODULE = r"(?:[^\W\d]\w*)(?:\.[^\W\d]\w*)*"

MODULE_NAME = text("the name of a module, such as package.module", MODULE)
TARGET = text('module:attribute, for instance "app:app"', rf"{MODULE}:{MODULE}")
HOST = text("a host name or address", r"[^\0-\x20\x7f\ud800-\udfff]+")  # no blanks, no bytes that are not UTF-8
PORT = whole("a port number", 0, 65535)
OWN_PORTS = many("a list of port numbers from 1 to 65535", whole("a port number", 1, 65535), separator=",")
SOME_WORKERS = whole("a number of workers", 1, 1024)
WORKERS = whole_or("auto", SOME_WORKERS)
BYTES = whole("a number of bytes", 1, GIB)
CLOSE_MS = whole("a number of milliseconds", 0, DAY_MS)
PATH = text("the path of a file")
FOLDERS = many("a list of directories", text("a directory"))
GLOBS = many("a list of patterns", text("a pattern of paths, such as templates/**/*.html"))
LEVEL = log_level()
HEADER = header()
ROOT_PATH = text('a path that begins with "/" and does not end with it, such as /shop', r"(?:/[^\0/]+)*")
# Characters that `ps`, a directory name and a shell take without quoting.
CLUSTER_NAME = text("1 to 64 letters, digits, dots, dashes and underscores", r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}")
THREAD_NAME = text("the name of a thread", r"[^\0-\x1f\x7f\ud800-\udfff]+")
ENV_NAME = text("a word of letters, digits, dots, dashes and underscores", r"[A-Za-z0-9._-]{1,64}")
