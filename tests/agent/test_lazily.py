"""Modules that are loaded when they are used. Each in an interpreter of its own: here they are loaded already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest


def output_of(code: str, environment: Mapping[str, str] | None = None) -> str:
    """Run Python code in a fresh interpreter; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


# A module that no start of an interpreter, and nothing that measures coverage, has loaded.
BEGIN = "import sys\nfrom agent.lazily import put_off\nput_off('colorsys')\n"


def test_a_module_that_is_put_off_is_loaded_when_it_is_used() -> None:
    code = (
        BEGIN + "import colorsys\nprint(type(colorsys).__name__, colorsys.ONE_SIXTH == 1 / 6, type(colorsys).__name__)"
    )
    assert output_of(code) == "_LazyModule True module"


def test_it_may_be_imported_in_any_way() -> None:
    assert output_of(BEGIN + "from colorsys import ONE_SIXTH\nprint(ONE_SIXTH == 1 / 6)") == "True"
    assert output_of(BEGIN + "import colorsys\nimport colorsys\nprint(colorsys.ONE_SIXTH == 1 / 6)") == "True"


def test_one_that_is_loaded_stays() -> None:
    code = "import sys, colorsys\nbefore = list(sys.meta_path)\n" + BEGIN.partition("\n")[2]
    assert output_of(code + "print(sys.meta_path == before, type(colorsys).__name__)") == "True module"


@pytest.mark.parametrize("name", ["no_such_module", "colorsys.no_such_module"])
def test_what_is_not_there_is_the_error_it_is(name: str) -> None:
    begin = f"from agent.lazily import put_off\nput_off({name!r})\n"
    assert output_of(f"{begin}try:\n import {name}\nexcept ImportError as error:\n print(error.name)") == name


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="dataclasses asks inspect for the annotations of each class")
@pytest.mark.parametrize("program", ["controller.cli.run", "controller.cli.files", "agent.server"])
def test_neither_program_loads_the_parser_of_python(program: str) -> None:
    code = f"import sys\nfrom agent.lazily import put_off\nput_off('inspect')\nimport {program}\n"
    # Who measures coverage loads much by itself.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    assert output_of(code + "print({'ast', 'dis', 'random'} & set(sys.modules))", plain) == "set()"
