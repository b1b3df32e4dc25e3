"""The command `fleet-agent`: init, serve, check, version.

Imports little, and the rest inside the commands: `serve` forks the runner's helper before anything heavy is loaded,
so that the helper, and each supervisor that is forked from it, stays small.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from agent import __version__
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.config import Controller, Listen

__all__ = ["main", "run"]

PROGRAM = "fleet-agent"

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


class _UsageError(Exception):
    """The command line is wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave the wording to `main`: every error has one shape."""
        raise _UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name). Returns the exit code; 2 is wrong usage."""
    _fill_standard_streams()
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        code = command(arguments)
        sys.stdout.flush()
        return code
    except _UsageError as error:
        return _complain("usage", str(error), f"{PROGRAM} --help", code=_USAGE)
    except AgentError as error:
        return _complain(error.what, error.why, error.hint)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, which is no error; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        if os.environ.get("FLEET_DEBUG") == "1":
            raise
        return _complain("bug", f"{type(error).__name__}: {error}", "FLEET_DEBUG=1 shows where")


def _fill_standard_streams() -> None:
    """Put /dev/null where a standard stream was closed: else a connection could get number 2, and the log as well."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def run() -> NoReturn:
    """Run the process's own command line and exit: zipapp drops what a plain function returns."""
    sys.exit(main())


def _complain(what: str, why: str, hint: str | None = None, *, code: int = _FAILED) -> int:
    print(f"{PROGRAM}: {_printable(what)}: {_printable(why)}", file=sys.stderr)
    if hint is not None:
        print(f"hint: {_printable(hint)}", file=sys.stderr)
    return code


def _printable(text: str) -> str:
    """Escape what would move the terminal or break the line: names of files can hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def default_directory() -> str:
    """Return the agent's folder unless told otherwise."""
    return "/etc/fleet-agent" if os.geteuid() == 0 else os.path.expanduser("~/.config/fleet-agent")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Runs what enrolled fleet controllers ask for on this machine.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    folder = _Parser(add_help=False)
    where = "the agent's folder (default: /etc/fleet-agent, or ~/.config/fleet-agent if not root)"
    folder.add_argument("--dir", metavar="DIR", type=_path, default=default_directory(), help=where)

    init = commands.add_parser("init", parents=[folder], help="take in the file that `fleet enroll` wrote")
    init.add_argument(
        "--enrolment", metavar="FILE", type=_path, required=True, help="the enrolment file, readable by its owner alone"
    )
    init.add_argument("--listen", metavar="ADDR:PORT", help="address for a new agent.toml (default: 0.0.0.0:7422)")
    init.set_defaults(command=_init)

    serve = commands.add_parser("serve", parents=[folder], help="serve in the foreground until SIGTERM")
    serve.add_argument("--listen", metavar="ADDR:PORT", help="in the place of agent.toml's; port 0 is any free one")
    serve.set_defaults(command=_serve)

    check = commands.add_parser("check", parents=[folder], help="check settings and keys, and say what they mean")
    check.set_defaults(command=_check)

    version = commands.add_parser("version", help="say which versions this is made of")
    version.set_defaults(command=_version)
    return parser


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _init(arguments: argparse.Namespace) -> int:
    from agent import store

    listen = None if arguments.listen is None else _listen(arguments.listen)
    added = store.add(arguments.dir, arguments.enrolment, listen=listen)
    record = added.enrolment
    done = "replaced" if added.replaced else "added"
    print(
        f"{done} controller {record.controller} (this host is {record.host}, epoch {record.epoch}) in {arguments.dir}"
    )
    if added.replaced:
        print("an agent that runs already takes it in on SIGHUP (systemctl reload fleet-agent)", file=sys.stderr)
    if record.pool is not None:
        print(f"pool {record.pool}: every host of it holds these same keys and could pose as any other")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from agent.lazily import put_off

    put_off("inspect")
    from agent.runner import Runner

    runner = Runner.start()
    try:
        from dataclasses import replace

        from agent import config, store
        from agent.server import serve

        with store.open_folder(arguments.dir) as directory:
            settings = config.load(directory)
        if arguments.listen is not None:
            settings = replace(settings, listen=_listen(arguments.listen))
        return serve(arguments.dir, settings, runner)
    finally:
        runner.close()


def _check(arguments: argparse.Namespace) -> int:
    from agent import config, store

    with store.open_folder(arguments.dir) as directory:
        settings = config.load(directory)
        keyring = store.Keyring.load(directory)
    if not os.access(settings.shell, os.X_OK):
        raise AgentError(settings.shell, "there is no such program", f"set shell in {arguments.dir}/{config.FILE_NAME}")
    if not keyring.records:
        raise AgentError(arguments.dir, "no controller is enrolled", f"{PROGRAM} init --enrolment FILE")
    print(f"folder      {arguments.dir}")
    print(f"listen      {settings.listen}")
    print(f"shell       {settings.shell}")
    for name, record in sorted(keyring.records.items()):
        rules = settings.controller(name)
        print(f"controller  {name}: {_rights(rules)}; host {record.host}, epoch {record.epoch}")
        for line in _places(rules):
            print(f"            {_printable(line)}")
    for name in sorted(set(settings.controllers) - set(keyring.records)):
        print(f"note: agent.toml has a section for {name}, which is not enrolled", file=sys.stderr)
    return 0


def _rights(controller: Controller) -> str:
    may = ", ".join(sorted(controller.permissions)) or "ping alone"
    return f"{may} from {', '.join(map(str, controller.sources)) or 'anywhere'}"


def _places(controller: Controller) -> Iterator[str]:
    """Yield where a controller may push to and pull from, and its home, as far as the settings say."""
    for right, roots in (("push", controller.push), ("pull", controller.pull)):
        if roots is not None and right in controller.permissions:
            way = "to" if right == "push" else "from"
            yield f"{right} {way} {', '.join(map(_directory, roots))}"
    if controller.home is not None:
        yield f"home {_directory(controller.home)}"


def _directory(path: str) -> str:
    return path if os.path.isdir(path) else f"{path} (no directory)"


def _version(arguments: argparse.Namespace) -> int:
    import platform
    import ssl

    from agent.wire.constants import PROTOCOL_VERSION

    print(f"{PROGRAM} {__version__}")
    print(f"Python {platform.python_version()}")
    print(ssl.OPENSSL_VERSION)
    print(f"protocol {PROTOCOL_VERSION}")
    return 0


def _listen(text: str) -> Listen:
    from agent.config import parse_listen

    try:
        return parse_listen(text)
    except ValueError as error:
        raise _UsageError(f"--listen: {error}") from None
