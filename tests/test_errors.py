"""What libraries raise at their own end becomes an error that a user can act on."""

import errno

import pytest
import torch

from sftprep.errors import (
    DataError,
    OutOfMemoryError,
    StoreError,
    library_failures,
)


def test_torch_without_memory_is_one_error_that_says_what_to_lower() -> None:
    what = r"while training.*training\.batch_size"
    with pytest.raises(OutOfMemoryError, match=what), library_failures("while training"):
        torch.empty(1 << 50)
    assert OutOfMemoryError.exit_code == 2


def test_python_without_memory_is_the_same_error() -> None:
    with pytest.raises(OutOfMemoryError), library_failures("while reading"):
        bytearray(1 << 60)


def test_a_file_that_cannot_be_mapped_for_lack_of_memory_is_the_same_error() -> None:
    with pytest.raises(OutOfMemoryError), library_failures("while reading"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory", "weights")


def test_a_file_that_the_system_refuses_is_named() -> None:
    what = "/dev/null/x: Not a directory while writing"
    with pytest.raises(StoreError, match=what), library_failures("while writing"):
        open("/dev/null/x", "w")  # noqa: PTH123, SIM115 - as a library does


@pytest.mark.parametrize("error", [DataError("a row"), AssertionError("ours"), ValueError("ours")])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, library_failures("at work"):
        raise error
    assert raised.value is error
