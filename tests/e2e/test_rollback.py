"""Rollbacks over hosts that differ: the last push of them all is undone, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("web1", "web2", "web3")


class Hosts:
    """Three agents, each with a home of its own, in which pushes arrive."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.source = lab.folder / "source"
        self.source.mkdir()
        assert lab.fleet("init", "--name", "ops").code == 0
        assert lab.fleet("enroll", *NAMES, "-o", "enrolments").code == 0
        for name in NAMES:
            self.home(name).mkdir()
            settings = f'\n[controllers.ops]\nhome = "{self.home(name)}"\n'
            lab.agent(lab.folder / f"enrolments/{name}.enrol", lab.folder / name, settings)
        self.write_inventory(*(agent.port for agent in lab.agents))

    def write_inventory(self, *ports: int) -> None:
        lines = [f"{name} fleet_host=127.0.0.1 fleet_port={port}\n" for name, port in zip(NAMES, ports, strict=True)]
        self.lab.inventory.write_text("".join(lines))

    def home(self, name: str) -> Path:
        return self.lab.folder / f"home-{name}"

    def put(self, name: str, **files: str) -> None:
        """Write files on a host."""
        for file, text in files.items():
            (self.home(name) / file).write_text(text)

    def push(self, *options: str, to: str = ".", **files: str) -> str:
        """Push files with a backup; return what is said."""
        for file, text in files.items():
            (self.source / file).write_text(text)
        done = self.lab.fleet("push", *options, *(f"{self.source}/{file}" for file in files), to)
        assert done.code == 0, done.out + done.err
        return done.err

    def roll_back(self, *arguments: str, code: int = 0) -> dict[str, tuple[str, str | None]]:
        """Roll back; return status, and note or error, of each host."""
        done = self.lab.fleet("rollback", *arguments, "--json")
        assert done.code == code, done.out + done.err
        return {one["host"]: (one["status"], one.get("note") or one["error"]) for one in done.json["results"]}

    def texts(self, file: str) -> list[str | None]:
        """Return what a file holds on each host."""
        paths = [self.home(name) / file for name in NAMES]
        return [path.read_text() if path.exists() else None for path in paths]


@pytest.fixture
def hosts(new_lab: Any) -> Iterator[Hosts]:
    yield Hosts(new_lab)


def undo_of(said: str) -> str | None:
    """Return the id in the hint, None when there is none."""
    found = re.search("^to undo it: fleet rollback (.+)$", said, re.MULTILINE)
    return found and found[1]


def test_the_last_push_alone_is_undone(hosts: Hosts) -> None:
    """On web2 it replaced nothing: what the push before it replaced there stays."""
    hosts.push(X="x1", Y="y1")
    hosts.put("web2", Y="y2")
    hosts.push("--backup", X="x2")
    run = undo_of(hosts.push("--backup", Y="y2"))
    assert run is not None
    assert hosts.roll_back() == {"web1": ("changed", None), "web2": ("unchanged", None), "web3": ("changed", None)}
    assert (hosts.texts("X"), hosts.texts("Y")) == (["x2"] * 3, ["y1", "y2", "y1"])
    assert hosts.roll_back(run)["web2"] == ("unchanged", None)


@pytest.mark.parametrize("kind", ["created", "mode", "unchanged"])
def test_a_push_that_replaced_nothing_is_the_last_push(hosts: Hosts, kind: str) -> None:
    hosts.push(X="x1")
    assert undo_of(hosts.push("--backup", X="x2")) is not None
    options = {"created": (), "mode": ("--mode", "600"), "unchanged": ()}[kind]
    said = hosts.push("--backup", *options, **({"new": "1"} if kind == "created" else {"X": "x2"}))
    assert "to undo it" not in said
    assert hosts.roll_back() == dict.fromkeys(NAMES, ("unchanged", None))
    assert hosts.texts("X") == ["x2"] * 3


def test_a_check_is_no_push(hosts: Hosts) -> None:
    hosts.push(X="x1")
    hosts.push("--backup", X="x2")
    hosts.push("--backup", "--check", X="x3")
    hosts.roll_back()
    assert hosts.texts("X") == ["x1"] * 3


