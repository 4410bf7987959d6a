"""Importing what the options name, and which interface an application speaks. Runs in agent and app workers."""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

from eggcluster.errors import OptionsError
from eggcluster.options import ClusterOptions
from eggcluster.worker.agent.agent import Agent
from eggcluster.worker.app.application import Application
from eggcluster.worker.context.current import here

Interface = Literal["asgi", "wsgi"]


def detect_interface(app: Callable[..., Any]) -> Interface | None:
    """ "asgi" for what takes (scope, receive, send), "wsgi" for (environ, start_response), None for neither."""
    # A partial's own signature is what is left to be given; its __call__ would take anything.
    plain = inspect.isroutine(app) or inspect.isclass(app) or isinstance(app, functools.partial)
    call = app if plain else getattr(app, "__call__", app)  # noqa: B004
    if inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return "asgi"  # a built-in or extension callable does not tell; ASGI is what is asked for most
    if _takes(signature, 3):
        return "asgi"
    return "wsgi" if _takes(signature, 2) else None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def load_application(options: ClusterOptions) -> Application:
    """The application that `options.app` names, wrapped if it is a bare callable.

    OptionsError for what is no application (the options are wrong); everything that the module's own code raises
    is passed on (the application is wrong).
    """
    framework = load_framework(options)
    found = _resolve("app", options.app)
    if options.factory:
        found = found()
    if isinstance(found, Application):
        app = found
    elif callable(found) and not isinstance(found, Agent):
        app = framework.Application(found)
    else:
        raise OptionsError(_no_application(options.app, found))
    if options.interface == "auto" and detect_interface(app.app) is None:
        raise OptionsError(_no_application(options.app, app.app))
    return app


def load_agent(options: ClusterOptions) -> Agent:
    """The agent that `options.agent` names, or an empty one. Errors as in `load_application`."""
    framework = load_framework(options)
    if options.agent is None:
        agent = framework.Agent()
        assert isinstance(agent, Agent)
        return agent
    found = _resolve("agent", options.agent)
    if not isinstance(found, Agent):
        raise OptionsError(f'agent: "{options.agent}" is {_describe(found)}; name an eggcluster.Agent')
    return found


def load_framework(options: ClusterOptions) -> ModuleType:
    """The module that defines `Application` and `Agent`; OptionsError where one is missing."""
    module = here().import_module(options.framework)
    for name, kind in (("Application", Application), ("Agent", Agent)):
        found = getattr(module, name, None)
        if not (isinstance(found, type) and issubclass(found, kind)):
            raise OptionsError(
                f'framework: "{options.framework}" has no {name}; name a module that defines '
                f"Application and Agent, subclasses of eggcluster's"
            )
    return module


def _resolve(option: str, target: str) -> Any:
    module_name, _, path = target.partition(":")
    found: Any = here().import_module(module_name)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise OptionsError(f'{option}: "{target}": module {module_name} has no attribute "{path}"') from None
    return found


def _no_application(target: str, found: Any) -> str:
    return f'app: "{target}" is {_describe(found)}; name an ASGI or WSGI callable, or an eggcluster.Application'


def _describe(found: Any) -> str:
    if isinstance(found, (bool, int, float, str, bytes)) or found is None:
        return f"the value {found!r}"
    if callable(found) and hasattr(found, "__name__"):
        return f"the callable {found.__name__}"
    return f"an object of type {type(found).__name__}"
