"""Which files are watched, and what counts as a change: the file watcher's decisions, and its looks at real files."""

import os
import threading
from pathlib import Path

import pytest

from eggcluster.file_watcher.watched_files import MAX_NAMED, WatchedFiles, directories_of, is_foreign, report_of
from eggcluster.file_watcher.watching import existing, follow, matching
from eggcluster.ipc.file_watch import FilesChanged, WatchOrder, encode_line, read_changes, read_order
from eggcluster.kernel.file_stamps import ABSENT, Stamp, stamp_of
from eggcluster.master.file_watching import in_words, is_installed, patterns
from eggcluster.options import ClusterOptions, parse_options
from tests.waiting import wait_until

APP: Stamp = ("/srv/app.py", 1, 10)
PAGE: Stamp = ("/srv/page.html", 1, 10)


def newer(stamp: Stamp) -> Stamp:
    return stamp[0], stamp[1] + 1, stamp[2]


def gone(stamp: Stamp) -> Stamp:
    return stamp[0], 0, ABSENT


def watched(sources: list[Stamp], matches: list[Stamp] | None = None) -> WatchedFiles:
    files = WatchedFiles()
    files.watch(sources, matches or [])
    return files


# -- what counts as a change ---------------------------------------------------------------------------------


def test_a_file_has_changed_once() -> None:
    files = watched([APP], [PAGE])
    assert not files.changed([APP, PAGE])
    assert files.changed([newer(APP), PAGE]) == [APP[0]]
    assert not files.changed([newer(APP), PAGE])


def test_a_file_that_goes_and_one_that_comes_have_changed() -> None:
    files = watched([APP])
    assert files.changed([gone(APP)]) == [APP[0]]
    assert files.changed([APP]) == [APP[0]]


def test_a_source_that_has_changed_since_it_was_imported_counts() -> None:
    files = watched([APP])
    late: Stamp = ("/srv/late.py", 6, 5)
    files.watch([APP, late], [])
    assert files.changed([APP, newer(late)]) == [late[0]]


def test_another_order_forgets_no_change_that_was_seen_and_none_that_was_not() -> None:
    files = watched([APP])
    assert files.changed([newer(APP)])
    files.watch([APP], [])  # a worker of the older version reports late
    assert not files.changed([newer(APP)])
    files.watch([newer(newer(APP))], [])  # one has imported what was not looked at yet
    assert files.changed([newer(newer(APP))]) == [APP[0]]


def test_a_new_file_that_matches_a_pattern_has_changed() -> None:
    files = watched([APP])
    files.match([PAGE[0], APP[0]])
    assert files.paths == [APP[0], PAGE[0]]
    assert files.changed([APP, PAGE]) == [PAGE[0]]


def test_a_report_names_the_first_of_many() -> None:
    many: list[Stamp] = [(f"/srv/{number}.py", 1, 1) for number in range(MAX_NAMED + 5)]
    report = report_of(watched(many).changed(map(newer, many)))
    assert report == FilesChanged(MAX_NAMED + 5, [stamp[0] for stamp in many[:MAX_NAMED]])


def test_directories_are_watched_because_a_rename_makes_another_file() -> None:
    assert directories_of(["/srv/app.py", "/srv/pages/a.html", "/srv/pages/b.html"]) == {"/srv", "/srv/pages"}


@pytest.mark.parametrize("path", ["venv/lib/site-packages/x.py", "node_modules/x.js", "a/__pycache__/x.pyc"])
def test_what_tools_install_is_foreign(path: str) -> None:
    assert is_foreign(path)
    assert not is_foreign(f"src/{os.path.basename(path)}")


# -- the orders and reports ----------------------------------------------------------------------------------


def test_both_messages_are_lines() -> None:
    order = WatchOrder("/srv", [APP, gone(PAGE)], ["**/*.html"])
    report = FilesChanged(2, ["/srv/a\nb.py", "/srv/ü.py"])
    assert encode_line(report).count(b"\n") == 1
    assert read_order(encode_line(order)) == order
    assert read_changes(encode_line(report)) == report