def test_a_host_that_had_no_part(hosts: Hosts) -> None:
    hosts.push(X="x1")
    hosts.push("--backup", "-l", "web2", X="x2")
    run = undo_of(hosts.push("--backup", "-l", "web1", X="x3"))
    note = f"had no part in the push {run}"
    assert hosts.roll_back() == {"web1": ("changed", None), "web2": ("unchanged", note), "web3": ("unchanged", note)}
    assert hosts.texts("X") == ["x1", "x2", "x1"]
    assert f"[note: {note}]" in hosts.lab.fleet("rollback").out
    reason = f"no push {run!r} with backups of controller ops to roll back"
    assert hosts.roll_back(str(run), code=5) == {
        "web1": ("unchanged", None),
        "web2": ("failed", reason),
        "web3": ("failed", reason),
    }


def test_nobody_had_a_push(hosts: Hosts) -> None:
    reason = "no push with backups of controller ops to roll back"
    assert hosts.roll_back(code=5) == dict.fromkeys(NAMES, ("failed", reason))


def test_who_is_not_reached_is_reported_as_always(hosts: Hosts) -> None:
    hosts.push(X="x1")
    hosts.push("--backup", X="x2")
    ports = [agent.port for agent in hosts.lab.agents]
    hosts.lab.agents[2].stop()
    done = hosts.lab.fleet("rollback", "--json", "--timeout", "30")
    assert done.code == 4
    assert [one["status"] for one in done.json["results"]] == ["changed", "changed", "unreachable"]
    assert re.fullmatch(r"rollback \d{8}-\d{6}-[0-9a-f]+", done.json["run"]["command"])
    assert "files" in done.json["results"][2]
    assert hosts.texts("X") == ["x1", "x1", "x2"]
    hosts.write_inventory(ports[0], ports[0], ports[0])  # another host's agent answers
    assert [status for status, _ in hosts.roll_back(code=4).values()] == ["unchanged", "denied", "denied"]


def test_what_was_deleted_comes_back(hosts: Hosts) -> None:
    tree = hosts.source / "tree"
    (tree / "d").mkdir(parents=True)
    for name in ("x", "d/y", "stays"):
        (tree / name).write_text(name)
    assert hosts.lab.fleet("push", str(tree), ".").code == 0
    (tree / "x").unlink()
    (tree / "d/y").unlink()
    (tree / "d").rmdir()
    run = undo_of(hosts.lab.fleet("push", "--backup", "--delete", str(tree), ".").err)
    assert run is not None
    assert hosts.texts("tree/x") == [None] * 3
    (hosts.home("web3") / "tree/d").mkdir()
    back = hosts.roll_back(run, code=5)
    assert [status for status, _ in back.values()] == ["changed", "changed", "failed"]
    assert back["web3"][1] == f"{hosts.home('web3')}/tree/d: was deleted, and something else is there now"
    assert hosts.texts("tree/x") == ["x"] * 3
    assert hosts.texts("tree/d/y") == ["d/y", "d/y", None]


def test_links_come_back(hosts: Hosts) -> None:
    tree = hosts.source / "tree"
    tree.mkdir()
    (tree / "p").write_text("old")
    (tree / "q").hardlink_to(tree / "p")
    (tree / "current").symlink_to("/usr")
    assert hosts.lab.fleet("push", str(tree), ".").code == 0
    (tree / "p").write_text("new")
    (tree / "current").unlink()
    (tree / "current").symlink_to("/etc")
    assert hosts.lab.fleet("push", "--backup", str(tree), ".").code == 0
    assert hosts.texts("tree/q") == ["new"] * 3
    assert [status for status, _ in hosts.roll_back().values()] == ["changed"] * 3
    for name in NAMES:
        there = hosts.home(name) / "tree"
        assert {one.name for one in there.iterdir()} == {"p", "q", "current"}
        assert ((there / "q").read_text(), (there / "current").readlink()) == ("old", Path("/usr"))
        assert (there / "p").samefile(there / "q")
