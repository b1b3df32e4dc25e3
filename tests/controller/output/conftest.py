"""A pair of writers whose text can be read back."""

import io
import os
from dataclasses import dataclass, field

import pytest

from controller.output import Colour, RunInfo, Writer


@dataclass
class Screen:
    """What `out` and `err` were given; a terminal when asked."""

    terminal: bool = False
    colour: bool = False
    stdout: io.BytesIO = field(default_factory=io.BytesIO)
    stderr: io.BytesIO = field(default_factory=io.BytesIO)

    @property
    def out(self):
        return Writer(self.stdout, terminal=self.terminal, colour=Colour(self.colour))

    @property
    def err(self):
        return Writer(self.stderr, name="standard error", terminal=self.terminal, colour=Colour(self.colour))

    @property
    def shown(self):
        return self.stdout.getvalue()

    @property
    def said(self):
        return self.stderr.getvalue().decode()


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def terminal():
    return Screen(terminal=True)


@pytest.fixture
def coloured():
    return Screen(terminal=True, colour=True)


@pytest.fixture
def run():
    return RunInfo("r1", "df -h", started=1767225600.9, elapsed=0.42, exit_code=5, hosts=2)


@pytest.fixture
def buffered_pipe():
    """A descriptor to read from, which fails instead of waiting, and a buffered stream to write to."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with open(writer, "wb") as target:
        yield reader, target
    os.close(reader)


@pytest.fixture(scope="session")
def make_screen():
    """For property tests, which need a new one for each example."""
    return Screen
