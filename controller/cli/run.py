"""`fleet run`."""

from __future__ import annotations

import os
import sys
from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Any

from agent.wire.record import record
from controller.cli import look_options as s
from controller.cli import options as o
from controller.cli import what_options as w
from controller.cli.declare import Argument, Command, Option
from controller.cli.look import Look
from controller.errors import FleetError, InputError
from controller.results import EXIT_CUT_OFF
from controller.settings import DEFAULT_MAX_OUTPUT, Settings, load_settings, read_seconds, read_size

if TYPE_CHECKING:
    from controller.api import Fleet
    from controller.cancel import CancelToken
    from controller.output import Sink
    from controller.results import Result
    from controller.runs import Run
    from controller.script import Script
    from controller.stdin import Input
    from inventory import Host

_SHOW = "How results look"
_WHAT = "What is run"
_LARGEST_OUTPUT = 2**40

CommandArgument = Annotated[
    list[str] | None,
    Argument("COMMAND...", help="One argument goes to the shell as it is; several are joined."),
]
TimeoutOption = Annotated[
    float | None,
    Option("-t", "--timeout", metavar="S", help="Kill what runs longer. [default: none]", panel=_WHAT),
]
EnvOption = Annotated[
    list[str] | None,
    Option("-e", "--env", metavar="K=V", help="Environment of the command; repeatable.", panel=_WHAT),
]
ChdirOption = Annotated[
    str | None,
    Option("--chdir", metavar="DIR", help="Where to run it. [default: home]", panel=_WHAT),
]
MaxOutputOption = Annotated[
    str | None,
    Option(
        "--max-output",
        metavar="BYTES",
        help="Keep so much of each host's stdout and stderr; K, M, G, T are understood. [default: 16 MiB; no limit with"
        " --raw and --stream]",
        panel=_SHOW,
    ),
]
ReturnMaxOption = Annotated[
    bool,
    Option("-S", "--return-max", help="Exit with the largest remote exit code if every host was reached."),
]
TtyOption = Annotated[
    bool,
    Option(
        "--tty",
        help="One host: give the command a terminal, joined to this one; ~. ends it.",
        panel=_WHAT,
    ),
]
TemplateOption = Annotated[
    bool,
    Option(
        "--template",
        help="Fill in {host}, {address}, {group_names} and inventory variables, quoted; {name!r} is raw. With --script,"
        " in ARGS alone, and as they are.",
        panel=_WHAT,
    ),
]
DryRunOption = Annotated[
    bool, Option("--dry-run", help="Print the exact command for each host; contact none.", panel=_WHAT)
]


def run(
    command: CommandArgument = None,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    script: w.ScriptOption = None,
    stdin: w.StdinOption = None,
    user: w.UserOption = None,
    shell: w.ShellOption = None,
    timeout: TimeoutOption = None,
    env: EnvOption = None,
    chdir: ChdirOption = None,
    template: TemplateOption = False,
    tty: TtyOption = False,
    dry_run: DryRunOption = False,
    format_: s.FormatOption = None,
    fold: s.FoldOption = False,
    diff: s.DiffOption = False,
    mask: s.MaskOption = None,
    mask_host: s.MaskHostOption = False,
    mask_time: s.MaskTimeOption = False,
    mask_number: s.MaskNumberOption = False,
    columns: s.ColumnsOption = False,
    sort: s.SortOption = None,
    where: s.WhereOption = None,
    top: s.TopOption = None,
    raw: s.RawOption = False,
    stream: s.StreamOption = False,
    json: s.JsonOption = False,
    jsonl: s.JsonLinesOption = False,
    quiet: s.QuietOption = False,
    output_dir: s.OutputDirOption = None,
    max_output: MaxOutputOption = None,
    return_max: ReturnMaxOption = False,
    color: o.ColorOption = None,
) -> int:
    """Run a shell command, or with --script FILE [ARGS] a local script, on many hosts at once.

    On a terminal, a line on stderr says meanwhile how many hosts are done and which are waited for; Enter tells what
    each of those wrote last. So does SIGUSR1, with and without a terminal.

    On a terminal, lines of output in the table that are too long for it end in an ellipsis; -b, --stream, --raw and -o
    have them whole.

    Options end where the command begins. Exit code: 0 every host ok, 2 usage or no host, 3 some host timed out or was
    cancelled, 4 some host was not reached, 5 some command failed (the worst of 4, 3, 5), 130 Ctrl-C.
    """
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    if not command and script is None:
        return _run_nothing(targets, settings, list_hosts=list_hosts)
    look = Look(
        tablefmt=format_,
        tty=tty,
        raw=raw,
        stream=stream,
        json=json,
        jsonl=jsonl,
        fold=fold,
        diff=diff,
        columns=columns,
        mask=tuple(mask or ()),
        mask_host=mask_host,
        mask_time=mask_time,
        mask_number=mask_number,
        sort=sort,
        where=where,
        top=top,
        quiet=quiet,
        output_dir=output_dir,
        color=o.read_color_option(color, settings),
    )
    if tty:
        _refuse_beside_tty(script, stdin, max_output)
    request = Request(
        command[0] if command and len(command) == 1 else " ".join(command or []),
        script=w.read_script(script, command or []),
        stdin=w.open_stdin(stdin, inventory or settings.inventory),
        user=o.check("--user", w.read_user, user, None),
        shell=o.check("--shell", w.read_shell, shell, None),
        timeout=o.check("--timeout", read_seconds, timeout, settings.timeout),
        environment=_environment(env or []),
        directory=chdir,
        max_output=_max_output(max_output, look),
        template=template,
    )
    known = targets.load(settings)
    if list_hosts:
        o.list_hosts(targets.select(known))
    elif dry_run:
        _show_commands(request, targets.select(known))
    else:
        return _reach(targets.fleet(known, settings), targets, request, look, return_max=return_max)
    return 0


