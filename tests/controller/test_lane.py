"""A few threads at once, and no more."""

from __future__ import annotations

import os
import threading

import pytest

from controller.lane import Lane, lane


@pytest.mark.parametrize("width", [1, 3])
def test_no_more_than_its_width_at_once(width: int) -> None:
    narrow = Lane(width)
    inside, most, count = 0, 0, threading.Lock()
    full, go_on = threading.Barrier(width), threading.Event()

    def pass_through() -> None:
        nonlocal inside, most
        with narrow:
            with count:
                inside += 1
                most = max(most, inside)
            if not go_on.is_set():
                full.wait(60)  # broken by one that is too many, endless with one too few
                go_on.set()
            with count:
                inside -= 1

    threads = [threading.Thread(target=pass_through) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (inside, most) == (0, width)


def test_an_error_gives_the_place_back() -> None:
    narrow = Lane(1)
    with pytest.raises(ZeroDivisionError), narrow:
        raise ZeroDivisionError
    with narrow:
        pass


def test_one_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lane() is lane()
    for count, width in ((None, 1), (1, 1), (2, 1), (9, 4)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert lane.__wrapped__()._tokens.qsize() == width
