"""Pushes, pulls and rollbacks between the real command and real agents."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.tree.digests import Digests
from agent.tree.entries import Item, Listing
from controller import files
from controller.api import Fleet
from controller.errors import FleetError
from controller.files import PullOptions, PushOptions
from controller.meter import Meter
from controller.results import Status

PATIENCE = 60.0  # seconds; reached only by a test that fails

EMPTY_SHA = hashlib.sha256(b"").hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder that the hosts push into and pull from; they share this machine."""
    path = tmp_path / "there"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "nginx.conf"
    path.write_bytes(b"worker_processes 4;\n")
    path.chmod(0o640)
    return path


@pytest.fixture
def web1(lab: Any) -> Callable[..., Any]:
    """Run a fleet command on web1 with JSON; return its exit code and result."""

    def run(command: str, *arguments: str | Path, code: int = 0) -> Any:
        done = lab.fleet(command, *map(str, arguments), "-l", "web1", "--json")
        assert done.code == code, (done.out, done.err)
        (result,) = done.json["results"]
        return result

    return run


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# Push -----------------------------------------------------------------------------------------------------------------


def test_push_to_hosts(lab: Any, source: Path, there: Path) -> None:
    digest = sha256(source.read_bytes())
    code, out, err = lab.fleet("push", str(source), f"{there}/new.conf", "-l", "web1")
    rows = columns(out)
    assert rows[0] == ["HOST", "STATUS", "BYTES", "TIME", "RATE", "SHA256"]
    assert rows[1][:4] == ["web1", "changed", "20", "0.00s"]
    assert rows[1][-1] == digest
    assert (code, err) == (0, "1 changed of 1 host in 0.00s\n")
    assert (there / "new.conf").read_bytes() == source.read_bytes()
    assert stat.S_IMODE((there / "new.conf").stat().st_mode) == 0o640
    code, out, err = lab.fleet("push", str(source), f"{there}/new.conf", "-l", "good")
    assert [row[:3] + row[-1:] for row in columns(out)[1:]] == [
        [host, "unchanged", "0", digest] for host in ("web1", "web2", "db1")
    ]
    assert (code, err) == (0, "3 unchanged of 3 hosts in 0.00s\n")
    assert os.listdir(there) == ["new.conf"]


def test_push_in_json(lab: Any, source: Path, there: Path) -> None:
    done = lab.fleet("push", str(source), f"{there}/", "-l", "web1:gone", "--json")
    assert (done.code, done.err) == (4, "")
    document = done.json
    assert document["run"]["command"] == f"push {source} {there}/"
    assert document["run"]["exit_code"] == 4
    assert document["summary"] == {"changed": 1, "unreachable": 1}
    good, bad = document["results"]
    assert (good["host"], good["status"], good["rc"], good["bytes"], good["error"]) == (
        "web1",
        "changed",
        None,
        20,
        None,
    )
    assert good["files"] == [
        {
            "path": f"{there}/nginx.conf",
            "status": "changed",
            "bytes": 20,
            "sha256": sha256(source.read_bytes()),
            "error": None,
            "changes": "created",
        }
    ]
    assert (bad["host"], bad["status"], bad["files"]) == ("gone", "unreachable", [])


def test_push_in_events(lab: Any, source: Path, there: Path) -> None:
    done = lab.fleet("push", str(source), f"{there}/", "-l", "web1", "--jsonl")
    events = [line.split('"')[3] for line in done.out.splitlines()]
    assert (done.code, events) == (0, ["end", "summary"])


def test_hosts_that_cannot_be_reached(lab: Any, source: Path, there: Path) -> None:
    code, out, err = lab.fleet("push", str(source), f"{there}/", "-q")
    assert [row[:2] for row in columns(out)] == [
        ["HOST", "STATUS"],
        ["gone", "unreachable"],
        ["stranger", "denied"],
        ["newcomer", "denied"],
    ]
    assert "[error: connection refused by 127.0.0.1:" in out
    assert code == 4
    assert err.endswith("1 unreachable, 2 denied of 6 hosts in 0.00s\n")


