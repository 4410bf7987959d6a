"""Loads the file that the option `log_config` names. Runs in the master and in every worker."""

import json
import sys
from typing import Any

from eggcluster.errors import OptionsError
from eggcluster.wording import shown


def load_log_config(path: str, base_dir: str) -> None:
    """Apply the logging configuration: a dictConfig in JSON or YAML, or else an ini file, by the suffix of the name.

    Classes that it names may lie in `base_dir`. OptionsError if it is wrong.
    """
    import logging.config

    sys.path.insert(0, base_dir)  # the master does not have it
    try:
        if path.endswith((".json", ".yaml", ".yml")):
            logging.config.dictConfig(_read(path))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as error:  # a handler's own class may raise anything
        causes = [str(each) or type(each).__name__ for each in (error, error.__cause__) if each is not None]
        why = " ".join(": ".join(causes).split())
        raise OptionsError(f"log_config: {shown(path)} is not a logging configuration: {why}") from None
    finally:
        if base_dir in sys.path:
            sys.path.remove(base_dir)


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file) if path.endswith(".json") else _yaml().safe_load(file)


def _yaml() -> Any:
    """Return PyYAML. It is the user's to install, as for uvicorn: no other part of the cluster reads YAML."""
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ImportError("YAML needs PyYAML: install it, or write the same as JSON") from None
    return yaml
