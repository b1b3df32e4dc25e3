"""One controller's connection, from the first byte of TLS to its end.

One thread runs it, and that thread alone touches the TLS socket: a second one that reads while the first writes
deadlocks on CPython 3.13 (python/cpython#137583).

The order is fixed: TLS and the login (see `login`), then requests. For those, one loop polls the socket, the command's
pipes, and the agent's stop signal.
"""

from __future__ import annotations

import os
import select
import shlex
import socket
import ssl
import time
from functools import partial

from agent.environment import account, clean_environment
from agent.execution import Execution
from agent.files import Transfer
from agent.log import log, quote, word
from agent.login import Login, log_in
from agent.runner import Command, RunnerError
from agent.script import Incoming, ScriptError
from agent.services import Services, StoppingError
from agent.tree.errors import TransferError
from agent.wire import file_messages as f
from agent.wire import messages as m
from agent.wire.connection import Closed, Connection, Role
from agent.wire.constants import WHOLE_FILES
from agent.wire.link import Link

__all__ = ["Session"]

WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TRANSFER_TURN = 0.05  # seconds until the socket is looked at again
_HOLD_BACK = 0.002  # seconds for which small messages wait for others, to share a TLS record
_LONGEST_PATH = 4095  # PATH_MAX without its NUL (limits.h(0p))


