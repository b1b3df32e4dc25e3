"""Files in memory, and kernels that know other words than ours."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from agent import memfd
from agent.memfd import memory_file

EXEC, NOEXEC_SEAL = 0x10, 0x8


@pytest.fixture
def asked(monkeypatch):
    """Record the flags that are asked for, and answer with the errors in `asked.errors` as long as there are some."""
    make = os.memfd_create

    class Asked(list):
        errors: list[int] = []  # noqa: RUF012

        def __call__(self, name, flags):
            self.append(flags)
            if self.errors:
                raise OSError(self.errors.pop(0), "no")
            return make(name)

    asked = Asked()
    monkeypatch.setattr(memfd.os, "memfd_create", asked)
    return asked


@pytest.mark.parametrize(("executable", "word"), [(True, EXEC), (False, NOEXEC_SEAL)])
def test_it_is_said_whether_it_will_be_executed(asked, executable, word):
    os.close(memory_file("x", executable=executable))
    assert asked == [os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | word]


def test_a_kernel_that_does_not_know_the_words(asked):
    asked.errors = [errno.EINVAL]
    os.close(memory_file("x"))
    assert asked[1:] == [os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE])
def test_what_is_refused(asked, code):
    asked.errors = [code]
    with pytest.raises(OSError) as caught:
        memory_file("x")
    assert caught.value.errno == code
    assert len(asked) == 1


def test_it_has_no_name_and_is_not_inherited():
    fd = memory_file("x")
    assert not os.get_inheritable(fd)
    assert os.fstat(fd).st_nlink == 0
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & ~0x20 == 0  # 0x20 is F_SEAL_EXEC
    os.close(fd)
