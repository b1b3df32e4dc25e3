"""`fleet demo`: see it work, with nothing set up."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from controller.cli import options as o
from controller.cli.declare import Argument, Command, Option
from controller.cli.keys import fleet_errors
from controller.cli.look import Look
from controller.cli.run import Request, carry_out
from controller.errors import CancelledError, FleetError
from controller.results import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from controller.cancel import CancelToken
    from controller.demo import Demo

_MOST_AGENTS = 100
_DEFAULT_COMMAND = "df -h"

CommandArgument = Annotated[list[str] | None, Argument("[COMMAND...]", help="What to run. [default: df -h]")]
CountOption = Annotated[int, Option("-n", metavar="N", help="How many agents.")]
KeepOption = Annotated[
    str | None, Option("--keep", metavar="DIR", help="Leave them running, with everything about them in DIR.")
]
StopOption = Annotated[str | None, Option("--stop", metavar="DIR", help="End those that --keep DIR left.")]


def demo(command: CommandArgument = None, n: CountOption = 3, keep: KeepOption = None, stop: StopOption = None) -> int:
    """Start agents on this machine's loopback, run a command on them, show the table, stop them."""
    from controller.cancel import CancelToken
    from controller.demo import stop_kept
    from controller.interrupts import Interrupts

    if stop is not None:
        ended = stop_kept(Path(stop))
        o.say(f"ended {ended} agents; what they left is in {stop}")
        return 0
    if not 1 <= n <= _MOST_AGENTS:
        raise FleetError("-n", f"{n} is not in 1..{_MOST_AGENTS}")
    words = command or [_DEFAULT_COMMAND]
    request = Request(words[0] if len(words) == 1 else " ".join(words))
    token = CancelToken()
    # Signals set the token and interrupt nothing: an agent that was started a moment ago must not be forgotten.
    with Interrupts(token, hurry=False) as interrupts, fleet_errors():
        try:
            code = _demonstrate(n, request, token) if keep is None else _leave_running(n, request, token, keep)
        except CancelledError:
            code = EXIT_INTERRUPTED
    return interrupts.exit_code or code


def _demonstrate(count: int, request: Request, token: CancelToken) -> int:
    from controller.demo import Demo

    with tempfile.TemporaryDirectory(prefix="fleet-demo-") as folder, Demo(Path(folder), count, token) as agents:
        return _show(agents, request, token)


def _leave_running(count: int, request: Request, token: CancelToken, keep: str) -> int:
    from controller.demo import Demo

    with Demo(_new_folder(keep), count, token) as agents:
        code = _show(agents, request, token)
        agents.detach()
    _say_what_next(keep)
    return code


def _show(agents: Demo, request: Request, token: CancelToken) -> int:
    from controller.api import Fleet

    fleet = Fleet(agents.inventory, key=agents.key)
    return carry_out(fleet, o.Targets(), request, Look(), cancel=token)


def _new_folder(path: str) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FleetError(
                path,
                "is not empty",
                f"choose another folder, or end what runs there: fleet demo --stop {shlex.quote(path)}",
            )
    except OSError as error:
        raise FleetError(path, (error.strerror or str(error)).lower()) from None
    return folder


def _say_what_next(folder: str) -> None:
    sys.stderr.write(
        f"the agents keep running; try:\n"
        f"  . {shlex.quote(f'{folder}/env')}\n"
        f"  fleet ping\n"
        f"  fleet run uptime\n"
        f"  fleet demo --stop {shlex.quote(folder)}\n"
    )


COMMANDS = {
    "demo": Command(demo, interspersed=False),
}
