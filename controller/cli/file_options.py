"""The options of `fleet push`, `pull` and `rollback`, each defined once, and what their values mean."""

from __future__ import annotations

import re
from typing import Annotated

from controller.cli.declare import Argument, Option
from controller.errors import FleetError
from controller.settings import number, read_size

_WHAT = "What is done"
_SHOW = "How results look"
_DEFAULT_SUFFIX = "~"  # as with cp(1) and rsync(1)
_LARGEST = 2**60  # bytes, and files
_MODE = "[0-7]{1,5}"

SourcesArgument = Annotated[
    list[str], Argument("SRC... DEST", help="Files, directories, links; then where they go on the hosts.")
]
RemoteArgument = Annotated[
    list[str], Argument("REMOTE... LOCALDIR", help="Paths on the hosts, * ? [] allowed; then a folder.")
]
RunArgument = Annotated[str | None, Argument("RUN", help="The id of a push. [default: the last one]")]
TimeoutOption = Annotated[
    float | None,
    Option("-t", "--timeout", metavar="S", help="Cut a host off after S seconds. [default: none]"),
]
# `--exclude` is about files here, as with rsync(1), and `-x` about hosts; see `controller.cli.excludes`.
HostsExcludeOption = Annotated[
    list[str] | None,
    Option("-x", metavar="PATTERN", help="Without hosts that match; repeatable.", panel="Which hosts"),
]
ExcludeOption = Annotated[
    list[str] | None,
    Option(
        "--exclude",
        metavar="PATTERN",
        help="Without files that match, as rsync says it; a pattern that means hosts: without those. Repeatable.",
        panel=_WHAT,
    ),
]
FollowOption = Annotated[bool, Option("-L", "--follow", help="Send what links point at, not the links.", panel=_WHAT)]
PreserveOption = Annotated[bool, Option("-p", "--preserve", help="Keep modification times.", panel=_WHAT)]
QuickOption = Annotated[bool, Option("--quick", help="Take equal size and time for equal; no checksum.", panel=_WHAT)]
ModeOption = Annotated[
    str | None,
    Option("--mode", metavar="MODE", help="Permissions of files, octal: 0644.", panel=_WHAT),
]
OwnerOption = Annotated[str | None, Option("--owner", metavar="USER", help="Owner, a name or number.", panel=_WHAT)]
GroupOption = Annotated[str | None, Option("--group", metavar="GROUP", help="Group, a name or number.", panel=_WHAT)]
BackupOption = Annotated[
    str | None,
    Option(
        "--backup",
        bare=_DEFAULT_SUFFIX,
        metavar="[=SUFFIX]",
        help="Keep replaced files under their name and SUFFIX. [default suffix: ~]",
        panel=_WHAT,
    ),
]
CheckOption = Annotated[bool, Option("--check", help="Change nothing, say what would change.", panel=_WHAT)]
DiffOption = Annotated[bool, Option("--diff", help="Show how texts change; equal changes once.", panel=_WHAT)]
ValidateOption = Annotated[
    str | None,
    Option(
        "--validate",
        metavar="COMMAND",
        help="Must exit 0 on the new file, %s, before it takes its place: 'nginx -t -c %s'.",
        panel=_WHAT,
    ),
]
DeleteOption = Annotated[
    bool,
    Option("--delete", help="Remove from directories what SRC does not have.", panel=_WHAT),
]
TemplateOption = Annotated[
    bool,
    Option("--template", help="Fill {host} and inventory variables into the files, unquoted.", panel=_WHAT),
]
FlatOption = Annotated[bool, Option("--flat", help="LOCALDIR/NAME.HOST, not LOCALDIR/HOST/NAME.", panel=_WHAT)]
MaxSizeOption = Annotated[
    str | None,
    Option("--max-size", metavar="BYTES", help="Skip larger files; K, M, G, T are understood.", panel=_WHAT),
]
MaxFilesOption = Annotated[
    int | None,
    Option("--max-files", metavar="N", help="At most N from a host. [default: 1000000]", panel=_WHAT),
]
FormatOption = Annotated[
    str | None,
    Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.", panel=_SHOW),
]
JsonOption = Annotated[bool, Option("--json", help="One JSON document at the end.", panel=_SHOW)]
JsonLinesOption = Annotated[bool, Option("--jsonl", help="A JSON event a line.", panel=_SHOW)]
QuietOption = Annotated[bool, Option("-q", "--quiet", help="Failures only.", panel=_SHOW)]
ProgressOption = Annotated[
    bool,
    Option("--progress", help="A line every 10 s where stderr is no terminal; there it is shown anyway."),
]


def at_least_two(paths: list[str], command: str, what: str) -> list[str]:
    if len(paths) < 2:
        raise FleetError("usage", f"{command} needs {what}", f"fleet {command} --help")
    for path in paths:
        if not path or "\0" in path:
            raise FleetError("usage", f"{path!r} is no path", f"fleet {command} --help")
    return paths


def read_mode(value: object) -> int:
    if re.fullmatch(_MODE, str(value)) is None or int(str(value), 8) > 0o7777:
        raise ValueError(f"{value!r} is not an octal mode, such as 0644")
    return int(str(value), 8)


def read_name(value: object) -> str:
    name = str(value)
    if not name or re.search(r"[\s:/\0]", name):
        raise ValueError(f"{name!r} is not a name or number")
    from agent.wire.file_messages import owner_number

    owner_number(name)  # raises ValueError for a number that nobody can have
    return name


def read_suffix(value: object) -> str:
    suffix = str(value)
    if not suffix or "/" in suffix:
        raise ValueError(f"{suffix!r} is not a suffix: {'it has a slash' if suffix else 'it is empty'}")
    if re.search(r"[\0-\x1f\x7f-\x9f]", suffix):
        raise ValueError(f"{suffix!r} is not a suffix: it has a control character")
    return suffix


def read_command(value: object) -> str:
    command = str(value)
    if "%s" not in command:
        raise ValueError(f"no %s in {command!r}, which stands for the new file")
    return command


def read_max_size(value: object) -> int:
    return read_size(value, low=1, high=_LARGEST)


def read_count(value: object) -> int:
    assert isinstance(value, int)
    number(value, low=1, high=_LARGEST, unit="files")
    return value
