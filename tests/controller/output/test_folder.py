"""Two exact files for each host, inside the folder and nowhere else."""

import errno
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.output import OutputError
from controller.output.folder import OutputDir, file_name
from controller.results import Result, Status

# The same examples in every run, and no complaint when the machine is busy.
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_are_exact_and_files_are_made_for_every_host(tmp_path, run):
    folder = tmp_path / "a" / "b"
    sink = OutputDir(folder)
    sink.start("web1")
    assert contents(folder) == {"web1.stdout": b"", "web1.stderr": b""}
    sink.stdout("web1", b"\x1b[2J\xff\r\n")
    sink.stdout("web1", b"\x00half")
    sink.stderr("web2", b"no start told")
    results = [Result("web1", Status.OK), Result("web2", Status.OK), Result("web3", Status.UNREACHABLE)]
    sink.end(results[0])
    sink.finish(run, results)
    assert contents(folder) == {
        "web1.stdout": b"\x1b[2J\xff\r\n\x00half",
        "web1.stderr": b"",
        "web2.stdout": b"",
        "web2.stderr": b"no start told",
        "web3.stdout": b"",
        "web3.stderr": b"",
    }


def test_an_earlier_run_leaves_nothing(tmp_path):
    for name in ("web1.stdout", "web2.stderr", "other"):
        tmp_path.joinpath(name).write_bytes(b"yesterday")
    sink = OutputDir(tmp_path)
    sink.stdout("web1", b"today")
    sink.end(Result("web2", Status.UNREACHABLE))
    assert contents(tmp_path) == {
        "web1.stdout": b"today",
        "web1.stderr": b"",
        "web2.stdout": b"",
        "web2.stderr": b"",
        "other": b"yesterday",
    }


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web1.example.org", "web1.example.org"),
        ("fe80::1", "fe80::1"),
        ("größe-日本", "größe-日本"),
        ("..", "%2E."),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("a b\n\x1b\x00", "a%20b%0A%1B%00"),
        ("50%2F", "50%252F"),
        ("\u202eweb", "%E2%80%AEweb"),
        ("x\udcff", "x%ED%B3%BF"),
        ("", ""),
    ],
)
def test_file_name(host, name):
    assert file_name(host) == name


@STEADY
@given(st.text(), st.text())
def test_file_names_stay_inside_and_do_not_meet(first, second):
    assert not set(file_name(first)) & {"/", "\0", "\n"}
    assert not file_name(first).startswith(".")
    assert (file_name(first) == file_name(second)) == (first == second)


def test_a_link_put_there_by_somebody_else_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "out"
    folder.mkdir()
    folder.joinpath("web1.stdout").symlink_to(victim)
    with pytest.raises(OutputError) as caught:
        OutputDir(folder).start("web1")
    assert str(caught.value) == f"cannot write {folder}/web1.stdout: Too many levels of symbolic links"
    assert victim.read_bytes() == b"precious"


def test_a_fifo_in_the_way_does_not_hang_the_run(tmp_path):
    os.mkfifo(tmp_path / "web1.stdout")
    with pytest.raises(OutputError, match="No such device or address"):
        OutputDir(tmp_path).start("web1")


def test_a_name_too_long_for_a_file_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        OutputDir(tmp_path).start("x" * 300)


def test_a_file_in_the_way_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.touch()
    for target, reason in ((path, "File exists"), (path / "below", "Not a directory")):
        with pytest.raises(OutputError) as caught:
            OutputDir(target)
        assert str(caught.value) == f"cannot write {target}: {reason}"


def test_a_folder_that_cannot_be_written_to_is_an_error_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)  # root may write anywhere
    with pytest.raises(OutputError) as caught:
        OutputDir(tmp_path)
    assert str(caught.value) == f"cannot write {tmp_path}: permission denied"


def test_a_full_disk_is_an_error_and_nothing_is_tried_after_it(tmp_path, run, monkeypatch):
    sink = OutputDir(tmp_path)
    sink.start("web1")

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError) as caught:
        sink.stdout("web1", b"x")
    assert str(caught.value) == f"cannot write {tmp_path}/web1.stdout: No space left on device"
    sink.finish(run, [Result("web1", Status.OK), Result("web2", Status.CANCELLED)])
    assert set(contents(tmp_path)) == {"web1.stdout", "web1.stderr"}


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    OutputDir(tmp_path).stdout("web1", b"0123456789")
    assert tmp_path.joinpath("web1.stdout").read_bytes() == b"0123456789"


def test_no_descriptor_is_kept_and_threads_do_not_mix(tmp_path):
    sink = OutputDir(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    text = b"".join(b"%d\n" % number for number in range(50))

    def feed(host):
        for number in range(50):
            sink.stdout(host, b"%d\n" % number)

    hosts = [f"web{number}" for number in range(8)]
    threads = [threading.Thread(target=feed, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [tmp_path.joinpath(f"{host}.stdout").read_bytes() for host in hosts] == [text] * 8


def test_what_came_of_a_broken_host_is_set_aside(tmp_path, run):
    """A script that reads HOST.stdout must not take half of an output for the whole."""
    sink = OutputDir(tmp_path)
    for host in ("web1", "web2", "web3"):
        sink.start(host)
        sink.stdout(host, b"half")
    sink.stderr("web2", b"oh")
    results = [Result("web1", Status.OK), Result("web2", Status.BROKEN), Result("web3", Status.BROKEN)]
    for result in results:
        sink.end(result)
    sink.finish(run, results)
    empty = {f"{host}.{stream}": b"" for host in ("web1", "web2", "web3") for stream in ("stdout", "stderr")}
    assert contents(tmp_path) == empty | {
        "web1.stdout": b"half",
        "web2.stdout.partial": b"half",
        "web2.stderr.partial": b"oh",
        "web3.stdout.partial": b"half",
    }
    again = OutputDir(tmp_path)
    again.stdout("web2", b"whole")
    again.end(Result("web2", Status.OK))
    assert "web2.stdout.partial" not in contents(tmp_path) and "web2.stderr.partial" not in contents(tmp_path)
    assert contents(tmp_path)["web2.stdout"] == b"whole"


def test_what_cannot_be_set_aside_is_an_error(tmp_path):
    sink = OutputDir(tmp_path)
    sink.stdout("web1", b"half")
    tmp_path.joinpath("web1.stdout.partial").mkdir()
    with pytest.raises(OutputError, match=r"web1\.stdout: Is a directory$"):
        sink.end(Result("web1", Status.BROKEN))
