"""What holds for all tests: they must not depend on how they were started."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest

# `nohup` and a shell's `&` leave some signals ignored, and what is ignored stays so in every child. Tests send these.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# What these start runs lines that others of their kind run as well, and each start of coverage takes longer than most
# of the commands do: their processes are not measured. The tests themselves are.
_NOT_MEASURED = (
    "tests/e2e/test_bad_input.py",
    "tests/e2e/test_command.py",
    "tests/e2e/test_files.py",
    "tests/e2e/test_folding.py",
    "tests/e2e/test_interrupts.py",
    "tests/e2e/test_keys.py",
    "tests/e2e/test_readme.py",
    "tests/e2e/test_rollback.py",
    "tests/e2e/test_run.py",
    "tests/e2e/test_watching.py",
    "tests/e2e/test_what.py",
    "tests/security/",
)


@pytest.fixture(scope="module", autouse=True)
def _measure_no_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep coverage out of what the tests of some modules start."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.relative_to(request.config.rootpath).as_posix().startswith(_NOT_MEASURED):
            for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS_")]:
                patch.delenv(name)
        yield


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Let the collector of cycles rest: what is gone in a test that asks for this has gone by itself.

    A connection's parts that hold each other stay in memory until some later collection, with their buffers, and each
    collection has to look through them.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()
