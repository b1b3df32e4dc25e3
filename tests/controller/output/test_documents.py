"""The keys and shapes that programs rely on."""

import base64
import json
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.output import Writer
from controller.output.documents import Json, JsonLines, encode, result_object
from controller.results import FileResult, Result, Status

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

WEB1 = Result(
    "web1", Status.OK, rc=0, stdout="größe\n".encode(), stdout_bytes=9, started=1767225600.5, elapsed=0.0123456789
)
WEB2 = Result("web2", Status.FAILED, signal="SIGKILL", stderr=b"\xff\xfe", stderr_bytes=2)
RUN = {"id": "r1", "command": "df -h", "started": "2026-01-01T00:00:00Z", "elapsed": 0.42, "exit_code": 5}
OBJECT1 = {
    "host": "web1",
    "status": "ok",
    "rc": 0,
    "signal": None,
    "stdout": "größe\n",
    "stderr": "",
    "stdout_bytes": 9,
    "stderr_bytes": 0,
    "truncated": False,
    "started": "2026-01-01T00:00:00Z",
    "elapsed": 0.012346,
    "error": None,
}
OBJECT2 = {
    "host": "web2",
    "status": "failed",
    "rc": None,
    "signal": "SIGKILL",
    "stdout": "",
    "stderr": "\ufffd\ufffd",
    "stderr_base64": "//4=",
    "stdout_bytes": 0,
    "stderr_bytes": 2,
    "truncated": False,
    "started": None,
    "elapsed": 0.0,
    "error": None,
}


def test_result_object_has_the_promised_keys_in_order():
    assert list(result_object(WEB1).items()) == list(OBJECT1.items())
    assert list(result_object(WEB2).items()) == list(OBJECT2.items())


def test_note_and_files_are_there_when_there_are_any():
    file = FileResult("/etc/motd", Status.CHANGED, bytes=3, sha256="ab", error=None)
    made = result_object(Result("web1", Status.CHANGED, note="pipe held", files=(file,)))
    assert made["note"] == "pipe held"
    assert made["files"] == [{"path": "/etc/motd", "status": "changed", "bytes": 3, "sha256": "ab", "error": None}]


@STEADY
@given(st.binary())
def test_the_true_bytes_can_always_be_had(data):
    made = json.loads(encode(result_object(Result("web1", Status.OK, stdout=data))))
    got = base64.b64decode(made["stdout_base64"]) if "stdout_base64" in made else made["stdout"].encode()
    assert got == data
    assert ("stdout_base64" in made) == (data.decode("utf-8", "ignore").encode() != data)


@STEADY
@given(st.text())
@example("\x7f\x1b\u009b\u202e\ud800\\u007f")
def test_a_document_cannot_move_the_terminal(text):
    encoded = encode({"host": text})
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert json.loads(encoded) == {"host": text}


def test_json_is_one_document(screen, run):
    Json(screen.out).finish(run, [WEB1, WEB2])
    assert json.loads(screen.shown) == {
        "run": RUN,
        "summary": {"ok": 1, "failed": 1},
        "results": [OBJECT1, OBJECT2],
    }
    assert screen.shown.count(b"\n") == 5  # a line for each result
    assert screen.said == ""


def test_json_of_no_results(screen, run):
    Json(screen.out).finish(run, [])
    assert json.loads(screen.shown) == {"run": RUN, "summary": {}, "results": []}


def events(screen):
    return [json.loads(line) for line in screen.shown.splitlines()]


def test_json_lines_tell_what_happens_as_it_does(screen, run):
    sink = JsonLines(screen.out)
    sink.start("web1")
    sink.stdout("web1", "größe\n".encode())
    sink.stderr("web2", b"\xff\xfe")
    sink.end(WEB1)
    sink.end(WEB2)
    sink.finish(run, [WEB1, WEB2])
    assert events(screen) == [
        {"event": "start", "host": "web1"},
        {"event": "stdout", "host": "web1", "data": "größe\n"},
        {"event": "stderr", "host": "web2", "data": "\ufffd\ufffd", "data_base64": "//4="},
        {"event": "end", **OBJECT1},
        {"event": "end", **OBJECT2},
        {"event": "summary", "host": None, "run": RUN, "summary": {"ok": 1, "failed": 1}},
    ]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_json_lines_do_not_split_characters(screen, step):
    sink = JsonLines(screen.out)
    data = "日本🚀é\r\n".encode()
    for start in range(0, len(data), step):
        sink.stdout("web1", data[start : start + step])
        sink.stderr("web1", b"x")  # another stream does not disturb it
    told = [event["data"] for event in events(screen) if event["event"] == "stdout"]
    assert "".join(told) == data.decode()
    assert all(told)


def test_json_lines_give_the_start_of_a_character_that_never_ended(screen):
    sink = JsonLines(screen.out)
    sink.stdout("web1", b"\xe6\x97")
    sink.end(WEB1)
    assert events(screen)[0] == {"event": "stdout", "host": "web1", "data": "\ufffd", "data_base64": "5pc="}
    assert [event["event"] for event in events(screen)] == ["stdout", "end"]


def test_documents_are_passed_on_at_once(run, buffered_pipe):
    source, target = buffered_pipe
    JsonLines(Writer(target)).start("web1")
    assert json.loads(os.read(source, 1000)) == {"event": "start", "host": "web1"}
    Json(Writer(target)).finish(run, [])
    assert json.loads(os.read(source, 1000))["results"] == []
