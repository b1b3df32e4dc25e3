"""A buffer whose neighbour does not lie at the same place of its page."""

from __future__ import annotations

import ctypes

from agent.wire.room import make_room


def test_it_has_the_size_that_was_asked_for_and_can_be_written() -> None:
    room = make_room(4096)
    room[:] = b"x" * 4096
    assert (len(room), room.readonly, bytes(room[-2:])) == (4096, False, b"xx")


def test_what_lies_right_behind_it_is_far_from_the_same_place_of_a_page() -> None:
    room = make_room(256 * 1024)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    behind = start + len(room.obj) + 1  # type: ignore[arg-type]
    assert 1024 < (behind - start) % 4096 < 3072
