"""The admin port's application: its paths, methods and token."""

import pytest

from eggcluster.master.admin.admin_app import AdminApp, Answer, as_json, text

PAGES = {
    "/live": lambda: text(200, "alive"),
    "/ready": lambda: text(503, "not yet"),
    "/status": lambda: as_json({"name": "shop"}),
}


def ask(path: str, method: str = "GET", token: str | None = None, authorization: bytes = b"") -> Answer:
    headers = [(b"authorization", authorization)] if authorization else []
    return AdminApp(PAGES, token).answer(method, path, headers)


def test_pages_are_found_by_their_path_alone() -> None:
    assert ask("/live") == Answer(200, b"alive\n")
    assert ask("/ready").status == 503
    assert ask("/status").body == b'{\n  "name": "shop"\n}\n'
    for path in ("/", "/live/", "/LIVE", "//live", ""):
        assert ask(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PURGE"])
def test_pages_take_get_and_head(method: str) -> None:
    answer = ask("/live", method)
    assert (answer.status, answer.headers) == (405, ((b"allow", b"GET, HEAD"),))


@pytest.mark.parametrize(
    "given", [b"", b"Basic secret", b"Bearer", b"Bearer ", b"Bearer secre", b"Bearer secret2", b"s"]
)
def test_without_the_token_there_are_probes_alone(given: bytes) -> None:
    assert ask("/live", token="secret", authorization=given).status == 200
    assert ask("/ready", token="secret", authorization=given).status == 503
    for path in ("/status", "/nowhere"):  # which pages there are is told with the token
        answer = ask(path, token="secret", authorization=given)
        assert (answer.status, answer.headers) == (401, ((b"www-authenticate", b"Bearer"),))


@pytest.mark.parametrize("given", [b"Bearer secret", b"bearer  secret "])
def test_with_the_token_there_is_everything(given: bytes) -> None:
    assert ask("/status", token="secret", authorization=given).status == 200
    assert ask("/nowhere", token="secret", authorization=given).status == 404
