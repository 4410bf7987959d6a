"""The whole error tree, for all processes. Imports nothing; every layer may raise from it.

Each docstring says whose fault the error is and what to do about it.
"""


class EggclusterError(Exception):
    """Root of everything that this package raises on purpose."""


class OptionsError(EggclusterError, ValueError):
    """The options are wrong: the caller's fault, found before anything was started. Correct the options.

    `problems` holds one finished line for each bad option: its name, the value, and what would be right.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class BootError(EggclusterError):
    """The agent or an app worker did not start: mostly the application's fault. The text is the finished report."""


class DeclarationError(BootError, ValueError):
    """A decorator such as `schedule` or `background` was given a wrong argument: the application's fault.

    The text names the function and says what would be right.
    """


class ClusterNotRunning(EggclusterError):
    """No cluster with that name, pid file or base directory answers. Start one, or name the right one."""


class ClusterEnded(ClusterNotRunning):
    """The cluster ended before it answered. If it was being stopped, this is no fault; else its log says why."""


class ControlError(EggclusterError):
    """The running cluster refused a command or could not carry it out. The text says why."""


class NoSecret(EggclusterError):
    """`secret` was called outside of a cluster: the caller's fault. Call it in an app worker or in the agent."""


class RunFailed(EggclusterError):
    """A scheduled task that the application ran by hand failed, was skipped, or does not exist.

    The text says why. If the task raised, that is its own fault; if its `overlap` skipped it, run it again later.
    """


class FrameError(EggclusterError):
    """The other end of a channel sent bytes that are not a valid frame: its fault, or a defect of this package.

    This channel is closed; the other channels stay open. If the other end is a worker, the master replaces it. There is
    nothing to catch: the log says which worker it was.
    """


class MessengerError(EggclusterError):
    """Root of the messenger's errors."""


class ReservedAction(MessengerError, ValueError):
    """The application tried to use the name of a lifecycle message, such as `egg-ready`, as an action of its own.

    The caller's fault: choose another action. Nothing was sent.
    """


class BadReceiver(MessengerError, ValueError):
    """The receiver is not a valid one: the caller's fault. Nothing was sent.

    Use a worker id, "agent", "app", "app#2", "all", "master" or "parent".
    """


class NotSerializable(MessengerError, TypeError):
    """The data holds something that MessagePack cannot carry: the caller's fault. Send plain values."""


class MessageTooLarge(MessengerError, ValueError):
    """The message is larger than `max_message_bytes`: the caller's fault. Send a reference to the data instead."""


class MessengerBusy(MessengerError):
    """More than `max_queue_bytes` wait to leave this process: the receiver is slower than the sender.

    This message was not sent; earlier ones are not lost. `await messenger.drain()`, then send again.
    """


class MessengerClosed(MessengerError):
    """Nothing can be sent: this process is not part of a cluster, or its channel has been closed.

    Without a cluster, the caller's fault. While the cluster closes, no fault: end what sends.
    """


class RequestTimeout(MessengerError, TimeoutError):
    """The answer did not come within the request's timeout: the receiver is slow, hung or not there.

    The receiver may have acted or not; a late answer is dropped. Ask again if that does no harm, or give more time.
    """


class ReceiverDied(MessengerError):
    """The receiver of a request died after its handler had begun, or there is none and none will follow. The caller is
    not at fault.

    The handler may have done its work or not. Ask again if that does no harm: the receiver's successor answers.
    """


class RemoteError(MessengerError):
    """The receiver's handler raised an exception: the handler's fault.

    `kind` is the exception's class name, `message` its text, `remote_traceback` its traceback as text.
    """

    def __init__(self, kind: str, message: str, remote_traceback: str = "") -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message
        self.remote_traceback = remote_traceback


class LeaderGone(MessengerError):
    """The agent went away before it answered a call. The caller is not at fault; the call may have been carried out.

    Call again if that does no harm, or mark the client's method `@idempotent`: then it is repeated automatically.
    """


class NoLeader(MessengerError, LookupError):
    """The agent has not created a client of that name: the application's fault.

    Put the same `agent.cluster(...)` line into the agent's module.
    """


class SharedFull(MessengerError, ValueError):
    """A write to the shared dictionary exceeds a limit, which the text names: the application's fault.

    Nothing was changed. Delete keys, or share less: a reference instead of the data.
    """


class SharedTooLarge(SharedFull):
    """One key or one value is beyond its own limit, so that no free space would help: the application's fault."""


class SharedNotReady(MessengerError):
    """This worker has no copy of the shared dictionary yet: the application read it too early.

    Use `app.shared` when the module is imported, and the worker starts with a copy; or `await app.shared.ready()`.
    """
