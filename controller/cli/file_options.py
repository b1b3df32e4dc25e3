"""The options of `fleet push`, `pull` and `rollback`, each defined once, and what their values mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from controller.errors import FleetError
from controller.settings import number

if TYPE_CHECKING:
    from inventory import Inventory

_WHAT = "What is done"
_SHOW = "How results look"
_DEFAULT_SUFFIX = "~"  # as with cp(1) and rsync(1)
_LARGEST = 2**60  # bytes, and files
_SIZE = re.compile(r"([0-9]{1,19})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_MODE = re.compile("[0-7]{1,5}")

SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SRC... DEST", help="Files, directories, links; then where they go on the hosts.")
]
RemoteArgument = Annotated[
    list[str], typer.Argument(metavar="REMOTE... LOCALDIR", help="Paths on the hosts, * ? [] allowed; then a folder.")
]
RunArgument = Annotated[str | None, typer.Argument(metavar="RUN", help="The id of a push. [default: the last one]")]
TimeoutOption = Annotated[
    float | None,
    typer.Option("-t", "--timeout", metavar="S", help="Cut a host off after S seconds. [default: none]"),
]
# `--exclude` is about files here, as with rsync(1); `-x` about hosts, as everywhere.
HostsExcludeOption = Annotated[
    list[str] | None,
    typer.Option("-x", metavar="PATTERN", help="Without hosts that match; repeatable.", rich_help_panel="Which hosts"),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Without FILES that match, as rsync says it; repeatable. Hosts: -x.",
        rich_help_panel=_WHAT,
    ),
]
FollowOption = Annotated[
    bool, typer.Option("-L", "--follow", help="Send what links point at, not the links.", rich_help_panel=_WHAT)
]
PreserveOption = Annotated[
    bool, typer.Option("-p", "--preserve", help="Keep modification times.", rich_help_panel=_WHAT)
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Take equal size and time for equal; no checksum.", rich_help_panel=_WHAT)
]
ModeOption = Annotated[
    str | None,
    typer.Option("--mode", metavar="MODE", help="Permissions of files, octal: 0644.", rich_help_panel=_WHAT),
]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", metavar="USER", help="Owner, a name or number.", rich_help_panel=_WHAT)
]
GroupOption = Annotated[
    str | None, typer.Option("--group", metavar="GROUP", help="Group, a name or number.", rich_help_panel=_WHAT)
]
BackupOption = Annotated[
    str | None,
    typer.Option(
        "--backup",
        metavar="[=SUFFIX]",
        help="Keep replaced files under their name and SUFFIX. [default suffix: ~]",
        rich_help_panel=_WHAT,
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Change nothing, say what would change.", rich_help_panel=_WHAT)
]
DiffOption = Annotated[
    bool, typer.Option("--diff", help="Show how texts change; equal changes once.", rich_help_panel=_WHAT)
]
ValidateOption = Annotated[
    str | None,
    typer.Option(
        "--validate",
        metavar="COMMAND",
        help="Must exit 0 on the new file, %s, before it takes its place: 'nginx -t -c %s'.",
        rich_help_panel=_WHAT,
    ),
]
DeleteOption = Annotated[
    bool,
    typer.Option("--delete", help="Remove from directories what SRC does not have.", rich_help_panel=_WHAT),
]
TemplateOption = Annotated[
    bool,
    typer.Option(
        "--template", help="Fill {host} and inventory variables into the files, unquoted.", rich_help_panel=_WHAT
    ),
]
FlatOption = Annotated[
    bool, typer.Option("--flat", help="LOCALDIR/NAME.HOST, not LOCALDIR/HOST/NAME.", rich_help_panel=_WHAT)
]
MaxSizeOption = Annotated[
    str | None,
    typer.Option(
        "--max-size", metavar="BYTES", help="Skip larger files; K, M, G, T are understood.", rich_help_panel=_WHAT
    ),
]
MaxFilesOption = Annotated[
    int | None,
    typer.Option("--max-files", metavar="N", help="At most N from a host. [default: 1000000]", rich_help_panel=_WHAT),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.", rich_help_panel=_SHOW),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document at the end.", rich_help_panel=_SHOW)]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="A JSON event a line.", rich_help_panel=_SHOW)]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Failures only.", rich_help_panel=_SHOW)]
ProgressOption = Annotated[
    bool,
    typer.Option("--progress", help="A line every 10 s where stderr is no terminal; there it is shown anyway."),
]


class PushCommand(TyperCommand):
    """`--backup` takes a value or none, which typer has no words for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare `--backup` its default."""
        end = args.index("--") if "--" in args else len(args)
        bare = "--backup"
        return super().parse_args(
            ctx,
            [f"{bare}={_DEFAULT_SUFFIX}" if arg == bare and place < end else arg for place, arg in enumerate(args)],
        )


def at_least_two(paths: list[str], command: str, what: str) -> list[str]:
    if len(paths) < 2:
        raise FleetError("usage", f"{command} needs {what}", f"fleet {command} --help")
    for path in paths:
        if not path or "\0" in path:
            raise FleetError("usage", f"{path!r} is no path", f"fleet {command} --help")
    return paths


def check_exclude(patterns: Sequence[str], known: Inventory) -> None:
    """Refuse to take a host for a file: who leaves out db1 must not find it changed."""
    for pattern in patterns:
        if pattern in known or pattern in known.groups:
            raise FleetError("--exclude", f"is about files, and {pattern!r} is a host or group", f"say -x {pattern}")


def read_mode(value: object) -> int:
    if _MODE.fullmatch(str(value)) is None or int(str(value), 8) > 0o7777:
        raise ValueError(f"{value!r} is not an octal mode, such as 0644")
    return int(str(value), 8)


def read_name(value: object) -> str:
    name = str(value)
    if not name or re.search(r"[\s:/\0]", name):
        raise ValueError(f"{name!r} is not a name or number")
    return name


def read_suffix(value: object) -> str:
    suffix = str(value)
    if not suffix or re.search("[/\0]", suffix):
        raise ValueError(f"{suffix!r} is not a suffix")
    return suffix


def read_command(value: object) -> str:
    command = str(value)
    if "%s" not in command:
        raise ValueError(f"no %s in {command!r}, which stands for the new file")
    return command


def read_size(value: object) -> int:
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a number of bytes, such as 500, 64K or 2G")
    size: int = int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")
    number(size, low=1, high=_LARGEST, unit="bytes")
    return size


def read_count(value: object) -> int:
    assert isinstance(value, int)
    number(value, low=1, high=_LARGEST, unit="files")
    return value
