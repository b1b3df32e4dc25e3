"""The ``:`` commands of a prompt: one table, which the help and the completion are made of too."""

from __future__ import annotations

import glob
import os
import posixpath
import shlex
from collections.abc import Callable
from contextlib import nullcontext

from agent.wire.record import record
from controller.errors import FleetError
from controller.output.files import FileTable
from controller.output.listing import write_table
from controller.output.progress import Display, Progress
from controller.results import Result
from controller.runs import Run
from controller.shell.dialogue import Dialogue
from inventory import fold

__all__ = ["COMMANDS", "Command", "execute"]


@record
class Command:
    """`act` gets what stands behind the name, without blanks around it, and returns whether the prompt goes on."""

    usage: str
    help: str
    act: Callable[[Dialogue, str], bool]


def execute(dialogue: Dialogue, line: str) -> bool:
    """Do what a line says that starts with a colon. Returns whether the prompt goes on. Raises FleetError."""
    name, _, rest = line[1:].strip().partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        known = ", ".join(f":{known}" for known in COMMANDS)
        raise FleetError(f":{name}", f"there is no such command; there are {known}")
    return command.act(dialogue, rest.strip())


def _hosts(dialogue: Dialogue, rest: str) -> bool:
    _expect(not rest, "hosts")
    rows: dict[tuple[str, str, str], list[str]] = {}
    for result in dialogue.join():
        member = dialogue.session.members[result.host]
        row = (result.status.value, member.state.directory or "~", result.error or "-")
        rows.setdefault(row, []).append(result.host)
    cells = [(fold(names), str(len(names)), *row) for row, names in rows.items()]
    write_table(dialogue.out, ("HOSTS", "NUMBER", "STATUS", "DIRECTORY", "ERROR"), cells)
    return True


def _limit(dialogue: Dialogue, rest: str) -> bool:
    dialogue.limit(rest or None)
    return True


def _put(dialogue: Dialogue, rest: str) -> bool:
    *sources, remote = _words("put", rest, at_least=2)
    local = [path for source in sources for path in _matching(os.path.expanduser(source))]
    destination = _there(dialogue, "put", remote)
    _transfer(dialogue, lambda **how: dialogue.fleet.push(local, destination, **how))
    return True


def _get(dialogue: Dialogue, rest: str) -> bool:
    *remote, folder = _words("get", rest, at_least=2)
    paths = [_there(dialogue, "get", path) for path in remote]
    _transfer(dialogue, lambda **how: dialogue.fleet.pull(paths, os.path.expanduser(folder), **how))
    return True


def _ls(dialogue: Dialogue, rest: str) -> bool:
    dialogue.run(f"ls -la -- {rest}" if rest else "ls -la")
    return True


def _fold(dialogue: Dialogue, rest: str) -> bool:
    dialogue.folded = _switch("fold", rest)
    return True


def _diff(dialogue: Dialogue, rest: str) -> bool:
    dialogue.compared = _switch("diff", rest)
    return True


def _help(dialogue: Dialogue, rest: str) -> bool:
    _expect(not rest, "help")
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  {command.usage:{width}}  {command.help}" for command in COMMANDS.values()]
    dialogue.out.line("\n".join([*_ABOUT, *lines]))
    return True


def _quit(dialogue: Dialogue, rest: str) -> bool:
    _expect(not rest, "quit")
    return False


_ABOUT = (
    "A line without a colon runs on the hosts. Directory, variables and umask last,",
    "each host's its own; functions, aliases and options of the shell do not.",
    "Ctrl-C stops what runs; twice does not wait for it. For the prompt itself:",
)

COMMANDS = {
    "hosts": Command(":hosts", "who is in, where, and who is not; tries those again", _hosts),
    "limit": Command(":limit [PATTERN]", "go on with hosts that match; alone: with all again", _limit),
    "put": Command(":put LOCAL... REMOTE", "send files and directories, as fleet push", _put),
    "get": Command(":get REMOTE... LOCALDIR", "fetch them into LOCALDIR/HOST, as fleet pull", _get),
    "ls": Command(":ls [PATH]", "list a directory there", _ls),
    "fold": Command(":fold on|off", "on: equal output once; off: lines as they come", _fold),
    "diff": Command(":diff on|off", "on: how output differs from most hosts'", _diff),
    "help": Command(":help", "this", _help),
    "quit": Command(":quit", "leave, as do Ctrl-D and exit", _quit),
}


def _expect(right: bool, name: str) -> None:
    if not right:
        raise FleetError(f":{name}", "wrong arguments", COMMANDS[name].usage)


def _switch(name: str, rest: str) -> bool:
    _expect(rest in ("on", "off"), name)
    return rest == "on"


def _words(name: str, rest: str, *, at_least: int) -> list[str]:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise FleetError(f":{name}", str(error)[:1].lower() + str(error)[1:]) from None
    _expect(len(words) >= at_least, name)
    return words


def _matching(path: str) -> list[str]:
    """Return the local files that a pattern means; a path that is none, or matches nothing, stands for itself."""
    return [path] if os.path.lexists(path) else sorted(glob.glob(path)) or [path]


def _there(dialogue: Dialogue, name: str, path: str) -> str:
    """Return a path on the hosts, seen from the directory that they are in. Raises FleetError when that differs."""
    if path.startswith("~/") or path == "~":
        return path[2:] or "./"  # what is not absolute begins at home
    if path.startswith("/"):
        return path
    directories = {dialogue.session.members[host].state.directory for host in dialogue.hosts}
    if len(directories) > 1:
        raise FleetError(
            f":{name}", f"{path!r} means different places: hosts are in different directories", "see :hosts"
        )
    (directory,) = directories
    return path if directory is None else posixpath.join(directory, path)


def _transfer(dialogue: Dialogue, begin: Callable[..., Run[Result]]) -> None:
    """Push or pull, with a progress bar on a terminal, and the table that these commands print."""
    table = FileTable(dialogue.out, dialogue.err)
    progress = Progress(len(dialogue.hosts))
    redraw = dialogue.err.terminal and os.environ.get("TERM") != "dumb"
    display = Display(progress, dialogue.err, redraw=True, width=lambda: dialogue.err.width or 80) if redraw else None
    how = {"limit": dialogue.limits(), "exclude": dialogue.choice.exclude, "keep": False, "watcher": progress}
    dialogue.carry_out(lambda token: begin(cancel=token, **how), table.end, table.finish, display or nullcontext())
