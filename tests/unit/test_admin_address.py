"""The admin port's address: how it is read, and which are none."""

import pytest

from eggcluster.options.admin_address import AdminAddress, parse_admin_address
from eggcluster.options.option_type import BadValue, admin_address


@pytest.mark.parametrize(
    ("given", "address", "text"),
    [
        ("7101", AdminAddress("127.0.0.1", 7101), "127.0.0.1:7101"),
        (":7101", AdminAddress("127.0.0.1", 7101), "127.0.0.1:7101"),
        ("0.0.0.0:0", AdminAddress("0.0.0.0", 0), "0.0.0.0:0"),
        ("localhost:65535", AdminAddress("localhost", 65535), "localhost:65535"),
        ("[::1]:7101", AdminAddress("::1", 7101), "[::1]:7101"),
        ("unix:/run/egg/admin", AdminAddress(path="/run/egg/admin"), "unix:/run/egg/admin"),
    ],
)
def test_an_address_is_read_and_shown_in_full(given: str, address: AdminAddress, text: str) -> None:
    assert parse_admin_address(given) == address
    assert str(address) == admin_address().take(given) == text
    assert parse_admin_address(text) == address


def test_python_may_give_a_number() -> None:
    assert admin_address().take(7101) == "127.0.0.1:7101"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        "65536",
        "host:",
        "::1:7101",
        "a b:1",
        "http://x:1",
        "-1",
        "unix:",
        "unix:a",
        "unix:/a\0",
        None,
        True,
        1.5,
    ],
)
def test_what_is_no_address_is_refused(given: object) -> None:
    with pytest.raises(BadValue):
        admin_address().take(given)


def test_what_is_reached_from_this_machine_alone_is_local() -> None:
    assert [parse_admin_address(each).is_local for each in ("1", "127.1.2.3:1", "[::1]:1", "localhost:1", "unix:/a")]
    assert not parse_admin_address("0.0.0.0:1").is_local
