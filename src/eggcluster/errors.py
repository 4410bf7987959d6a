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
    """A decorator such as `schedule` or `background` was given a wrong argument: the application's fault.

    The text names the function and says what would be right.
    """


class ClusterNotRunning(EggclusterError):
    """No cluster answers under that name, pid file or base directory. Start one, or name the right one."""


class ClusterEnded(ClusterNotRunning):
    """The cluster ended before it answered: no fault if it was being stopped."""


class ControlError(EggclusterError):
    """The running cluster refused a command, or could not carry it out; the text says why."""


class RunFailed(EggclusterError):
    """A scheduled task that was run by hand failed, or no task has that name; the text says why."""


class FrameError(EggclusterError):
    """The other side of a channel sent bytes that are no valid frame. Its channel is closed; the others go on."""


class MessengerError(EggclusterError):
    """Root of the messenger's errors."""


class ReservedAction(MessengerError, ValueError):
    """An application tried to send a lifecycle message such as `egg-ready`; choose another action."""


class BadReceiver(MessengerError, ValueError):
    """The receiver is unknown: use a worker id, "agent", "app", "app#2", "all", "master" or "parent"."""


class NotSerializable(MessengerError, TypeError):
    """The data holds something MessagePack cannot carry; send plain values."""


class MessageTooLarge(MessengerError, ValueError):
    """The message is larger than `max_message_bytes`; send a reference to the data instead."""


class MessengerBusy(MessengerError):
    """More than `max_queue_bytes` wait to leave this process: the receiver is slower than the sender.

    `await messenger.drain()`, then send again; messages sent before are not lost.
    """


class MessengerClosed(MessengerError):
    """Nothing can be sent: this process is not part of a cluster, or its channel has been closed."""


class RequestTimeout(MessengerError, TimeoutError):
    """The answer did not come in time; a late answer is dropped."""


class ReceiverDied(MessengerError):
    """The receiver of a request went away before it answered, or no such receiver exists. It may have acted or not."""


class RemoteError(MessengerError):
    """The receiver's handler raised. `kind` is its exception's class name, `remote_traceback` its traceback as text."""

    def __init__(self, kind: str, message: str, remote_traceback: str = "") -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message
        self.remote_traceback = remote_traceback


class LeaderGone(MessengerError):
    """The agent went away before it answered a call. The call may have been carried out or not.

    Call again if that does no harm, or mark the client's method `@idempotent`: then it is repeated automatically.
    """


class NoLeader(MessengerError, LookupError):
    """The agent has created no client of that name: put the same `agent.cluster(...)` line into the agent's module."""


class SharedFull(MessengerError, ValueError):
    """A shared value exceeds a limit, which the text names; nothing was changed. Share less, or a reference."""


class SharedNotReady(MessengerError):
    """This worker has no copy of the shared values yet. Use `app.shared` when the module is imported, and the worker
    starts with a copy; or `await app.shared.ready()` first."""
