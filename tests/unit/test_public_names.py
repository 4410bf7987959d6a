"""What `import eggcluster` offers: the names of the contract, loaded at their first use."""

import ast
from pathlib import Path

import pytest

import eggcluster


@pytest.mark.parametrize("name", eggcluster.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(eggcluster, name) is getattr(eggcluster, name)


def test_the_type_checker_is_told_the_same_names() -> None:
    tree = ast.parse(Path(eggcluster.__file__).read_text(encoding="utf-8"))
    named = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eggcluster")
        for alias in node.names
    }
    assert {name for name in named if name} | {"__version__"} == set(eggcluster.__all__)


def test_dir_and_all_agree() -> None:
    assert dir(eggcluster) == sorted(eggcluster.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        eggcluster.Nothing  # noqa: B018


def test_all_errors_have_one_root_and_say_what_to_do() -> None:
    errors = [eggcluster.__getattr__(n) for n in eggcluster._HOMES if eggcluster._HOMES[n] == "errors"]
    for error in errors:
        assert issubclass(error, eggcluster.EggclusterError)
        assert error.__doc__


def test_the_agent_and_the_application_have_the_contracts_decorators() -> None:
    common = {"on_start", "on_ready", "on_close", "background", "messenger", "logger"}
    assert common <= set(dir(eggcluster.Agent())) & set(dir(eggcluster.Application(print)))
    assert hasattr(eggcluster.Agent(), "schedule")
    assert hasattr(eggcluster.Application(print), "on_server")
    assert not hasattr(eggcluster.Agent(), "on_server")