def test_where_a_push_goes(web1: Callable[..., Any], source: Path, there: Path) -> None:
    (there / "folder").mkdir()
    paths = [
        web1("push", source, destination)["files"][0]["path"]
        for destination in (there / "name", there / "folder", f"{there}/folder/", f"{there}/./other")
    ]
    assert paths == [f"{there}/name", f"{there}/folder/nginx.conf", f"{there}/folder/nginx.conf", f"{there}/other"]
    assert (there / "folder").is_dir()


def test_several_sources_need_a_directory(web1: Callable[..., Any], source: Path, there: Path) -> None:
    other = source.with_name("other")
    other.touch()
    result = web1("push", source, other, there / "name", code=5)
    assert result["status"] == "failed"
    assert "directory" in result["error"]
    assert os.listdir(there) == []
    web1("push", source, other, there)
    assert sorted(os.listdir(there)) == ["nginx.conf", "other"]


def test_a_file_does_not_replace_a_directory(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    (there / "tmp").mkdir()
    (there / "tmp/precious").touch()
    (tmp_path / "tmp").touch()
    result = web1("push", tmp_path / "tmp", f"{there}/", code=5)
    assert result["error"] == f"{there}/tmp: is a directory, which is not replaced"
    assert (there / "tmp/precious").exists()


def test_mode_owner_and_times(web1: Callable[..., Any], source: Path, there: Path) -> None:
    os.utime(source, ns=(10**18, 10**18))
    web1(
        "push", source, f"{there}/", "--mode", "0604", "-p", "--owner", str(os.geteuid()), "--group", str(os.getegid())
    )
    info = (there / "nginx.conf").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o604, 10**18)
    again = web1("push", source, f"{there}/", "--mode", "0600")
    assert (again["status"], again["bytes"], again["files"][0]["changes"]) == ("changed", 0, "mode")


def test_an_owner_that_nobody_is(web1: Callable[..., Any], source: Path, there: Path) -> None:
    result = web1("push", source, f"{there}/", "--owner", "nobody-of-this-name", code=5)
    assert result["status"] == "failed"
    assert "nobody-of-this-name" in result["error"]
    assert os.listdir(there) == []


def test_a_tree(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "a").write_bytes(b"1")
    os.link(tree / "a", tree / "b")
    (tree / "link").symlink_to("a")
    name = os.fsdecode(b"\xff\xfe")
    (tree / name).touch()
    with open(tree / "sparse", "wb") as file:
        file.truncate(1 << 26)
        file.seek(1 << 25)
        file.write(b"data")
    result = web1("push", tree, f"{there}/")
    assert (result["status"], len(result["files"])) == ("changed", 7)
    assert (there / "tree/link").readlink() == Path("a")
    assert (there / "tree/a").samefile(there / "tree/b")
    assert (there / "tree" / name).exists()
    assert (there / "tree/empty").is_dir()
    info = (there / "tree/sparse").stat()
    assert (info.st_size, info.st_blocks * 512 < 1 << 20) == (1 << 26, True)
    assert web1("push", f"{tree}/.", there / "tree")["status"] == "unchanged"


