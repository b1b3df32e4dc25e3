"""Whoever reads our output may go at any time."""

from __future__ import annotations

import os
import select
import threading

import pytest

from controller.cancel import CancelToken
from controller.stdout_watch import StdoutWatch


def test_the_reader_goes():
    reader, writer = os.pipe()
    token = CancelToken()
    with StdoutWatch(writer, token) as watch:
        watch.check()
        os.close(reader)
        assert select.select([token], [], [], 30)[0]
        with pytest.raises(BrokenPipeError):
            watch.check()
    os.close(writer)


def test_the_reader_has_gone_already():
    reader, writer = os.pipe()
    os.close(reader)
    token = CancelToken()
    with StdoutWatch(writer, token):
        assert select.select([token], [], [], 30)[0]
    os.close(writer)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_what_has_no_reader_has_none_to_lose(path):
    token = CancelToken()
    with open(path, "wb") as file, StdoutWatch(file.fileno(), token) as watch:
        pass
    watch.check()
    assert not token.is_set


def test_the_end_of_the_block_is_the_end_of_the_watch():
    reader, writer = os.pipe()
    token = CancelToken()
    with StdoutWatch(writer, token) as watch:
        assert "watch stdout" in [thread.name for thread in threading.enumerate()]
    assert "watch stdout" not in [thread.name for thread in threading.enumerate()]
    os.close(reader)
    watch.check()
    assert not token.is_set
    os.close(writer)
