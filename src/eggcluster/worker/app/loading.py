"""Imports the application and the agent that the options name. Runs in agent and app workers."""

from types import ModuleType
from typing import Any

from eggcluster.errors import OptionsError
from eggcluster.options import ResolvedOptions
from eggcluster.worker.agent.agent import Agent
from eggcluster.worker.app.application import Application
from eggcluster.worker.app.interface import detect_interface
from eggcluster.worker.context.current import current_context


def load_application(options: ResolvedOptions) -> Application:
    """Return the application that `options.app` names; a bare callable is wrapped.

    Raise OptionsError if the target is not an application: then the options are wrong. What the module's own code
    raises is passed on: then the application is wrong.
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


def load_agent(options: ResolvedOptions) -> Agent:
    """Return the agent that `options.agent` names, or an empty one. Errors as in `load_application`."""
    framework = load_framework(options)
    if options.agent is None:
        agent = framework.Agent()
        assert isinstance(agent, Agent)
        return agent
    found = _resolve("agent", options.agent)
    if not isinstance(found, Agent):
        raise OptionsError(f'agent: "{options.agent}" is {_describe(found)}; name an eggcluster.Agent')
    return found


def load_framework(options: ResolvedOptions) -> ModuleType:
    """Return the module that defines `Application` and `Agent`; raise OptionsError if it lacks one of them."""
    module = current_context().import_module(options.framework)
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
    found: Any = current_context().import_module(module_name)
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
