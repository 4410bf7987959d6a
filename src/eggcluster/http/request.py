"""A request, as its connection sees it; how the reading of one is refused. Runs in the app workers."""

import contextvars
from abc import ABC, abstractmethod

from eggcluster.http.head import RequestHead
from eggcluster.http.rules import Rejection


class Request(ABC):
    """A request, as its connection sees it: the connection tells what comes of it, in the order of the bytes."""

    head: RequestHead
    is_upgrade = False  # it takes the connection over
    is_waiting = False  # the application's side, for `wake`
    body_is_complete = False
    body_size = 0  # bytes received of it

    @abstractmethod
    def begin(self, context: contextvars.Context) -> None:
        """Have the application serve the request, in that context; returns at once."""

    @abstractmethod
    def wake(self) -> None:
        """Tell the application's side that there is more of the body, or that the client has left."""

    @abstractmethod
    def writable(self) -> None:
        """Tell the application's side that the client has taken what was written, or never will."""

    @property
    @abstractmethod
    def wants_body(self) -> bool:
        """Whether more of the body may be read: little is waiting for the application."""

    @abstractmethod
    def body_received(self, data: bytes) -> None:
        """Take a piece of the body."""

    @abstractmethod
    def client_left(self) -> None:
        """The client has shut its sending half, or is gone."""

    @abstractmethod
    def connection_lost(self) -> None:
        """Nothing can be sent any more."""

    @abstractmethod
    def fail(self, rejection: Rejection) -> None:
        """Answer with `rejection` instead of the application's response; close if that has begun."""

    @property
    @abstractmethod
    def activity(self) -> str:
        """What would be lost now: the `request`, or the `stream` that its response is."""

    @abstractmethod
    def cut(self) -> None:
        """End it in the middle: 503 if no response has begun."""


class Refused(Exception):
    """Ends the parsing of a request that is not served."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.reason)
        self.rejection = rejection