def _run_nothing(targets: o.Targets, settings: Settings, *, list_hosts: bool) -> int:
    """List the hosts, which needs no command. Raises FleetError when that is not what was asked for."""
    if not list_hosts:
        raise FleetError("usage", "missing argument 'COMMAND...'", "fleet run --help")
    o.list_hosts(targets.select(targets.load(settings)))
    return 0


def _reach(fleet: Fleet, targets: o.Targets, request: Request, look: Look, *, return_max: bool) -> int:
    """Run the request on the hosts that are meant: on a terminal, or as `look` shows it. Returns the exit code."""
    look.check(len(targets.select(fleet.inventory)))
    if look.tty:
        from controller.cli.tty import open_terminal

        return open_terminal(fleet, targets, request, what="--tty", return_own=return_max)
    return carry_out(fleet, targets, request, look, return_max=return_max)


def _refuse_beside_tty(script: str | None, stdin: str | None, max_output: str | None) -> None:
    if script is not None:
        raise FleetError("--tty and --script", "a script gets no terminal", "push it, then run it with --tty")
    if stdin is not None:
        raise FleetError("--tty and --stdin", "the input of a terminal is what is typed at it")
    if max_output is not None:
        raise FleetError("--tty and --max-output", "what a terminal shows is not kept")


@record
class Request:
    """What is to be run. Checked when it is made: nothing that no host can run gets further.

    With a `script` the command does not count.
    """

    command: str
    script: Script | None = None
    stdin: Input | None = None
    user: str | None = None
    shell: str | None = None
    timeout: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    directory: str | None = None
    max_output: int | None = DEFAULT_MAX_OUTPUT
    template: bool = False

    def __post_init__(self) -> None:
        if self.script is not None and self.shell is not None:
            raise FleetError("--shell", "a script is run by its own #!, and not by a shell")
        if self.script is None and not self.command.strip():
            raise FleetError("command", "is empty")


def _show_commands(request: Request, hosts: list[Host]) -> None:
    from controller.targets import fill_argument, fill_command

    def filled(host: Host) -> str:
        script = request.script
        if script is None:
            return fill_command(request.command, host) if request.template else request.command
        if request.template:
            script = replace(script, arguments=tuple(fill_argument(one, host) for one in script.arguments))
        return script.label

    commands = [filled(host) for host in hosts]
    o.say("\n".join(f"{host.name}: {command}" for host, command in zip(hosts, commands, strict=True)))


def _environment(pairs: list[str]) -> dict[str, str]:
    environment = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise FleetError("--env", f"{pair!r} is not K=V")
        environment[name] = value
    return environment


def _max_output(value: str | None, look: Look) -> int | None:
    def read(value: object) -> int:
        return read_size(value, low=0, high=_LARGEST_OUTPUT)

    return o.check("--max-output", read, value, None if look.passes_on else DEFAULT_MAX_OUTPUT)


def carry_out(
    fleet: Fleet,
    targets: o.Targets,
    request: Request,
    look: Look,
    *,
    return_max: bool = False,
    cancel: CancelToken | None = None,
) -> int:
    """Run it, show it, and return the exit code.

    Who gives a `cancel` of its own has something to clear away after us, so Ctrl-C twice does not leave at once.
    """
    from controller.cancel import CancelToken
    from controller.cli.watching import Watching
    from controller.interrupts import Interrupts
    from controller.output import OutputError, silence
    from controller.results import largest_code
    from controller.tails import Tails

    line = look.status_line()
    sink = Tails(look.sink(line, lambda: [host.name for host in targets.select(fleet.inventory)]))
    token = cancel or CancelToken()
    going = begin(fleet, targets, request, observer=sink, keep=sink.keeps, cancel=token)
    failures: list[OutputError | InputError] = []
    watching = Watching(going, sink, token, line, enter=not look.raw and request.stdin is None)
    with Interrupts(token, hurry=cancel is None, last=watching.abandon) as interrupts, watching as watch:
        try:
            for result in going:
                watch.check()
                sink.end(result)
        except (OutputError, InputError) as error:
            failures.append(error)
        watch.over()
        code = interrupts.exit_code or (largest_code(going.results) if return_max else going.exit_code)
        if failures:
            code = code or EXIT_CUT_OFF  # what could not be written is lost, whatever the hosts said
        try:
            _finish(sink, going, code)
        except OutputError as error:
            failures.append(error)
    for failure in failures:
        if isinstance(failure, InputError):
            raise failure
        silence(sys.stdout.buffer)  # the interpreter would try once more at exit, and complain in its own words
        raise FleetError("output", str(failure), exit_code=code or EXIT_CUT_OFF)
    return code


def begin(fleet: Fleet, targets: o.Targets, request: Request, **more: Any) -> Run[Result]:
    """Return the run of a request on the hosts that `targets` mean; `more` are further arguments of `Fleet.run`."""
    return fleet.run(
        None if request.script is not None else request.command,
        script=request.script,
        stdin=request.stdin,
        user=request.user,
        shell=request.shell,
        limit=targets.limit or (),
        exclude=targets.exclude or (),
        timeout=request.timeout,
        environment=request.environment,
        directory=request.directory,
        template=request.template,
        max_output=request.max_output,
        **more,
    )


def _finish(sink: Sink, going: Run[Result], code: int) -> None:
    from controller.output import RunInfo

    sink.finish(RunInfo.of(going, code), going.results)


COMMANDS = {
    "run": Command(run, interspersed=False, prepare=w.mark_arguments),
}
