"""The whole error tree. Imports nothing; every layer may raise from it.

Each docstring says whose fault the error is and what to do about it.
"""


class EggclusterError(Exception):
    """Root of everything this package raises on purpose."""


class OptionsError(EggclusterError, ValueError):
    """The options are wrong: the caller's fault, found before anything was started.

    `problems` holds one finished line for each bad option: its name, the value, and what would be right.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class BootError(EggclusterError):
    """The agent or a worker could not be started: the application's fault. The text is the finished report."""


class DeclarationError(BootError, ValueError):
    """A decorator such as `schedule` or `background` was given what makes no sense: the application's fault.

    The text names the function and says what would be right.
    """


class ClusterNotRunning(EggclusterError):
    """No cluster answers under that name, pid file or base directory. Start one, or name the right one."""


class ClusterEnded(ClusterNotRunning):
    """The cluster ended while it was being asked: nobody's fault where its end was to come."""


class ControlError(EggclusterError):
    """The running cluster refused a command, or could not carry it out; the text says why."""


class RunFailed(EggclusterError):
    """A scheduled task that was run by hand did not end well, or there is none of that name; the text says why."""


class FrameError(EggclusterError):
    """The other side of a channel sent bytes that are no frame. Its channel is closed; nothing else is touched."""


class MessengerError(EggclusterError):
    """Root of what the messenger raises."""


class ReservedAction(MessengerError, ValueError):
    """An application tried to send a lifecycle message such as `egg-ready`; choose another action."""


class BadReceiver(MessengerError, ValueError):
    """The receiver's name is none: use a worker id, "agent", "app", "app#2", "all", "master" or "parent"."""


class NotSerializable(MessengerError, TypeError):
    """The data holds something MessagePack cannot carry; send plain values."""


class MessageTooLarge(MessengerError, ValueError):
    """The message is larger than `max_message_bytes`; send a reference to the data instead."""


class MessengerBusy(MessengerError):
    """More is waiting to leave this process than `max_queue_bytes`: the receiver is slower than you are.

    `await messenger.drain()`, then send again; nothing of what was sent before is lost.
    """


class MessengerClosed(MessengerError):
    """Nothing can be sent: this process is not part of a cluster, or its channel has been closed."""


class RequestTimeout(MessengerError, TimeoutError):
    """Nobody answered within the time given; the answer, should it still come, is dropped."""


class ReceiverDied(MessengerError):
    """The receiver of a request went away before it answered, or there was none. It may or may not have acted."""


class RemoteError(MessengerError):
    """The receiver's handler raised. `kind` is its exception's class name, `remote_traceback` its traceback as text."""

    def __init__(self, kind: str, message: str, remote_traceback: str = "") -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message
        self.remote_traceback = remote_traceback


class LeaderGone(MessengerError):
    """The agent went away while a call was under way: it may or may not have been carried out.

    Ask again where that does no harm, or mark the client's method `@idempotent`: then it is asked again by itself.
    """


class NoLeader(MessengerError, LookupError):
    """The agent has created no client of that name: put the same `agent.cluster(...)` line into the agent's module."""


class SharedFull(MessengerError, ValueError):
    """What is to be shared exceeds a limit, which the text names; nothing was changed. Share less, or a reference."""


class SharedNotReady(MessengerError):
    """This worker has no copy of what is shared yet. Name `app.shared` where the module is imported, then the worker
    starts with one; or `await app.shared.ready()` first."""
