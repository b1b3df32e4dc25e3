"""The wake-up descriptor."""

from __future__ import annotations

import os
import select

import pytest

from controller.cancel import CancelToken


def readable(token):
    return bool(select.select([token], [], [], 0)[0])


def test_it_is_readable_once_set_and_stays_so():
    token = CancelToken()
    assert (token.is_set, readable(token)) == (False, False)
    token.set()
    token.set()
    assert (token.is_set, readable(token)) == (True, True)
    assert os.read(token.fileno(), 10) == b"!"  # one byte, however often it was set


def test_it_gives_its_descriptors_back():
    token = CancelToken()
    fd = token.fileno()
    del token
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
