"""`fleet demo` from inside: the checks before anything is started."""

from __future__ import annotations

import pytest

from controller.cli import demo as module
from controller.errors import FleetError


@pytest.mark.parametrize("count", [0, -1, 101, 10**400])
def test_how_many(count):
    with pytest.raises(FleetError, match=rf"^-n: {count} is not in 1\.\.100$"):
        module.demo(n=count)


def test_a_folder_is_made_closed_to_others(tmp_path):
    folder = module._new_folder(str(tmp_path / "a/b"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert module._new_folder(str(folder)) == folder


def test_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "x y").mkdir()
    (tmp_path / "x y/z").touch()
    with pytest.raises(FleetError, match=r"is not empty$") as caught:
        module._new_folder(str(tmp_path / "x y"))
    assert caught.value.hint.endswith(f"fleet demo --stop '{tmp_path}/x y'")


def test_what_next_can_be_copied_into_a_shell(capsys):
    module._say_what_next("/tmp/x y")
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "  . '/tmp/x y/env'"
    assert lines[-1] == "  fleet demo --stop '/tmp/x y'"