def test_the_patterns_follow_from_the_options(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("async def app(scope, receive, send): ...\n")
    (tmp_path / "lib").mkdir()
    given = ClusterOptions(reload=True, reload_dir=(str(tmp_path / "lib"),), reload_include=("pages/*.html",))
    options = parse_options(given, environ={}, base_dir=str(tmp_path))
    assert patterns(options) == [f"{tmp_path}/lib/**/*.py", "pages/*.html"]


def test_installed_packages_are_not_the_applications_own() -> None:
    assert is_installed("/srv/.venv/lib/python3.11/site-packages/x.py")
    assert not is_installed("/srv/site-packages.py")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (FilesChanged(1, ["/srv/app.py"]), "app.py"),
        (FilesChanged(2, ["/srv/a.py", "/lib/b.py"]), "a.py, /lib/b.py"),
        (FilesChanged(5, ["/srv/1", "/srv/2", "/srv/3", "/srv/4"]), "1, 2, 3 and 2 more"),
        (FilesChanged(1, ["/srv/a\nb.py"]), "a\\nb.py"),
    ],
)
def test_the_log_names_what_has_changed(changes: FilesChanged, words: str) -> None:
    assert in_words(changes, "/srv") == words


# -- at real files -------------------------------------------------------------------------------------------


def order_in(folder: Path, *globs: str) -> WatchOrder:
    return WatchOrder(str(folder), [stamp_of(str(folder / "app.py"))], [*globs])


def test_patterns_match_as_glob_does(tmp_path: Path) -> None:
    for name in ("pages/a.html", "pages/deep/b.html", "node_modules/c.html", "pages/.hidden/d.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = matching(order_in(tmp_path, "**/*.html"))
    assert sorted(os.path.relpath(path, tmp_path) for path in found) == ["pages/a.html", "pages/deep/b.html"]


def test_the_directories_of_links_and_of_files_to_come_are_watched(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "app.py").touch()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "app.py").symlink_to(tmp_path / "elsewhere" / "app.py")
    (tmp_path / "base" / "pages" / "deep").mkdir(parents=True)
    order = order_in(tmp_path / "base", "pages/**/*.html")
    files = watched(order.sources)
    directories = {os.path.relpath(os.path.normpath(path), tmp_path) for path in existing(files, order)}
    assert directories == {"base", "elsewhere", "base/pages", "base/pages/deep"}


@pytest.fixture
def following(tmp_path: Path) -> tuple[list[FilesChanged], threading.Event, threading.Thread]:
    """The reports about app.py and the pages, and the thread that makes them, until the event is set."""
    (tmp_path / "app.py").write_text("1")
    (tmp_path / "pages").mkdir()
    reports: list[FilesChanged] = []
    stop = threading.Event()
    arguments = (order_in(tmp_path, "pages/**/*.html"), WatchedFiles(), stop, reports.append)
    return reports, stop, threading.Thread(target=follow, args=arguments)


def test_every_way_to_save_is_seen_and_the_end_is_prompt(
    tmp_path: Path, following: tuple[list[FilesChanged], threading.Event, threading.Thread]
) -> None:
    pytest.importorskip("watchfiles")
    reports, stop, thread = following
    app, page = tmp_path / "app.py", tmp_path / "pages" / "new" / "page.html"

    def replace() -> None:
        (tmp_path / "app.py.tmp").write_text("another")
        (tmp_path / "app.py.tmp").rename(app)

    def make_page() -> None:
        page.parent.mkdir()
        page.write_text("page")

    ways = [lambda: app.write_text("changed"), replace, app.unlink, lambda: app.write_text("again"), make_page]
    thread.start()
    try:
        for way in ways:
            reports.clear()
            way()
            wait_until(lambda: reports, f"the report of {way}")
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
    assert reports[-1].paths == [str(page)]