class Session:
    """One accepted connection. `accepted` is when, on the services' clock."""

    def __init__(self, sock: socket.socket, source: str, services: Services, accepted: float) -> None:
        self._services = services
        self._source = source
        self._accepted = accepted
        self._execution: Execution | None = None
        self._run: m.Run | None = None
        self._incoming: Incoming | None = None
        self._transfer: Transfer | None = None
        self.login: Login | None = None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = services.context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._link = Link(
            Connection(Role.AGENT),
            self._socket,
            would_block=WOULD_BLOCK,
            clock=services.clock,
            wall=time.time,
            cork=partial(_cork, self._socket),
        )

    def interrupt(self) -> None:
        """End the session from another thread: its owner sees a lost connection. Touches no TLS state."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:  # the peer, or the owner, was quicker
            pass

    def close(self) -> None:
        """Kill what runs, and give everything back."""
        if self._execution is not None:
            self._execution.close()
            self._execution = None
        self._drop_script()
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None
        self._socket.close()

    def authenticate(self) -> Login:
        """Do TLS and the login. Raises as `log_in`."""
        self.login = log_in(self._socket, self._link, self._services, self._source, self._accepted)
        return self.login

    # The requests ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve requests until the controller leaves, or the agent stops.

        Raises StoppingError, OSError, ProtocolError and LinkError: in each case the connection is gone.
        """
        stopping = False
        while True:
            ready = self._poll(stopping)
            if self._services.stop in ready and not stopping:
                stopping = True
                if self._execution is not None:
                    self._execution.kill(m.Reason.CANCELLED)
            if stopping and self._execution is None:
                self._link.send(m.Goodbye("stopping", "the agent stops"))
                raise StoppingError
            if self._link.backlog:
                self._link.flush()
            if self._socket.fileno() in ready and not self._read():
                return
            if self._execution is not None:
                self._execution.advance(ready)
                if self._execution.exit is not None:
                    self._end_execution(self._execution.exit)
            if self._transfer is not None:
                self._advance(self._transfer)

    def _read(self) -> bool:
        """Handle what has come. Returns False when the controller has left."""
        try:
            for message in self._link.read():
                if isinstance(message, Closed):
                    return False
                self._handle(message)
        except ssl.SSLEOFError:
            # A cut without TLS's goodbye. With nothing under way there is nothing that it could have cut short.
            if self._execution is None and self._transfer is None and self._incoming is None:
                return False
            raise
        return True

    def _poll(self, stopping: bool) -> set[int]:
        """Wait for what matters now; return the ready descriptors."""
        timeout = self._link.tick()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN | (select.POLLOUT if self._link.backlog else 0))
        if not stopping or self._execution is None:  # while it is killed the descriptor would only make us spin
            poller.register(self._services.stop, select.POLLIN)
        if self._execution is not None:
            for fd in self._execution.readable():
                poller.register(fd, select.POLLIN)
            for fd in self._execution.writable():
                poller.register(fd, select.POLLOUT)
            left = self._execution.seconds_left()
            if left is not None:
                timeout = min(timeout, left)
        if self._transfer is not None and not self._link.backlog:
            for fd in self._transfer.readable():
                poller.register(fd, select.POLLIN)
            left = self._transfer.seconds_left()
            if left is not None:
                timeout = min(timeout, left)
        # Rounded up: waking a moment too early would only spin.
        wait = 0 if self._transfer_is_busy() else int(timeout * 1000) + 1
        return {fd for fd, _ in poller.poll(wait)}

    def _transfer_is_busy(self) -> bool:
        return self._transfer is not None and self._transfer.busy and not self._link.backlog

    def _handle(self, message: m.Message) -> None:
        if isinstance(message, m.Run):
            self._start(message)
        elif self._incoming is not None and isinstance(message, m.Script | m.Stdin | m.EndOfStream | m.Cancel):
            self._take_script(self._incoming, message)
        elif isinstance(message, m.Stdin | m.EndOfStream):
            if self._execution is not None:  # else it crossed with our Exit
                self._execution.feed(message)
        elif isinstance(message, m.Resize):
            if self._execution is not None:
                self._execution.resize(message)
        elif isinstance(message, m.Cancel) and self._execution is not None:
            self._execution.kill(m.Reason.CANCELLED)
        elif isinstance(message, f.Push | f.Pull | f.Rollback):
            self._start_transfer(message)
        elif self._transfer is not None and isinstance(message, f.FileMessage):  # else it crossed with our Error
            self._transfer.take(message)
            self._transfer.busy = True
            self._end_transfer_when_done()  # the next request may have come with the message

    def _start(self, run: m.Run) -> None:
        assert self.login is not None
        who, source = self.login.controller, self._source
        if "run" not in self._services.permissions(who):
            log.warning("%s from %s may not run commands here: refused %s", who, source, quote(run.command))
            self._link.send(m.Error("denied", f"controller {who} may not run commands on this host"))
            return
        # The line precedes the execution: whatever the command does to this machine, it has been told.
        what = f"the script {quote(shlex.join((run.command, *run.arguments)))}" if run.script else quote(run.command)
        if run.user is not None:
            what = f"{what} as user {word(run.user)}"
        log.info("%s from %s as %s runs %s (run %s)", who, self._source, quote(run.host), what, word(run.run))
        try:
            command = self._command(run)
            if run.script:
                self._incoming = Incoming(run, command, self._services.folder)
            else:
                self._execute(run, command)
        except (KeyError, RunnerError, ScriptError) as error:
            unknown = f"unknown user {quote(run.user or '')}"
            self._refuse_to_start(unknown if isinstance(error, KeyError) else str(error))

    def _execute(self, run: m.Run, command: Command, script: int | None = None) -> Execution:
        job = self._services.runner.run(command, script)
        self._run = run
        self._execution = Execution(run, job, self._link, self._services.clock)
        return self._execution

    def _take_script(self, incoming: Incoming, message: m.Message) -> None:
        """Take more of a script, and start it when it is all there."""
        try:
            if isinstance(message, m.Cancel):
                self._refuse_to_start("cancelled before its script was there", m.Reason.CANCELLED)
            elif not incoming.take(message):
                return
            else:
                script = incoming.seal()
                log.info("run %s: the script has %s", word(incoming.run.run), incoming)
                incoming.feed_early(self._execute(incoming.run, incoming.command, script))
        except (RunnerError, ScriptError) as error:
            self._refuse_to_start(str(error))
        self._drop_script()

    def _drop_script(self) -> None:
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None

    def _command(self, run: m.Run) -> Command:
        who = account(run.user)
        directory = run.directory if run.directory is not None else who.directory
        if (length := len(os.fsencode(directory))) > _LONGEST_PATH:
            # It would come back in the error, which has less room on the wire.
            raise RunnerError("enter the directory", f"its path has {length} bytes, at most {_LONGEST_PATH}")
        argv: tuple[str, ...] = (run.shell or self._services.shell, "-c", run.command)
        extra = run.environment
        if run.script:
            argv = (run.command, *run.arguments)
            extra = {"FLEET_SCRIPT": run.command, **run.environment}
        return Command(
            argv=argv,
            environment=clean_environment(who, host=run.host, run=run.run, extra=extra, terminal=run.terminal),
            directory=directory,
            stdin=run.stdin,
            user=run.user,
            script=run.script,
            home=run.directory is None,
            terminal=run.terminal is not None,
            rows=run.rows,
            columns=run.columns,
        )

    def _refuse_to_start(self, error: str, reason: m.Reason = m.Reason.EXIT) -> None:
        log.error("cannot start: %s", error)
        for stream in (m.Stream.STDOUT, m.Stream.STDERR):
            self._link.queue(self._link.connection.end_of(stream))
        self._link.send(m.Exit(reason=reason, error=error))

    def _end_execution(self, end: m.Exit) -> None:
        assert self._execution is not None and self._run is not None
        if end.error is not None:
            log.error("run %s: %s", word(self._run.run), end.error)
        else:
            how = f"signal {end.signal}" if end.signal is not None else f"exit {end.code}"
            log.info("run %s: %s after %.3f s (%s)", word(self._run.run), how, end.elapsed, end.reason.value)
        self._execution.close()
        self._execution = None

    # Files ----------------------------------------------------------------------------------------------------------

    def _start_transfer(self, request: f.Push | f.Pull | f.Rollback) -> None:
        assert self.login is not None
        who, kind = self.login.controller, type(request).__name__.lower()
        what = quote(_subject(request))
        log.info(
            "%s from %s as %s: %s %s (run %s)", who, self._source, quote(request.host), kind, what, word(request.run)
        )
        try:
            whole_files = bool(self._link.connection.features & WHOLE_FILES)
            self._transfer = self._services.files.start(request, who, self._link.queue, whole_files=whole_files)
        except TransferError as error:
            log.warning("refused the %s %s: %s", kind, what, error)
            self._link.send(m.Error(error.code, str(error)))

    def _advance(self, transfer: Transfer) -> None:
        """Let a transfer work while the controller takes what it says, and no longer than it may be kept waiting."""
        began = flushed = self._services.clock()
        while not self._link.backlog and transfer.step():
            now = self._services.clock()
            if now - began >= _TRANSFER_TURN:
                break
            if now - flushed >= _HOLD_BACK:
                self._link.flush()
                flushed = now
        self._link.flush()
        self._end_transfer_when_done()

    def _end_transfer_when_done(self) -> None:
        if self._transfer is not None and self._transfer.done:
            self._transfer.close()
            self._transfer = None


def _cork(sock: socket.socket, on: bool) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def _subject(request: f.Push | f.Pull | f.Rollback) -> str:
    """Return what a request is about, for the log."""
    if isinstance(request, f.Push):
        return request.destination
    if isinstance(request, f.Pull):
        return " ".join(request.paths)
    return "which push is the last one?" if request.ask else request.target or "the last push"
