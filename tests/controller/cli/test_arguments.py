"""Command lines read quickly: the same as typer reads, or left to typer."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli import arguments
from controller.cli.declare import Argument, Command, Option
from controller.cli.main import COMMANDS, all_commands
from controller.cli.program import program, run

Words = Annotated[list[str] | None, Argument("WORDS...", help="Some.")]
Needed = Annotated[list[str], Argument("WORDS...", help="One at least.")]
One = Annotated[str | None, Argument("WORD", help="One.")]
Number = Annotated[int, Option("-n", "--number", metavar="N", help="How many.")]
Share = Annotated[float | None, Option("--share", metavar="S", help="How much.")]
Names = Annotated[list[str] | None, Option("-l", "--limit", metavar="L", help="Which.")]
Text = Annotated[str | None, Option("-t", "--text", metavar="T", help="What.")]
Backup = Annotated[str | None, Option("--backup", metavar="[=S]", bare="~", help="Where.")]
Brief = Annotated[bool, Option("-b", "--brief", help="Less.")]
Quiet = Annotated[bool, Option("-q", help="Nothing.")]


def take(
    words: Words = None,
    number: Number = 3,
    share: Share = None,
    limit: Names = None,
    text: Text = None,
    backup: Backup = None,
    brief: Brief = False,
    quiet: Quiet = False,
) -> None:
    """Take anything."""
    SEEN.append(locals())


def take_some(words: Needed, brief: Brief = False) -> None:
    """Take one word at least."""
    SEEN.append(locals())


def take_one(word: One = None, brief: Brief = False) -> None:
    """Take one word at most."""
    SEEN.append(locals())


SEEN: list[dict[str, object]] = []
PLAIN = {
    "words": None,
    "number": 3,
    "share": None,
    "limit": None,
    "text": None,
    "backup": None,
    "brief": False,
    "quiet": False,
}
ANYWHERE, FIRST = Command(take), Command(take, interspersed=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("-n 5", {"number": 5}),
        ("-n5", {"number": 5}),
        ("--number=5", {"number": 5}),
        ("--number -5", {"number": -5}),
        ("-n 1 -n 2", {"number": 2}),
        ("--share 1e3", {"share": 1000.0}),
        ("-l a --limit b -lc", {"limit": ["a", "b", "c"]}),
        ("-bq", {"brief": True, "quiet": True}),
        ("-bqn7", {"brief": True, "quiet": True, "number": 7}),
        ("-bt -q", {"brief": True, "text": "-q"}),
        ("--text=", {"text": ""}),
        ("-t=x", {"text": "=x"}),
        ("--text --brief", {"text": "--brief"}),
        ("--backup", {"backup": "~"}),
        ("--backup=.old", {"backup": ".old"}),
        ("-- -b --", {"words": ["-b", "--"]}),
        ("-", {"words": ["-"]}),
        ("-- --backup", {"words": ["--backup"]}),
    ],
)
@pytest.mark.parametrize("command", [ANYWHERE, FIRST])
def test_reading(command: Command, line: str, expected: dict[str, object]) -> None:
    assert arguments.read(command, line.split()) == {**PLAIN, **expected}


def test_options_after_the_first_word() -> None:
    words = ["-b", "df", "-n", "5"]
    assert arguments.read(FIRST, words) == {**PLAIN, "brief": True, "words": ["df", "-n", "5"]}
    assert arguments.read(ANYWHERE, words) == {**PLAIN, "brief": True, "words": ["df"], "number": 5}
    assert arguments.read(FIRST, ["df", "--", "x"]) == {**PLAIN, "words": ["df", "--", "x"]}
    assert arguments.read(ANYWHERE, ["df", "--", "-b"]) == {**PLAIN, "words": ["df", "-b"]}


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "-h",
        "--none",
        "-z",
        "-bz",
        "-n",
        "--number",
        "-n x",
        "-n 1.5",
        "--share x",
        "--brief=1",
        "--num 5",
        "---",
    ],
)
def test_what_is_left_to_typer(line: str) -> None:
    assert arguments.read(ANYWHERE, line.split()) is None


def test_an_argument_that_must_be_there() -> None:
    assert arguments.read(Command(take_some), ["-b"]) is None
    assert arguments.read(Command(take_some), ["a", "-b"]) == {"words": ["a"], "brief": True}


def test_one_argument() -> None:
    assert arguments.read(Command(take_one), []) == {"word": None, "brief": False}
    assert arguments.read(Command(take_one), ["a"]) == {"word": "a", "brief": False}
    assert arguments.read(Command(take_one), ["a", "b"]) is None


# Against typer -----------------------------------------------------------------------------------------------------

WORD = st.one_of(
    st.sampled_from(
        [
            "-n",
            "--number",
            "--number=",
            "-n3",
            "--share",
            "--share=0.5",
            "-l",
            "-la",
            "--limit=b",
            "-t",
            "--text=x",
            "-b",
            "--brief",
            "-q",
            "-bq",
            "-bn",
            "-btx",
            "--backup",
            "--backup=s",
            "--",
            "-",
            "--brief=1",
            "-z",
            "--zz",
            "-h",
            "5",
            "0x5",
            "1_0",
            "\u0665",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)


def by_typer(name: str, command: Command, words: list[str]) -> dict[str, object] | None:
    """Return what typer makes of the words, None when it complains or helps."""
    SEEN.clear()
    try:
        run({name: command}, [name, *words])
    except SystemExit:
        return None
    return SEEN[0] if SEEN else None


@pytest.mark.parametrize(
    "command", [ANYWHERE, FIRST, Command(take_some), Command(take_one)], ids=["anywhere", "first", "some", "one"]
)
@given(words=st.lists(WORD, max_size=7))
@settings(deadline=None, max_examples=250)
def test_the_same_as_typer_or_nothing(command: Command, words: list[str]) -> None:
    quick = arguments.read(command, words)
    if quick is not None:
        assert by_typer("x", command, words) == quick


@given(
    words=st.lists(
        st.sampled_from(
            ["-n", "5", "--share", ".5", "-l", "web", "-t", "x", "-b", "-q", "-bq", "--backup", "df", "-h", "--", "-"]
        ),
        max_size=7,
    )
)
@settings(deadline=None, max_examples=250)
def test_what_typer_takes_is_read_quickly(words: list[str]) -> None:
    slow = by_typer("x", FIRST, words)
    if slow is not None:
        assert arguments.read(FIRST, words) == slow


# The real commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_command_is_declared(name: str) -> None:
    parameters = list(all_commands()[name].parameters())
    assert all(isinstance(parameter.said, Option | Argument) for parameter in parameters)
    assert all(parameter.said.help or getattr(parameter.said, "hidden", False) for parameter in parameters)
    names = [flag for parameter in parameters if isinstance(parameter.said, Option) for flag in parameter.said.names]
    assert len(names) == len(set(names))
    assert sum(isinstance(parameter.said, Argument) for parameter in parameters) <= 1


@pytest.mark.parametrize("name", COMMANDS)
def test_typer_knows_the_same_options(name: str) -> None:
    (info,) = program({name: all_commands()[name]}).registered_commands
    assert info.name == name
    assert info.callback is not None
    assert info.callback.__doc__ == all_commands()[name].function.__doc__


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["x", "-n", "y"],
            "fleet: usage: invalid value for '-n' / '--number': 'y' is not a valid int\nhint: fleet x --help\n",
        ),
        (["y"], "fleet: usage: no such command 'y'\nhint: fleet --help\n"),
        (["x", "--zzz"], "fleet: usage: no such option: --zzz\nhint: fleet x --help\n"),
    ],
)
def test_wrong_usage(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run({"x": ANYWHERE}, words) == 2
    assert capsys.readouterr() == ("", text)


def test_other_errors_pass_through() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run({"x": Command(fail)}, ["x"])
