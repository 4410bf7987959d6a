"""Libraries that replace Python's threads: refused in one line, and only if they have done so."""

import sys
from types import SimpleNamespace

import pytest

from eggcluster.errors import BootError
from eggcluster.worker.lifecycle.monkey_patches import refuse_patched_threads


@pytest.mark.parametrize(
    ("module", "function", "threads", "call"),
    [
        ("gevent.monkey", "is_module_patched", "threading", "gevent's monkey.patch_all()"),
        ("eventlet.patcher", "is_monkey_patched", "thread", "eventlet's monkey_patch()"),
    ],
)
def test_replaced_threads_are_refused(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, threads: str, call: str
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    patched: set[str] = set()
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{function: patched.__contains__}))
    refuse_patched_threads()  # imported, and not used
    patched.add("socket")
    refuse_patched_threads()
    patched.add(threads)
    with pytest.raises(BootError) as refused:
        refuse_patched_threads()
    assert str(refused.value).startswith(f"the application calls {call}, ")
    assert len(str(refused.value).splitlines()) == 1


def test_the_names_are_those_of_gevent() -> None:
    monkey = pytest.importorskip("gevent.monkey")
    assert monkey.is_module_patched("threading") is False
