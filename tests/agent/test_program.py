"""A script that is executed from a descriptor, and what is said of one that cannot be."""

from __future__ import annotations

import errno
import os
import resource
from types import SimpleNamespace

import pytest

from agent.orders import Command
from agent.program import Program
from agent.script import ScriptFile

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture
def run(commands, runner):
    """Return a function that runs a script to its end."""

    def run(text, *arguments, user=None, name="check.sh"):
        file = ScriptFile(None)
        file.write(text)
        job = runner.run(Command((name, *arguments), ENVIRONMENT, "/", user=user, script=True), file.seal())
        file.close()
        return commands.finish(job)

    return run


USERS = [None, pytest.param("nobody", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another"))]


@pytest.mark.parametrize("user", USERS)
def test_a_script_is_run_by_its_first_line(run, user):
    text = b'#!/bin/sh -u\necho "$0" "$#" "$@"; exec 3>&2 9>&1; sed -n 1p "$0"; exit 7\n'
    finished = run(text, "-v", "a b", "", user=user)
    assert (finished.outcome.code, finished.outcome.error) == (7, None)
    assert finished.stdout == b"/proc/self/fd/100 3 -v a b \n#!/bin/sh -u\n"
    assert finished.stderr == b""


@pytest.mark.parametrize("user", USERS)
def test_a_program_is_run_under_its_name(run, user):
    with open("/bin/cat", "rb") as file:
        finished = run(file.read(), "/no/such", user=user, name="cat of ours")
    assert finished.outcome.code == 1
    assert finished.stderr == b"cat of ours: /no/such: No such file or directory\n"


def test_nobody_else_can_reach_it(run):
    """It has no name: the only way to it is a descriptor of the command's own."""
    finished = run(b'#!/bin/sh\nls -l "$0" | sed "s/.*-> //"\n')
    assert finished.stdout == b"/memfd:fleet-script (deleted)\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"#!/no/perl -w\n", "cannot run check.sh: its interpreter /no/perl is not there"),
        (b"#!\t/no/perl", "cannot run check.sh: its interpreter /no/perl is not there"),
        (b"#! /no/p\xffrl\n", "cannot run check.sh: its interpreter /no/p\udcffrl is not there"),
        (b"#!/etc/passwd\n", "cannot run check.sh with /etc/passwd: Permission denied"),
        (b"#!/\n", "cannot run check.sh with /: Permission denied"),
        (b"#!\n", "cannot run check.sh: its first line names no interpreter in 255 bytes"),
        (b"#!/" + b"x" * 300 + b"\n", "cannot run check.sh: its first line names no interpreter in 255 bytes"),
        (b"\x7fELF and no more", "cannot run check.sh: no program for this machine"),
        (b"text", "cannot run check.sh: no program for this machine"),
        (b"", "cannot run check.sh: no program for this machine"),
    ],
)
def test_what_cannot_be_run_says_why(run, text, error):
    finished = run(text)
    assert (finished.outcome.code, finished.outcome.signal, finished.outcome.error) == (None, None, error)


def test_a_program_whose_loader_is_missing(run):
    with open("/bin/cat", "rb") as file:
        text = file.read()
    assert b"/ld-linux" in text
    error = run(text.replace(b"/ld-linux", b"/no-linux")).outcome.error
    assert error == "cannot run check.sh: the loader that it names is not there"


def test_a_host_with_no_place_for_a_program(monkeypatch):
    from agent import program as module

    program = Program(0)
    flags = [0, os.ST_NOEXEC]
    monkeypatch.setattr(module.os, "fstatvfs", lambda fd: SimpleNamespace(f_flag=flags.pop(0)))
    monkeypatch.setattr(module.os, "pread", lambda fd, count, place: b"#!/bin/sh\n")
    assert program.reason("x", errno.EACCES) == "cannot run x with /bin/sh: Permission denied"
    assert program.reason("x", errno.EACCES) == (
        "cannot run x: no program may lie in memory here (vm.memfd_noexec), nor in the agent's folder"
    )
    program.close()


def test_an_argument_that_is_too_long(run):
    limit = 32 * resource.getpagesize() - 1
    error = run(b"#!/bin/sh\n", "x" * (limit + 1)).outcome.error
    assert error == f"an argument is too long: {limit + 1} bytes, at most {limit}"


def test_a_script_is_gone_with_its_command(run, runner, commands):
    run(b"#!/bin/sh\n")
    listed = commands.run(runner, "ls -l /proc/$PPID/fd").stdout  # the worker's
    assert b"memfd" not in listed


def test_few_descriptors_are_allowed(monkeypatch):
    from agent import program as module

    def refuse(fd, command, least):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(module.fcntl, "fcntl", refuse)
    program = Program(0)
    assert program.fd < 100
    assert program.path == f"/proc/self/fd/{program.fd}"
    program.close()
