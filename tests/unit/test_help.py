"""What the command line says about itself: the help, the front page, and a wrong command line in one line."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from eggcluster.cli import main as entrance
from eggcluster.cli.front_page import Surroundings, front_page
from eggcluster.cli.help_text import COMMAND_GROUPS, EXAMPLES, START_EXAMPLES
from eggcluster.options.groups import GROUPS
from eggcluster.options.table import OPTIONS
from eggcluster.runtime.runtime_dir import Description

NARROW, WIDE = "80", "120"


def answer(*arguments: str, columns: str = NARROW) -> str:
    found = CliRunner(env={"COLUMNS": columns}).invoke(entrance.command, arguments, prog_name="eggcluster")
    assert found.exit_code == 0, found.output
    return found.output


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a wrong command line is refused."""
    monkeypatch.setattr("sys.argv", ["eggcluster", *arguments])
    with pytest.raises(SystemExit) as end:
        entrance.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("eggcluster: ")


# -- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [NARROW, WIDE])
def test_every_sentence_of_the_help_is_whole(columns: str) -> None:
    text = answer("--help", columns=columns)
    assert "..." not in text
    flat = " ".join(text.split())
    for each in entrance.command.commands.values():
        assert " ".join((each.help or "").split()) in flat
    assert max(map(len, text.splitlines())) <= int(columns)


def test_the_main_job_comes_first() -> None:
    text = answer("--help")
    order = [text.index(f"\n{title}:") for title, _ in COMMAND_GROUPS]
    assert order == sorted(order)
    assert {name for _, members in COMMAND_GROUPS for name in members} == set(entrance.command.commands)
    assert text.index("  start ") < text.index("  dev ") < text.index("  status ") < text.index("  stop ")


@pytest.mark.parametrize("verb", ["start", "dev"])
def test_each_option_of_a_cluster_is_in_one_group(verb: str) -> None:
    text = answer(verb, "--help")
    for title, _ in GROUPS:
        assert f"\n{title}:" in text
    for option in OPTIONS:
        if option.flags:
            flag = option.flags[0].partition("/")[0]
            assert len(re.findall(rf"^  {flag}(?![\w-])", text, re.MULTILINE)) == 1, flag
    assert sorted(field for _, fields in GROUPS for field in fields) == sorted(option.field for option in OPTIONS)


def test_every_example_is_a_right_command_line() -> None:
    for line, _ in (*EXAMPLES, *START_EXAMPLES):
        _, verb, *arguments = line.split()
        command = entrance.command.commands[verb]
        assert command.make_context(verb, arguments) is not None


# -- the front page ------------------------------------------------------------------------------------------


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EGG_RUNTIME_DIR", str(folder / "run"))
    return answer()


def test_alone_it_names_the_application_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "main.py").write_text("app = object()\nraise SystemExit('it must not be imported')\n")
    (tmp_path / "agent.py").touch()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "wsgi.py").write_text("application = object()\n")
    text = page_of(tmp_path, monkeypatch)
    assert "eggcluster start main:app       run main:app, with the agent of agent.py" in text
    assert "Other applications here: shop.wsgi:application." in text


def test_alone_behind_a_link_it_names_the_directory_as_the_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r1").mkdir()
    (tmp_path / "current").symlink_to("r1")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert f"{tmp_path}/current has no Python file" in page_of(tmp_path / "current", monkeypatch)


def test_alone_it_offers_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site_code.py").write_text("def create_app(): ...\n")
    assert "eggcluster start --factory site_code:create_app" in page_of(tmp_path, monkeypatch)


def test_alone_in_an_empty_directory_it_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page_of(tmp_path, monkeypatch)
    assert f"{tmp_path} has no Python file that defines `app` or `application`" in text
    assert "eggcluster start PACKAGE.MODULE:ATTRIBUTE" in text


def test_what_does_not_parse_or_is_no_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text("def (")
    (tmp_path / "main.py").mkdir()
    (tmp_path / "gone.py").symlink_to("nowhere")
    assert "has no Python file" in page_of(tmp_path, monkeypatch)


def test_a_directory_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert refused(monkeypatch, capsys) == "the current directory no longer exists; change to another one"


def test_where_a_cluster_runs_it_says_what_can_be_done_with_it() -> None:
    shop, chat = Description(4711, "shop", "/srv/shop"), Description(4712, "chat", "/srv/chat")
    text = "\n".join(front_page(Surroundings("/srv/shop", ("app:app",), here=(shop,), elsewhere=(chat,))))
    assert 'The cluster "shop" runs here (pid 4711):\n  eggcluster status   ' in text
    assert "eggcluster start" not in text
    assert "Elsewhere: chat (/srv/chat)." in text
    both = "\n".join(front_page(Surroundings("/srv", here=(shop, chat))))
    assert "eggcluster stop --name chat" in both


def test_a_directorys_name_does_not_move_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a\x1b[2J\n\u202e"
    folder.mkdir()
    assert r"a\x1b[2J\n\u202e has no Python file" in page_of(folder, monkeypatch)


# -- a wrong command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "--wokers", "3"], '--wokers: is not an option; did you mean "--workers"?'),
        (["start", "--bind", "x"], "--bind: is not an option; write --host HOST --port PORT instead of gunicorn's"),
        (["dev", "-k", "x"], "-k: is not an option; gunicorn's and hypercorn's is not needed: ASGI or WSGI is det"),
        (["start", "-p"], "-p: needs a value"),
        (["start", "a:b", "c"], "got unexpected extra argument (c); see `eggcluster start --help`"),
        (["-w", "4"], '-w: is not an option of "eggcluster"; `eggcluster start` has it'),
        (
            ["--bind", ":80", "a:b"],
            '--bind: is not an option of "eggcluster"; with `eggcluster start`, write --host HOST',
        ),
        (
            ["-k", "x"],
            "-k: is not an option of \"eggcluster\"; with `eggcluster start`, gunicorn's and hypercorn's is not",
        ),
        (["status", "--nme", "x"], '--nme: is not an option of "eggcluster status"; did you mean "--name"?'),
        (["status", "--bind"], '--bind: is not an option of "eggcluster status"'),
        (["main:app"], '"main:app" is not a command; write `eggcluster start main:app`'),
        (["shop.py"], '"shop.py" is not a command; write `eggcluster start shop:app`'),
        (["restart"], '"restart" is not a command; did you mean "reload"?'),
        (["strat"], '"strat" is not a command; did you mean "start"?'),
        (["x\x1b[2J"], '"x\\x1b[2J" is not a command; `eggcluster --help` lists them'),
    ],
)
def test_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert refused(monkeypatch, capsys, *arguments).startswith(said)


def test_any_error_of_click_is_one_line() -> None:
    from eggcluster.cli.usage_errors import usage_problem

    assert usage_problem(click.ClickException("Two\nlines.")) == "two lines"
