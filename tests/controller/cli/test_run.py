"""`fleet run` from inside: what its options become."""

from __future__ import annotations

import pytest

from controller.cli import run as module
from controller.cli.look import Look
from controller.cli.run import Request
from controller.errors import FleetError
from controller.script import Script


def test_a_request_has_the_documented_defaults():
    request = Request("df -h")
    assert (request.timeout, request.environment, request.directory, request.max_output) == (None, {}, None, 16 * 2**20)


@pytest.mark.parametrize("command", ["", " ", "\n\t "])
def test_an_empty_command(command):
    with pytest.raises(FleetError, match=r"^command: is empty$"):
        Request(command)


def test_a_script_needs_no_command_and_no_shell():
    script = Script("x", b"#!/bin/sh\n")
    assert Request("", script=script).script is script
    with pytest.raises(FleetError, match=r"^--shell: a script is run by its own #!, and not by a shell$"):
        Request("", script=script, shell="/bin/sh")


def test_environment():
    assert module._environment(["A=b", "C=d=e", "F="]) == {"A": "b", "C": "d=e", "F": ""}
    assert module._environment(["A=b", "A=c"]) == {"A": "c"}
    with pytest.raises(FleetError, match=r"^--env: 'A' is not K=V$"):
        module._environment(["A"])


def test_the_limit_on_output():
    assert module._max_output(None, Look()) == 16 * 2**20
    assert module._max_output(None, Look(stream=True)) is None
    assert module._max_output(None, Look(stream=True, output_dir="d")) == 16 * 2**20
    assert module._max_output(0, Look(raw=True)) == 0
    with pytest.raises(FleetError, match=r"^--max-output: -1 is not in 0\.\.1099511627776 bytes$"):
        module._max_output(-1, Look())