def test_links_followed(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    (tmp_path / "target").write_bytes(b"1")
    (tmp_path / "link").symlink_to("target")
    web1("push", tmp_path / "link", f"{there}/")
    assert (there / "link").is_symlink()
    web1("push", "-L", tmp_path / "link", f"{there}/")
    assert not (there / "link").is_symlink()
    assert (there / "link").read_bytes() == b"1"


def test_exclude_and_delete(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "cache").mkdir(parents=True)
    for name in ("keep", "x.tmp", "cache/y"):
        (tree / name).touch()
    (there / "tree").mkdir()
    for name in ("old", "old.tmp"):
        (there / "tree" / name).touch()
    options = ("--delete", "--exclude", "*.tmp", "--exclude", "cache/")
    seen = web1("push", tree, f"{there}/", *options, "--check")
    assert [(file["path"], file["status"]) for file in seen["files"] if file["status"] == "deleted"] == [
        (f"{there}/tree/old", "deleted")
    ]
    assert sorted(os.listdir(there / "tree")) == ["old", "old.tmp"], "a check changes nothing"
    web1("push", tree, f"{there}/", *options)
    assert sorted(os.listdir(there / "tree")) == ["keep", "old.tmp"]


def test_delete_does_not_empty_a_directory(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    (tmp_path / "tree").mkdir()
    (there / "tree").mkdir()
    (there / "tree/precious").touch()
    result = web1("push", tmp_path / "tree", f"{there}/", "--delete", code=5)
    assert result["error"] == f"{there}/tree: the source has nothing in it: refused to empty it"
    assert os.listdir(there / "tree") == ["precious"]


def test_check_and_diff_are_folded(lab: Any, source: Path, there: Path) -> None:
    target = there / "nginx.conf"
    target.write_bytes(b"worker_processes 2;\n")
    before = (target.stat().st_ino, target.stat().st_ctime_ns)
    code, out, err = lab.fleet("push", str(source), str(target), "-l", "good", "--check", "--diff")
    assert out.partition("HOST")[0] == (
        f"db1,web[1-2]: this diff (3 hosts)\n--- {target}\n+++ {target}\n@@ -1 +1 @@\n"
        "-worker_processes 2;\n+worker_processes 4;\n"
    )
    assert (code, err) == (0, "3 changed of 3 hosts in 0.00s\ncheck: nothing was changed\n")
    assert (target.stat().st_ino, target.stat().st_ctime_ns) == before
    assert os.listdir(there) == ["nginx.conf"]


def test_a_check_of_a_tree_names_what_would_change(lab: Any, tmp_path: Path, there: Path) -> None:
    (tmp_path / "tree").mkdir()
    (there / "tree").mkdir()
    (tmp_path / "tree/new").touch()
    (there / "tree/old").touch()
    code, out, err = lab.fleet("push", str(tmp_path / "tree"), f"{there}/", "-l", "good", "--check", "--delete")
    listed = f"db1,web[1-2]: would change (3 hosts)\ndeleted  {there}/tree/old\ncreated  {there}/tree/new\nHOST "
    assert out.startswith(listed)
    assert (code, err) == (0, "3 changed of 3 hosts in 0.00s\ncheck: nothing was changed\n")


def test_how_to_undo_is_told(lab: Any, source: Path, there: Path) -> None:
    (there / "x").write_bytes(b"old")
    code, _, err = lab.fleet("push", str(source), f"{there}/x", "-l", "web1", "--backup")
    told = re.fullmatch(r"1 changed of 1 host in 0\.00s\nto undo it: fleet (rollback \S+)\n", err)
    assert code == 0
    assert told is not None, err
    assert lab.fleet(*told[1].split(), "-l", "web1").code == 0
    assert (there / "x").read_bytes() == b"old"


def test_diff_of_what_keeps_its_content(web1: Callable[..., Any], source: Path, there: Path) -> None:
    target = there / "x"
    target.write_bytes(source.read_bytes())
    target.chmod(0o644)
    (file,) = web1("push", source, target, "--check", "--diff", "--mode", "600")["files"]
    assert (file["status"], file["changes"], file["diff"]) == ("changed", "mode", f"{target}: mode 0644 -> 0600\n")
    target.write_bytes(b"")
    (file,) = web1("push", source, target, "--check", "--diff", "--mode", "600")["files"]
    assert file["changes"] == "content, mode"
    assert file["diff"] == (
        f"{target}: mode 0644 -> 0600\n--- {target}\n+++ {target}\n@@ -0,0 +1 @@\n+worker_processes 4;\n"
    )


def test_diff_of_what_is_no_text(web1: Callable[..., Any], source: Path, there: Path) -> None:
    (there / "x").write_bytes(b"\0binary")
    result = web1("push", source, there / "x", "--check", "--diff")
    old, new = sha256(b"\0binary")[:12], sha256(source.read_bytes())[:12]
    assert result["files"][0]["diff"] == f"{there}/x: 7 bytes, sha256 {old} -> 20 bytes, sha256 {new}\n"


def test_validate(web1: Callable[..., Any], source: Path, there: Path) -> None:
    (there / "x").write_bytes(b"old")
    result = web1("push", source, there / "x", "--validate", "grep -q no-such-word %s", code=5)
    assert result["status"] == "failed"
    assert result["error"].startswith(f"{there}/x: not valid: ")
    assert (there / "x").read_bytes() == b"old"
    web1("push", source, there / "x", "--validate", "grep -q worker %s")
    assert (there / "x").read_bytes() == source.read_bytes()
    assert os.listdir(there) == ["x"]


def test_backup_and_rollback(lab: Any, web1: Callable[..., Any], source: Path, there: Path) -> None:
    (there / "x").write_bytes(b"old")
    first = lab.fleet("push", str(source), f"{there}/x", "-l", "web1", "--backup=.orig", "--json").json["run"]["id"]
    assert (there / "x.orig").read_bytes() == b"old"
    assert lab.fleet("rollback", "no-such-run", "-l", "web1").code == 5
    back = web1("rollback")
    assert (back["status"], back["files"][0]["path"]) == ("changed", f"{there}/x")
    assert (there / "x").read_bytes() == b"old"
    web1("push", source, there / "x", "--backup=.orig")
    (there / "x").write_bytes(b"somebody was here")
    result = web1("rollback", code=5)
    assert result["status"] == "failed"
    assert f"{there}/x" in result["error"]
    assert (there / "x").read_bytes() == b"somebody was here"
    assert first


def test_template(lab: Any, web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text("name {host}; {{ groups {group_names} }}\n")
    result = lab.fleet("push", "--template", str(conf), f"{there}/", "-l", "good", "--check", "--diff", "-f", "1")
    assert re.findall("^[+]name.*", result.out, re.MULTILINE) == [
        "+name web1; { groups good,web }",
        "+name web2; { groups good,web }",
        "+name db1; { groups db,good }",
    ]
    web1("push", "--template", conf, f"{there}/")
    assert (there / "conf").read_text() == "name web1; { groups good,web }\n"


def test_filled_in_files_are_never_on_the_disk(
    lab: Any, end: Callable[..., Any], post: Any, tmp_path: Path, there: Path
) -> None:
    """They may hold passwords, and who is killed clears nothing up."""
    conf, folder = tmp_path / "conf", tmp_path / "tmp"
    conf.write_text("secret of {host}\n")
    folder.mkdir()
    process = lab.start(
        *("push", "--template", str(conf), f"{there}/", "-l", "web1"),
        *("--validate", f"cat %s >{post}; sleep 60"),
        env={"TMPDIR": str(folder)},
    )
    assert post.line() == "secret of web1"
    assert os.listdir(folder) == []
    process.kill()
    end(process)
    assert os.listdir(folder) == []


def test_a_template_without_a_value_changes_no_host(lab: Any, tmp_path: Path, there: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text("{no_such_variable}\n")
    code, out, err = lab.fleet("push", "--template", str(conf), f"{there}/", "-l", "good")
    assert (code, out) == (2, "")
    assert err.startswith(f"fleet: {conf}: ")
    assert os.listdir(there) == []


def test_quick(web1: Callable[..., Any], source: Path, there: Path) -> None:
    web1("push", source, f"{there}/", "-p")
    times = (there / "nginx.conf").stat().st_mtime_ns
    (there / "nginx.conf").write_bytes(b"worker_processes 5;\n")
    os.utime(there / "nginx.conf", ns=(times, times))
    assert web1("push", source, f"{there}/", "--quick")["status"] == "unchanged"
    assert web1("push", source, f"{there}/")["status"] == "changed"


# Pull -----------------------------------------------------------------------------------------------------------------


def test_pull_from_hosts(lab: Any, there: Path, tmp_path: Path) -> None:
    (there / "logs/inner").mkdir(parents=True)
    (there / "logs/a.log").write_bytes(b"1")
    (there / "logs/b.log").write_bytes(b"2")
    (there / "logs/c.txt").write_bytes(b"3")
    (there / "motd").write_bytes(b"hello")
    got = tmp_path / "got"
    done = lab.fleet("pull", f"{there}/logs/*.log", f"{there}/motd", str(got), "-l", "good")
    assert (done.code, done.err) == (0, "3 changed of 3 hosts in 0.00s\n")
    for host in ("web1", "web2", "db1"):
        assert sorted(os.listdir(got / host)) == ["a.log", "b.log", "motd"]
    assert (got / "db1/motd").read_bytes() == b"hello"
    again = lab.fleet("pull", f"{there}/motd", str(got), "-l", "good")
    assert [row[:2] + row[-1:] for row in columns(again.out)[1:]] == [
        [host, "unchanged", sha256(b"hello")] for host in ("web1", "web2", "db1")
    ]
    whole = lab.fleet("pull", f"{there}/logs", str(got), "-l", "web1")
    assert whole.code == 0
    assert sorted(os.listdir(got / "web1/logs")) == ["a.log", "b.log", "c.txt", "inner"]


def test_pull_by_patterns_that_overlap(web1: Callable[..., Any], tmp_path: Path, there: Path) -> None:
    (there / "a").write_bytes(b"1")
    os.link(there / "a", there / "b")
    result = web1("pull", there / "a", there / "*", there / "a", tmp_path / "got")
    got = tmp_path / "got/web1"
    assert [(file["path"], file["status"]) for file in result["files"]] == [
        (f"{got}/a", "changed"),
        (f"{got}/b", "changed"),
    ]
    assert result["bytes"] == 1
    assert sorted(os.listdir(got)) == ["a", "b"]
    assert (got / "a").samefile(got / "b")


def test_pull_flat(lab: Any, source: Path, tmp_path: Path) -> None:
    assert lab.fleet("pull", "--flat", str(source), str(tmp_path / "got"), "-l", "web").code == 0
    assert sorted(os.listdir(tmp_path / "got")) == ["nginx.conf.web1", "nginx.conf.web2"]


def test_pull_what_is_not_there(lab: Any, web1: Callable[..., Any], there: Path, tmp_path: Path) -> None:
    for path in ("nothing", "*.nothing"):
        result = web1("pull", there / path, tmp_path / "got", code=5)
        assert result["status"] == "failed"
        assert result["error"] == f"{there}/{path}: no such file or directory"
        assert result["files"][0]["path"] == f"{there}/{path}"
    assert os.listdir(tmp_path / "got") == []


def test_pull_with_limits(web1: Callable[..., Any], there: Path, tmp_path: Path) -> None:
    (there / "big").write_bytes(bytes(2000))
    for number in range(5):
        (there / f"{number}.log").touch()
    result = web1("pull", f"{there}/*", tmp_path / "got", "--max-size", "1K", "--exclude", "3.log")
    assert sorted(os.listdir(tmp_path / "got/web1")) == ["0.log", "1.log", "2.log", "4.log"]
    assert [file["note"] for file in result["files"] if file["status"] == "skipped"] == [
        "2000 bytes, more than the limit of 1024"
    ]
    result = web1("pull", f"{there}/*", tmp_path / "other", "--max-files", "3", code=5)
    assert result["error"].endswith("more than 3 files: the rest is left out")
    assert len(os.listdir(tmp_path / "other/web1")) == 3


def test_pull_from_proc(web1: Callable[..., Any], tmp_path: Path) -> None:
    web1("pull", "/proc/version", tmp_path / "got")
    assert (tmp_path / "got/web1/version").read_bytes() == Path("/proc/version").read_bytes()


# From Python ----------------------------------------------------------------------------------------------------------


class Counting:
    """Watches transfers from their threads."""

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}
        self.ended: set[str] = set()

    def start(self, host: str) -> Meter:
        self.meters[host] = Meter()
        return self.meters[host]

    def end(self, host: str) -> None:
        self.ended.add(host)


def test_from_python(lab: Any, source: Path, there: Path, tmp_path: Path) -> None:
    fleet = Fleet(str(lab.inventory), key=str(lab.key))
    watcher = Counting()
    run = fleet.push(source, f"{there}/", options=PushOptions(backup=".old"), limit="web1", watcher=watcher)
    (result,) = run
    assert (result.host, result.status, run.exit_code) == ("web1", Status.CHANGED, 0)
    assert [file.path for file in result.files] == [f"{there}/nginx.conf"]
    assert (watcher.meters["web1"].moved, watcher.ended) == (20, {"web1"})
    results = list(
        fleet.pull(f"{there}/*", tmp_path / "got", options=PullOptions(max_size=100), limit="web", exclude="web2")
    )
    assert [(one.host, one.status) for one in results] == [("web1", Status.CHANGED)]
    source.write_bytes(b"new")
    (pushed,) = (run := fleet.push([source], f"{there}/", options=PushOptions(backup=".old"), limit="web1"))
    assert pushed.status is Status.CHANGED
    assert [one.status for one in fleet.rollback(run.id, limit="web1")] == [Status.CHANGED]
    assert (there / "nginx.conf").read_bytes() == b"worker_processes 4;\n"


def test_a_small_file_is_read_once_for_all_hosts(lab: Any, source: Path, there: Path) -> None:
    """Then all of them get the same, whatever becomes of the file meanwhile."""
    run = Fleet(str(lab.inventory), key=str(lab.key), fanout=1).push(source, f"{there}/", limit="good")
    source.unlink()
    assert [(result.status, result.files[0].sha256) for result in run] == [
        (Status.CHANGED, sha256(b"worker_processes 4;\n")),
        (Status.UNCHANGED, sha256(b"worker_processes 4;\n")),
        (Status.UNCHANGED, sha256(b"worker_processes 4;\n")),
    ]


def test_a_tree_of_small_files_is_read_once_for_all_hosts(
    lab: Any, tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_bytes(b"1")
    opened: list[str] = []
    real = Listing.open

    def opening(self: Listing, item: Item) -> int:
        opened.append(item.entry.path)
        return real(self, item)

    monkeypatch.setattr(Listing, "open", opening)
    # Kept are files that were not written a moment ago.
    monkeypatch.setattr(files, "Digests", partial(Digests, wall=lambda: time.time() + 3))
    run = Fleet(str(lab.inventory), key=str(lab.key), fanout=1).push(tree, f"{there}/", limit="good")
    assert [result.status for result in run] == [Status.CHANGED, Status.UNCHANGED, Status.UNCHANGED]
    assert opened == ["tree/one"]


def test_a_cancelled_run_from_python(lab: Any, source: Path, there: Path) -> None:
    fleet = Fleet(str(lab.inventory), key=str(lab.key))
    run = fleet.push(source, f"{there}/", limit="good")
    run.cancel()
    assert [(result.status, result.error) for result in run] == [
        (Status.SKIPPED, "not started: the run was cancelled")
    ] * 3
    assert os.listdir(there) == []


@pytest.mark.parametrize("run_id", ["a\0b", None])
def test_what_is_wrong_from_python(lab: Any, there: Path, run_id: str | None) -> None:
    fleet = Fleet(str(lab.inventory), key=str(lab.key))
    with pytest.raises(FleetError):
        fleet.rollback(run_id) if run_id else fleet.push([], f"{there}/")


# What is in the way ---------------------------------------------------------------------------------------------------


def test_a_read_only_folder(web1: Callable[..., Any], source: Path) -> None:
    result = web1("push", source, "/proc/", code=5)
    assert result["status"] == "failed"
    assert result["error"].startswith("/proc/nginx.conf: cannot create the new file: ")


def test_a_timeout(web1: Callable[..., Any], source: Path, there: Path) -> None:
    result = web1("push", source, f"{there}/", "--validate", "sleep 60; true %s", "-t", "0.3", code=3)
    assert (result["status"], result["error"]) == ("timeout", "cut off after 0.3 s")
    assert "nginx.conf" not in os.listdir(there)


def test_ctrl_c(lab: Any, end: Callable[..., Any], post: Any, source: Path, there: Path) -> None:
    process = lab.start(
        "push", str(source), f"{there}/", "-l", "web1", "--validate", f"echo here > {post}; sleep 60; true %s"
    )
    post.line()
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert done.code == 130
    assert columns(done.out)[1][:2] == ["web1", "cancelled"]
    assert "nginx.conf" not in os.listdir(there)


def after(relay: Any, count: int, act: Callable[[], object]) -> None:
    """Have the relay act with each piece that it passes on once that is more than `count` bytes in all."""
    passed = 0
    pass_on = relay._pass_on

    class Counting:
        def __init__(self, sock: Any) -> None:
            self._sock = sock

        def recv(self, size: int) -> bytes:
            nonlocal passed
            data: bytes = self._sock.recv(size)
            passed += len(data)
            if passed > count:
                act()
            return data

    relay._pass_on = lambda one, other: pass_on(Counting(one), other)


def test_resume_after_a_cut(lab: Any, relay: Any, tmp_path: Path, there: Path) -> None:
    data = os.urandom(40_000_000)
    (tmp_path / "big").write_bytes(data)
    inventory = tmp_path / "relayed.ini"
    inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={relay.port}\n")
    after(relay, 10_000_000, relay.cut)
    done = lab.fleet("push", "-i", str(inventory), str(tmp_path / "big"), f"{there}/")
    assert done.code == 4
    assert columns(done.out)[1][:2] == ["web1", "broken"]
    assert "big" not in os.listdir(there)
    # The agent may still be at it.
    done = lab.fleet("push", str(tmp_path / "big"), f"{there}/", "-l", "web1", "--json")
    (result,) = done.json["results"]
    assert result["status"] == "changed"
    assert (there / "big").read_bytes() == data
    if result["bytes"] < len(data):
        assert result["files"][0]["note"].startswith("continued at byte ")


def test_a_pull_goes_on_after_its_controller_was_killed(lab: Any, relay: Any, tmp_path: Path, there: Path) -> None:
    data = os.urandom(60_000_000)
    (there / "big").write_bytes(data)
    (there / "a").write_bytes(b"small, and whole when the kill comes")
    inventory = tmp_path / "relayed.ini"
    inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={relay.port}\n")
    stuck, release = threading.Event(), threading.Event()

    def stall() -> None:
        stuck.set()
        release.wait(PATIENCE)

    after(relay, 30_000_000, stall)  # not all of that can be in buffers
    got = tmp_path / "got"
    process = lab.start("pull", "-i", str(inventory), f"{there}/a", f"{there}/big", str(got))
    assert stuck.wait(PATIENCE)
    process.kill()
    process.communicate()
    release.set()
    left = sorted(os.listdir(got / "web1"))
    assert [re.sub("[0-9a-f]{16}", "TOKEN", name) for name in left] == [
        ".a.fleet-TOKENc1",
        ".big.fleet-part",
        ".fleet-TOKEN",
    ]
    kept = (got / "web1/.big.fleet-part").stat().st_size
    done = lab.fleet("pull", f"{there}/a", f"{there}/big", str(got), "-l", "web1", "--json")
    (result,) = done.json["results"]
    assert result["status"] == "changed"
    assert result["files"][1]["note"] == f"continued at byte {kept}"
    assert (got / "web1/big").read_bytes() == data
    assert sorted(os.listdir(got / "web1")) == ["a", "big"]


@pytest.mark.parametrize("revoked", [False, True])
def test_whether_a_push_can_go_on(
    lab: Any, relay: Any, post: Any, source: Path, tmp_path: Path, there: Path, revoked: bool
) -> None:
    """Both times the line is cut; where the key was taken away, the same command again would not go on."""
    agent = lab.agents[0]
    record = agent.folder / "controllers/ops.enrol"
    inventory = tmp_path / "relayed.ini"
    inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={agent.port if revoked else relay.port}\n")
    validate = f"echo here > {post}; sleep 1000 # %s"
    process = lab.start("push", "-i", str(inventory), str(source), f"{there}/", "--validate", validate, "--json")
    post.line()
    if revoked:
        record.rename(agent.folder / "revoked")
        agent.process.send_signal(signal.SIGHUP)
    else:
        relay.cut()
    out, _ = process.communicate(timeout=PATIENCE)
    if revoked:
        (agent.folder / "revoked").rename(record)
        agent.process.send_signal(signal.SIGHUP)
        while lab.fleet("ping", "-l", "web1").code:
            pass
    (result,) = json.loads(out)["results"]
    assert result["status"] == "broken"
    assert result["error"].startswith("the connection was lost: ")
    expected = (
        r"web1 \(.*\) refused our key: .*"
        if revoked
        else "the same command again goes on where this one stopped, unless the agent was killed"
    )
    assert re.fullmatch(expected, result["note"])


# Progress -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pair of descriptors: the person's side, and the terminal."""
    pair = pty.openpty()
    yield pair
    for fd in pair:
        os.close(fd)


def read_until(fd: int, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        assert select.select([fd], [], [], PATIENCE)[0], f"no {wanted!r} in {text!r}"
        text += os.read(fd, 65536)
    return text


def test_progress_on_a_terminal(
    lab: Any, end: Callable[..., Any], tmp_path: Path, source: Path, there: Path, terminal: tuple[int, int]
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    near, far = terminal
    process = lab.start(
        "push", str(source), f"{there}/", "-l", "web1", "--validate", f"cat {gate}; true %s", stderr=far
    )
    drawn = read_until(near, b"20 B of 20 B")
    assert drawn.startswith(b"\r\x1b[Kweb1  [")
    gate.write_bytes(b"")
    rest = read_until(near, b"of 1 host")
    done = end(process)
    assert (done.code, b"web1  [" in done.stdout) == (0, False)
    assert b"\r\x1b[K1 changed of 1 host in" in rest.replace(b"\x1b[32m", b"").replace(b"\x1b[0m", b"")


def test_no_progress_in_a_pipe(lab: Any, source: Path, there: Path) -> None:
    done = lab.fleet("push", str(source), f"{there}/", "-l", "web1", "--validate", "sleep 0.5; true %s")
    assert done.err == "1 changed of 1 host in 0.00s\n"


def test_the_help_names_every_option(lab: Any) -> None:
    commands = lab.fleet("--help").out
    assert all(f"\n  {name} " in commands for name in ("push", "pull", "rollback"))
    shown = lab.fleet("push", "--help").out
    for option in [
        "--mode",
        "--owner",
        "--group",
        "--preserve",
        "--backup",
        "--check",
        "--diff",
        "--validate",
        "--delete",
        "--exclude",
        "--follow",
        "--quick",
        "--template",
        "--progress",
        "--json",
        "--timeout",
    ]:
        assert option in shown
