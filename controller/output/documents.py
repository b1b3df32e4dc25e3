"""Results for programs: `Json`, one document at the end, and `JsonLines`, one event a line as it happens.

Text is ASCII with the rest escaped, as JSON allows: every reader gets the same characters, whatever the locale, and
nothing in a document can move the terminal it is shown on.
"""

from __future__ import annotations

import threading
from binascii import b2a_base64
from collections.abc import Sequence
from typing import TypeAlias

from controller.output.sink import RunInfo
from controller.output.words import counts, timestamp
from controller.output.writer import Writer
from controller.results import FileResult, PingResult, Result
from controller.text import settled

__all__ = ["Json", "JsonLines", "encode", "result_object", "run_object", "summary_object"]

Object: TypeAlias = dict[str, object]


def encode(value: object) -> bytes:
    """Return `value` as JSON on one line, without a newline."""
    import json  # 5 ms that only those who ask for JSON pay

    return json.dumps(value).encode("ascii")


def result_object(result: Result) -> Object:
    """Return `result` in the keys users rely on; those that are not always there come last.

    Bytes that are no UTF-8 are replaced in ``stdout``, and then ``stdout_base64`` holds the true ones.
    """
    made: Object = {
        "host": result.host,
        "status": result.status.value,
        "rc": result.rc,
        "signal": result.signal,
        **_text("stdout", result.stdout),
        **_text("stderr", result.stderr),
        "stdout_bytes": result.stdout_bytes,
        "stderr_bytes": result.stderr_bytes,
        "truncated": result.truncated,
        "started": None if result.started is None else timestamp(result.started),
        "elapsed": _seconds(result.elapsed),
        "error": result.error,
    }
    if result.note is not None:
        made["note"] = result.note
    if result.tally is not None:
        made["bytes"] = result.tally.bytes
    if result.files or result.tally is not None:
        made["files"] = [_file_object(file) for file in result.files]
    return made


def _file_object(file: FileResult) -> Object:
    made: Object = {
        "path": file.path,
        "status": file.status.value,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "error": file.error,
    }
    made.update({key: text for key in ("changes", "note", "diff") if (text := getattr(file, key))})
    return made


def run_object(run: RunInfo) -> Object:
    """Return a run in the keys users rely on."""
    return {
        "id": run.id,
        "command": run.command,
        "started": timestamp(run.started),
        "elapsed": _seconds(run.elapsed),
        "exit_code": run.exit_code,
    }


def summary_object(results: Sequence[Result | PingResult]) -> Object:
    """Return how many hosts have each status."""
    return {status.value: number for status, number in counts(results).items()}


def _text(key: str, data: bytes) -> Object:
    try:
        return {key: data.decode()}
    except UnicodeDecodeError:
        return {key: data.decode("utf-8", "replace"), f"{key}_base64": b2a_base64(data, newline=False).decode("ascii")}


def _seconds(value: float) -> float:
    return round(float(value), 6)


class Json:
    """One document when all is over; a result is encoded and written before the next one is looked at."""

    keeps = True

    def __init__(self, stdout: Writer) -> None:
        self._out = stdout

    def start(self, host: str) -> None:
        """The document is written at the end."""

    def stdout(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def stderr(self, host: str, data: bytes) -> None:
        """The result keeps it."""

    def end(self, result: Result) -> None:
        """The document is written at the end."""

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Write the document: the run, the summary, and a line for each result."""
        self._out.write(b'{"run": %b,\n "summary": %b,\n' % (encode(run_object(run)), encode(summary_object(results))))
        self._out.write(b' "results": [')
        for number, result in enumerate(results):
            self._out.write(b",\n  " if number else b"\n  ")
            self._out.write(encode(result_object(result)))
        self._out.write(b"]}\n")
        self._out.flush()


class JsonLines:
    """Events, each a JSON object on a line of its own, passed on at once.

    ``start``, ``stdout`` and ``stderr`` (with ``data``, and ``data_base64`` where that is no UTF-8), ``end`` (the
    result object with all the output), and ``summary`` with the run, where ``host`` is null.
    """

    keeps = True

    def __init__(self, stdout: Writer) -> None:
        self._out = stdout
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], bytes] = {}  # starts of characters that wait for their rest

    def start(self, host: str) -> None:
        """Tell of the start."""
        with self._lock:
            self._event("start", host)

    def stdout(self, host: str, data: bytes) -> None:
        """Tell of output."""
        self._output("stdout", host, data)

    def stderr(self, host: str, data: bytes) -> None:
        """Tell of output."""
        self._output("stderr", host, data)

    def end(self, result: Result) -> None:
        """Tell of the result, and before it of output that ended inside a character."""
        with self._lock:
            for stream in ("stdout", "stderr"):
                held = self._held.pop((result.host, stream), b"")
                if held:
                    self._event(stream, result.host, **_text("data", held))
            self._event("end", **result_object(result))

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        """Tell of the whole run."""
        with self._lock:
            self._event("summary", None, run=run_object(run), summary=summary_object(results))

    def _output(self, stream: str, host: str, data: bytes) -> None:
        with self._lock:
            data = self._held.pop((host, stream), b"") + data
            cut = settled(data, len(data))
            if data[cut:]:
                self._held[host, stream] = data[cut:]
            if cut:
                self._event(stream, host, **_text("data", data[:cut]))

    def _event(self, event: str, host: object, **more: object) -> None:
        self._out.write(encode({"event": event, "host": host, **more}) + b"\n")
        self._out.flush()
