"""Addresses, receivers, and reserved actions, which docs/messenger.md lists."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eggcluster.errors import BadReceiver, ReservedAction
from eggcluster.model.messages.message import LIFECYCLE_ACTIONS, Target, check_action, parse_receiver
from eggcluster.model.messages.role import AGENT, MASTER, PARENT, Address, app

ADDRESSES = st.sampled_from([MASTER, AGENT, PARENT]) | st.integers(1, (1 << 24) - 1).map(app)


@given(ADDRESSES)
def test_an_address_survives_its_packing(address: Address) -> None:
    assert Address.unpack(address.pack()) == address
    assert 0 <= address.pack() < 1 << 32


@given(st.integers(0, (1 << 32) - 1))
def test_any_number_is_an_address_or_a_value_error(number: int) -> None:
    try:
        assert Address.unpack(number).pack() == number
    except ValueError:
        assert number >> 24 > 3


def test_an_address_reads_like_a_receiver() -> None:
    assert [str(a) for a in (MASTER, AGENT, PARENT, app(2))] == ["master", "agent", "parent", "app#2"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("master", (Target.MASTER, 0)),
        ("agent", (Target.AGENT, 0)),
        ("parent", (Target.PARENT, 0)),
        ("app", (Target.APPS, 0)),
        ("all", (Target.ALL, 0)),
        ("app#2", (Target.SLOT, 2)),
        (4711, (Target.WORKER, 4711)),
        ((1 << 64) - 1, (Target.WORKER, (1 << 64) - 1)),
    ],
)
def test_receivers(name: int | str, target: tuple[Target, int]) -> None:
    assert parse_receiver(name) == target


@pytest.mark.parametrize(
    "name",
    [
        "",
        "app#0",
        "app#",
        "app#-1",
        "app#x",
        "app#²",
        "app#" + "9" * 5000,
        "agent#1",
        "nobody",
        0,
        -1,
        1 << 64,
        True,
        None,
        1.5,
        b"app",
    ],
)
def test_an_unknown_receiver_is_refused_with_what_would_be_right(name: Any) -> None:
    with pytest.raises(BadReceiver, match=r"unknown receiver .*: use a worker id"):
        parse_receiver(name)


@given(st.text() | st.integers())
def test_any_name_is_a_receiver_or_bad_receiver(name: int | str) -> None:
    try:
        _, number = parse_receiver(name)
    except BadReceiver:
        return
    assert 0 <= number < 1 << 64


@pytest.mark.parametrize("action", sorted(LIFECYCLE_ACTIONS))
def test_only_the_master_sends_lifecycle_messages(action: str) -> None:
    with pytest.raises(ReservedAction, match="which only the master sends"):
        check_action(action)


def test_the_contracts_lifecycle_messages_are_reserved() -> None:
    contract = "agent-start app-start egg-ready egg-pids agent-worker-died app-worker-died agent-exit app-exit realport"
    assert {*contract.split(), "reload-worker", "debug"} <= LIFECYCLE_ACTIONS


def test_the_documentation_lists_every_lifecycle_message() -> None:
    page = (Path(__file__).parents[2] / "docs" / "messenger.md").read_text(encoding="utf-8")
    section = page.partition("\n## Lifecycle messages\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", "".join(first_cells))) == LIFECYCLE_ACTIONS


def test_an_action_is_a_string() -> None:
    with pytest.raises(TypeError):
        check_action(1)  # type: ignore[arg-type]
    check_action("")
