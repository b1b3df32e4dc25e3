"""Several sinks are told the same, in order, and every way of showing results is a sink."""

import io
import threading

import pytest

from controller.output import OutputError, Tee, Writer
from controller.output.documents import Json, JsonLines
from controller.output.folder import OutputDir
from controller.output.stream import Raw, Stream
from controller.output.table import Table
from controller.results import Result, Status


class Recorder:
    def __init__(self, name, log, keeps):
        self.name, self.log, self.keeps = name, log, keeps

    def __getattr__(self, call):
        return lambda *arguments: self.log.append((self.name, call, arguments))


def test_tee_tells_each_sink_in_order(run):
    log = []
    tee = Tee(Recorder("files", log, False), Recorder("table", log, True))
    result = Result("web1", Status.OK)
    calls = {
        "start": ("web1",),
        "stdout": ("web1", b"out"),
        "stderr": ("web1", b"err"),
        "end": (result,),
        "finish": (run, [result]),
    }
    for call, arguments in calls.items():
        getattr(tee, call)(*arguments)
    assert log == [(name, call, arguments) for call, arguments in calls.items() for name in ("files", "table")]


@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
def test_tee_keeps_when_any_needs_it(first, second):
    assert Tee(Recorder("a", [], first), Recorder("b", [], second)).keeps is (first or second)


def test_an_error_of_the_files_stops_a_tee(screen, tmp_path, monkeypatch):
    tee = Tee(OutputDir(tmp_path), Stream(screen.out, screen.err))
    tmp_path.joinpath("web1.stdout").mkdir()
    with pytest.raises(OutputError):
        tee.stdout("web1", b"line\n")
    assert screen.shown == b""


def test_who_needs_the_output_kept(screen, tmp_path):
    kept = [Table(screen.out, screen.err), Json(screen.out), JsonLines(screen.out)]
    passed_on = [Stream(screen.out, screen.err), Raw(screen.out, screen.err), OutputDir(tmp_path)]
    assert [sink.keeps for sink in kept + passed_on] == [True] * 3 + [False] * 3


def test_what_comes_too_early_or_is_not_needed_shows_nothing(screen, run):
    for sink in (Table(screen.out, screen.err), Json(screen.out)):
        sink.start("web1")
        sink.stdout("web1", b"x\n")
        sink.stderr("web1", b"x\n")
        sink.end(Result("web1", Status.OK, rc=0))
    for sink in (Stream(screen.out, screen.err), Raw(screen.out, screen.err)):
        sink.start("web1")
        sink.end(Result("web1", Status.OK, rc=0))
    Raw(screen.out, screen.err).finish(run, [])
    assert (screen.shown, screen.said) == (b"", "")


class Meeting(io.BytesIO):
    """Keeps whoever writes first inside until somebody else writes too, or for long enough to have seen it."""

    def __init__(self):
        super().__init__()
        self.occupied = threading.Event()
        self.second = threading.Event()
        self.met = False

    def write(self, data):
        if self.occupied.is_set():
            self.second.set()
        else:
            self.occupied.set()
            self.met = self.second.wait(0.3)
        return super().write(data)


@pytest.mark.parametrize("way", [Stream, Raw, lambda out, err: JsonLines(out)])
def test_no_host_writes_while_another_one_does(way):
    stream = Meeting()
    sink = way(Writer(stream), Writer(stream))
    first = threading.Thread(target=sink.stdout, args=("web1", b"line\n"))
    first.start()
    assert stream.occupied.wait(30)
    sink.stderr("web2", b"line\n")
    first.join()
    assert not stream.met
    assert stream.getvalue().count(b"line") == 2
