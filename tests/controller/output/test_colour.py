"""Colour only where a person looks, and never against their wish."""

import io

import pytest

from controller.output.colour import Colour, Style
from controller.results import Status


class Terminal(io.BytesIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("option", "stream", "environ", "enabled"),
    [
        ("auto", Terminal(), {}, True),
        ("auto", Terminal(), {"NO_COLOR": ""}, True),  # no-color.org: only when not empty
        ("auto", Terminal(), {"NO_COLOR": "1"}, False),
        ("auto", Terminal(), {"TERM": "dumb"}, False),
        ("auto", io.BytesIO(), {}, False),
        ("always", io.BytesIO(), {"NO_COLOR": "1"}, True),
        ("never", Terminal(), {}, False),
    ],
)
def test_from_option(option, stream, environ, enabled):
    assert Colour.from_option(option, stream, environ).enabled is enabled


@pytest.mark.parametrize("option", ["", "yes", "AUTO"])
def test_an_unknown_option_is_an_error(option):
    with pytest.raises(ValueError, match="is not a valid ColourWhen"):
        Colour.from_option(option, io.BytesIO(), {})


def test_paint():
    assert Colour(True).paint("x", Style.FAILED) == "\x1b[31mx\x1b[0m"
    assert Colour(False).paint("x", Style.FAILED) == "x"


@pytest.mark.parametrize(
    ("status", "code"), [(Status.OK, 32), (Status.FAILED, 31), (Status.TIMEOUT, 33), (Status.DENIED, 35)]
)
def test_statuses_are_coloured_by_class(status, code):
    assert Colour(True).status(status) == f"\x1b[{code}m{status.value}\x1b[0m"
    assert Colour(True).status(status, "2 x") == f"\x1b[{code}m2 x\x1b[0m"
    assert Colour(False).status(status) == status.value
