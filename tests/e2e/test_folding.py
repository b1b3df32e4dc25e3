"""Results of real agents folded, compared, and as one table; and what is wrong is said before anything runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

RULE = "---------------\n"
WHO = "echo I am $FLEET_HOST"


def test_fold(lab):
    done = lab.fleet("run", "-b", "echo same; test $FLEET_HOST != db1 || exit 3")
    head, *blocks = done.out.split(RULE)
    assert head == ""
    assert blocks[:4] == ["web[1-2] (2)\n", "same\n", "db1: failed: exit code 3\n", "same\n"]
    assert [block.partition(":")[0] for block in blocks[4::2]] == ["gone", "newcomer", "stranger"]
    assert done.code == 4
    assert done.err.startswith("2 ok, 1 failed, ")


def test_a_folded_set_is_a_target(lab):
    shown = lab.fleet("run", "-b", "-l", "good", "true").out.splitlines()[1]
    hosts = shown.partition(" ")[0]
    assert hosts == "db1,web[1-2]"
    assert lab.fleet("run", "-w", hosts, "--list-hosts", "true").out.splitlines() == ["db1", "web1", "web2"]


def test_masks(lab):
    different = lab.fleet("run", "-b", "-l", "good", WHO).out
    assert different.count("I am") == 3
    same = lab.fleet("run", "-b", "--mask-host", "-l", "good", WHO).out
    assert same == f"{RULE}db1,web[1-2] (3): as db1 has it, others differ where masked\n{RULE}I am db1\n"
    assert lab.fleet("run", "-b", "--mask", "[a-z]+[0-9]$", "-l", "good", WHO).out == same


def test_only_failures_are_folded(lab):
    done = lab.fleet("run", "-qb", "-l", "good", "test $FLEET_HOST = db1")
    assert tuple(done) == (
        5,
        f"{RULE}web[1-2] (2): failed: exit code 1\n{RULE}",
        "1 ok, 2 failed of 3 hosts in 0.00s\n",
    )
    assert tuple(lab.fleet("run", "-qb", "-l", "good", "true")) == (0, "", "")


def test_diff(lab):
    command = "seq 1 9; test $FLEET_HOST != db1 || echo more"
    done = lab.fleet("run", "--diff", "-l", "good", command)
    assert done.out == "--- web[1-2] (2)\n+++ db1\n@@ -7,3 +7,4 @@\n 7\n 8\n 9\n+more\n"
    alike = lab.fleet("run", "-b", "--diff", "-l", "good", "seq 1 9")
    assert (alike.out, alike.err.splitlines()[0]) == ("", "no differences: db1,web[1-2] (3)")


def test_columns(lab):
    case = "case $FLEET_HOST in web1) echo 'a     9.8G';; web2) echo 'b     10T';; *) echo no;; esac"
    command = f"printf 'Name  Size\\n'; {case}"
    done = lab.fleet("run", "--columns", "--sort", "Size:desc", "-l", "web", command)
    assert done.out == "HOST  Name  Size\nweb2  b      10T\nweb1  a     9.8G\n"
    where = lab.fleet("run", "--columns", "--where", "Size < 1T", "-l", "good", command)
    assert where.out == f"HOST  Name  Size\nweb1  a     9.8G\n{RULE}db1\n{RULE}Name  Size\nno\n"
    top = lab.fleet("run", "--columns", "--top", "1", "-l", "web", command)
    assert len(top.out.splitlines()) == 2


def test_columns_of_what_this_machine_says(lab):
    document = lab.fleet("run", "--columns", "--json", "-l", "good", "LC_ALL=C df -P; LC_ALL=C exit 0").json
    assert {row["HOST"] for row in document["rows"]} == {"web1", "web2", "db1"}
    assert document["columns"] == ["HOST", "Filesystem", "1024-blocks", "Used", "Available", "Capacity", "Mounted on"]
    assert all(re.fullmatch(r"\d+%|-", row["Capacity"]) for row in document["rows"])


def test_a_column_that_is_not_there(lab):
    done = lab.fleet("run", "--columns", "--sort", "nope", "-l", "web1", "printf 'A,B\\n1,2\\n'")
    assert (done.code, done.out) == (2, "HOST  A  B\nweb1  1  2\n")
    assert done.err.splitlines()[1:] == ["fleet: --sort: no column 'nope'", "hint: there are HOST, A, B"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-b", "--columns"], "fleet: --fold and --columns: results can look only one way at a time\n"),
        (["-b", "--mask", "[a"], "fleet: --mask: unterminated character set at position 1: '[a'\n"),
        (["--top", "3"], "fleet: --top: is for --columns\n"),
        (["--columns", "--where", "x"], "fleet: --where: expected one of = != < <= > >= ~ !~ at position 2: x >>>\n"),
        (["--columns", "--top", "x"], "fleet: usage: invalid value for '--top': "),
    ],
)
def test_mistakes_are_said_before_anything_runs(lab, tmp_path, options, said):
    done = lab.fleet("run", *options, "-l", "web1", f"touch {tmp_path}/ran")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(said)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("way", [[], ["--columns"]])
def test_a_table_fits_its_terminal(lab, end, columns, way):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = ["run", "--color", "never", *way, "-l", "web1", "printf 'A,B\\n1,%s\\n' $(seq -s. 1 500)"]
    process = lab.start(*command, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    text = b""
    while b"\xe2\x80\xa6" not in text:
        text += os.read(master, 65536)
    assert end(process).code == 0
    os.close(master)
    assert max(map(len, text.decode().splitlines())) == columns
    piped = lab.fleet(*command)
    assert "499.500" in piped.out
    assert "\u2026" not in piped.out
