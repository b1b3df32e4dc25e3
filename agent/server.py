"""The daemon's life: listen, let connections in, reload, stop.

`serve` reads from top to bottom: set up, loop, shut down. The main thread accepts and does nothing else; each
connection that gets a place (see `agent.admission`) has a thread of its own. Signal handlers only set a flag; the
wake-up descriptor brings the main thread back to its loop, which looks at the flags.

Stopping is a written sequence: no new connections; what is attached is cancelled; a limited wait for the sessions to
report that; then the runner goes, and with it whatever was left. Then the signal that stopped us is raised again with
its default action, so that whoever started us sees the true reason.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import ssl
import sys
import threading
import time
from typing import Any

from agent import config, memory, store
from agent.about import about
from agent.admission import Admission, Decision, Outcome
from agent.config import Config, Listen
from agent.crew import Crew
from agent.errors import AgentError
from agent.files import Files
from agent.journal import open_and_sweep
from agent.log import Refusals, log, set_up
from agent.login import Login, LoginError, LoginTimeoutError
from agent.runner import Runner
from agent.services import Services, StoppingError
from agent.session import Session
from agent.signals import Signals
from agent.tls import server_context
from agent.wire.errors import ConnectionEndedError, ProtocolError
from agent.wire.handshake import AuthenticationError, ManInTheMiddleError, Verifier
from agent.wire.link import LinkError
from agent.wire.record import record

__all__ = ["serve"]

_BACKLOG = 1024
_OLDEST_SAFE = (3, 11, 5)  # of Python; the package says so to pip, and the archive to nobody
_STOP_LIMIT = 8.0  # seconds: a killed tree is dead within 5 s
_LOOK_EVERY = 60.0  # seconds between two looks at what there is to report, at least
_REST_AFTER = 10.0  # seconds without a new connection
_ACCEPTS_AT_ONCE = 64
_PAUSE = 0.1  # seconds without accepting when there is no descriptor at all


@record
class _Standing:
    """Settings and keys, replaced as one when they are read again."""

    settings: Config
    keyring: store.Keyring

    def find(self, controller: str, host_id: bytes, epoch: int, source: str) -> Verifier | None:
        if not self.settings.controller(controller).accepts(source):
            return None
        return self.keyring.lookup(controller, host_id, epoch)

    def permissions(self, controller: str) -> frozenset[str]:
        return frozenset(self.settings.controller(controller).permissions)


def serve(directory: str, settings: Config, runner: Runner) -> int:
    """Run the agent in the foreground until SIGTERM or SIGINT. Returns the exit code, if the signal does not end us.

    `settings` are those of `directory`, perhaps with another address to listen on. Raises AgentError.
    """
    set_up()
    memory.use_one_heap()
    _raise_descriptor_limit()
    with store.open_folder(directory) as folder:
        standing = _Standing(settings, store.Keyring.load(folder))
    listener = _listen(settings.listen)
    with Signals() as signals, listener:
        server = _Server(directory, standing, runner, listener, signals)
        host, port = listener.getsockname()[:2]
        log.info("listening on %s", Listen(host, port))
        if sys.version_info < _OLDEST_SAFE:
            log.warning(
                "this Python is older than %s, and lets TLS be bypassed (CVE-2023-40217)", _dotted(_OLDEST_SAFE)
            )
        if not standing.keyring.records:
            log.warning("no controller is enrolled: nobody can log in")
        _notify("READY=1")
        memory.give_back()
        server.loop()
        _notify("STOPPING=1")
        listener.close()
        server.shut_down()
        runner.close()
    signals.raise_again()
    return 0


class _Arrival:
    """An accepted connection, and its session once it has one."""

    __slots__ = ("accepted", "session", "sock", "source", "where")

    def __init__(self, sock: socket.socket, address: tuple[Any, ...], accepted: float) -> None:
        self.sock = sock
        self.source = str(address[0])
        self.where = f"[{address[0]}]:{address[1]}" if ":" in self.source else f"{address[0]}:{address[1]}"
        self.accepted = accepted
        self.session: Session | None = None


class _Server:
    """The connections of an agent. `loop` is the main thread's; what `_lock` guards, the sessions' threads use too."""

    def __init__(
        self, directory: str, standing: _Standing, runner: Runner, listener: socket.socket, signals: Signals
    ) -> None:
        self._directory = directory
        self._standing = standing
        self._listener = listener
        self._signals = signals
        self._clock = time.monotonic
        self._stop_reader, self._stop_writer = os.pipe()
        context, certificate = server_context()
        files = Files(
            rules=lambda name: self._standing.settings.controller(name),
            runner=runner,
            shell=standing.settings.shell,
            journal=open_and_sweep(directory, time.time()),
        )
        self._services = Services(
            context=context,
            certificate=certificate,
            find=lambda *who: self._standing.find(*who),
            permissions=lambda name: self._standing.permissions(name),
            runner=runner,
            shell=standing.settings.shell,
            files=files,
            about=about(),
            stop=self._stop_reader,
            folder=directory,
        )
        self._lock = threading.Lock()
        self._admission: Admission[_Arrival] = Admission(
            self._clock,
            total=standing.settings.max_unauthenticated,
            per_source=standing.settings.max_unauthenticated_per_source,
            exempt=standing.settings.penalty_exempt,
        )
        self._crew = Crew(self._serve)
        self._open: set[_Arrival] = set()  # those that have a thread
        self._all_gone = threading.Condition(self._lock)
        self._stopping = False
        self._refused = Refusals()
        self._worked = False  # whether anything was served since memory was last given back
        # Closed to accept, and drop, one more connection when there are no descriptors left: see `_shed`.
        self._spare = _open_spare()

    # The main thread ------------------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Accept connections until a signal says stop."""
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._signals, select.POLLIN)
        while self._signals.stop is None:
            ready = dict(poller.poll(self._seconds_left() * 1000))
            if not ready:
                self._rest()
            if self._signals.fileno() in ready:
                self._signals.drain()
            if self._signals.reload:
                self._signals.reload = False
                self._reload()
            if self._listener.fileno() in ready:
                for _ in range(_ACCEPTS_AT_ONCE):
                    if not self._accept():
                        break
            with self._lock:
                self._take_turns()
            self._refused.report(self._clock())

    def _rest(self) -> None:
        """Give memory back when everybody has gone and nothing has happened for a while."""
        if self._worked and not self._open:
            self._worked = False
            memory.give_back()

    def _seconds_left(self) -> float:
        with self._lock:
            deadline = self._admission.next_deadline()
        longest = _REST_AFTER if self._worked else _LOOK_EVERY
        return longest if deadline is None else min(max(0.0, deadline - self._clock()) + 0.001, longest)

    def _accept(self) -> bool:
        """Let one connection in, or turn it away. Returns whether there may be more."""
        try:
            sock, address = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # What is left are the errors of a connection that died in the queue, and those of a full system.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                return self._shed(error)
            return True
        arrival = _Arrival(sock, address, self._clock())
        with self._lock:
            if len(self._open) >= self._standing.settings.max_sessions:
                decision = Decision.REFUSE
            else:
                decision = self._admission.arrive(arrival, arrival.source)
            if decision is Decision.ADMIT:
                self._start(arrival)
        if decision is Decision.REFUSE:
            self._refused.add(arrival.source)
            sock.close()
        return True

    def _shed(self, error: OSError) -> bool:
        """Without descriptors, empty the queue by force: else `poll` would come back at once, for ever."""
        self._refused.add(os.strerror(error.errno or 0).lower())
        if self._spare is not None:
            os.close(self._spare)
        try:
            self._listener.accept()[0].close()
        except OSError:  # somebody else took the descriptor; the next round tries again
            pass
        self._spare = _open_spare()
        if self._spare is None:  # another thread was quicker: wait for a while instead of spinning
            select.select([self._signals], [], [], _PAUSE)
        return False

    def _reload(self) -> None:
        """Read settings and keys again. Sessions whose controller has lost its key end at once."""
        try:
            with store.open_folder(self._directory) as folder:
                standing = _Standing(config.load(folder), store.Keyring.load(folder))
        except (AgentError, OSError) as error:  # OSError: no descriptor is left to read them with
            log.error("cannot reload, the old keys stay: %s", error)
            return
        self._standing = standing
        revoked = 0
        with self._lock:
            for arrival in self._open:
                session = arrival.session
                if session is None or session.login is None:
                    continue
                if self._is_revoked(session.login, arrival.source):
                    session.interrupt()
                    revoked += 1
        log.info("reloaded: %d controllers, %d sessions ended", len(standing.keyring.records), revoked)

    def _is_revoked(self, who: Login, source: str) -> bool:
        return self._standing.find(who.controller, who.host_id, who.epoch, source) is None

    def shut_down(self) -> None:
        """Cancel what is attached, and wait for the sessions, but not for ever."""
        with self._lock:
            self._stopping = True
            os.write(self._stop_writer, b"!")
            log.info("stopping: %d connections open", len(self._open))
            self._all_gone.wait_for(lambda: not self._open, timeout=_STOP_LIMIT)
            left = len(self._open)
        if left:
            log.warning("%d connections did not end within %.0f s", left, _STOP_LIMIT)

    # Connections ----------------------------------------------------------------------------------------------------

    def _take_turns(self) -> None:
        """Do what the admission says. Called with the lock held."""
        turn = self._admission.poll()
        for arrival in turn.start:
            self._start(arrival)
        for arrival in turn.close:
            self._refused.add(arrival.source)
            arrival.sock.close()
        for arrival in turn.evict:
            if arrival.session is not None:
                arrival.session.interrupt()

    def _start(self, arrival: _Arrival) -> None:
        """Give a connection a thread. Called with the lock held."""
        try:
            self._crew.start(arrival)
        except RuntimeError:  # no more threads: one connection less, the agent lives
            log.error("cannot start a thread for %s", arrival.where)
            self._admission.leave(arrival, Outcome.ABANDONED)
            arrival.sock.close()
        else:
            self._open.add(arrival)
            self._worked = True

    def _serve(self, arrival: _Arrival) -> None:
        """One connection's thread."""
        try:
            self._serve_session(arrival)
        except Exception:
            # A bug, or the system at its limits. It must not take the agent down, and it must be seen.
            log.exception("the session of %s crashed", arrival.where)
        finally:
            with self._lock:
                self._open.discard(arrival)
                if not self._open:
                    self._all_gone.notify_all()
                if not self._stopping:
                    self._take_turns()

    def _serve_session(self, arrival: _Arrival) -> None:
        outcome = Outcome.CRASH
        session = None
        try:
            if _has_hung_up(arrival.sock):
                outcome = Outcome.ABANDONED
                return
            try:
                session = Session(arrival.sock, arrival.source, self._services, arrival.accepted)
            except OSError as error:  # a reset that has come since
                log.debug("login from %s lost: %s", arrival.where, error)
                outcome = Outcome.NO_AUTH
                return
            with self._lock:
                arrival.session = session
            outcome = _log_in(session, arrival.where)
        finally:
            with self._lock:
                self._admission.leave(arrival, outcome)
                self._take_turns()
            if outcome is not Outcome.AUTHENTICATED:
                self._end(arrival, session)
        if outcome is Outcome.AUTHENTICATED:
            try:
                # The keys may have been read again while it logged in, when `_reload` could not yet see who it is.
                if session.login is not None and not self._is_revoked(session.login, arrival.source):
                    _serve_requests(session, arrival.where)
            finally:
                self._end(arrival, session)

    def _end(self, arrival: _Arrival, session: Session | None) -> None:
        with self._lock:
            arrival.session = None  # from here on nobody interrupts it: its descriptor may soon be somebody else's
        if session is None:
            arrival.sock.close()
        else:
            session.close()


