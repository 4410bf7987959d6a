"""The client's name in ASGI's extension `tls`, as RFC 4514 writes it."""

import pytest

from eggcluster.http.tls_extension import Subject, distinguished_name


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ((), ""),
        (((("countryName", "FR"),), (("organizationName", "Œufs"),), (("commonName", "a"),)), "CN=a,O=Œufs,C=FR"),
        (((("commonName", "a"), ("userId", "7")),), "CN=a+UID=7"),
        (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
        (((("commonName", 'a,O=b+c"d;e<f>g\\h'),),), 'CN=a\\,O=b\\+c\\"d\\;e\\<f\\>g\\\\h'),
        (((("commonName", " a b "),),), "CN=\\ a b\\ "),
        (((("commonName", " "),),), "CN=\\ "),
        (((("commonName", "#a\0"),),), "CN=\\#a\\00"),
    ],
)
def test_a_name_is_escaped_and_its_last_part_comes_first(subject: Subject, name: str) -> None:
    assert distinguished_name(subject) == name