def _has_hung_up(sock: socket.socket) -> bool:
    """Whether the peer left before it was served: a fan-out that was interrupted, or somebody who looks whether a port
    is open. That is nobody's offence."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _log_in(session: Session, where: str) -> Outcome:
    """Let a session log in, and say how that ended."""
    try:
        login = session.authenticate()
    except ManInTheMiddleError as error:
        log.critical("ALERT from %s: %s", where, error)
        return Outcome.AUTH_FAILED
    except AuthenticationError as error:
        log.warning("%s from %s", error, where)
        return Outcome.AUTH_FAILED
    except LoginTimeoutError as error:
        log.warning("%s from %s", error, where)
        return Outcome.GRACE
    except (LoginError, ProtocolError) as error:
        log.warning("malformed login from %s: %s", where, error)
        return Outcome.NO_AUTH
    except (OSError, LinkError) as error:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            reason = (error.reason or str(error)).replace("_", " ").lower()
            log.warning("malformed login from %s: TLS failed: %s", where, reason)
        else:
            log.debug("login from %s lost: %s", where, error)
        return Outcome.NO_AUTH
    except StoppingError:
        return Outcome.ABANDONED
    log.debug("%s logged in from %s", login.controller, where)
    return Outcome.AUTHENTICATED


def _serve_requests(session: Session, where: str) -> None:
    try:
        session.serve()
    except StoppingError:
        log.debug("%s: ended, the agent stops", where)
    except (OSError, LinkError, ConnectionEndedError) as error:
        log.info("lost the connection to %s: %s", where, error)
    except ProtocolError as error:
        log.warning("%s broke the protocol: %s", where, error)


def _listen(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # A restart must not wait for the old connections' TIME_WAIT; two agents on one port are still refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.host, listen.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = (
            "does another agent run here? choose another port with --listen"
            if error.errno == errno.EADDRINUSE
            else None
        )
        raise AgentError(f"cannot listen on {listen}", os.strerror(error.errno or 0).lower(), hint) from None
    return listener


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _raise_descriptor_limit() -> None:
    """Take what we may have: each connection with a command holds four. Commands get the limit we were started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), if it asked to be told."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.send(state.encode())
        except OSError as error:
            log.warning("cannot tell NOTIFY_SOCKET: %s", error)
