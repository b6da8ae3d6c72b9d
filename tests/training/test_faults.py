"""Faults: what counts as out of memory, what is let go of, and the first bad step of those not yet read."""

import math

import pytest
import torch

from helpers.training import faults


@pytest.mark.parametrize(
    ("error", "yes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, yes):
    assert faults.is_out_of_memory(error) is yes


def log(*results):
    """A log of steps from 1 on, of two images each, at rates 0.1, 0.2 ..., from their (loss, norm)."""
    made = faults.StepLog()
    for step, (loss, norm) in enumerate(results, 1):
        made.add(torch.tensor(loss), torch.tensor(norm), step, 2, step / 10)
    return made


def test_losses_are_summed_over_images_whenever_they_are_read():
    one = log((1.0, 1.0), (2.0, 0.0))
    assert one.read() == "" and one.epoch_loss == 6.0 and one.take_window() == 1.5
    assert one.take_window() is None and one.read() == ""
    one.add(torch.tensor(4.0), torch.tensor(1.0), 3, 1, 0.3)
    assert one.epoch_loss == 6.0  # not before it is read
    assert one.read() == "" and one.epoch_loss == 10.0 and one.take_window() == 4.0


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (math.inf, 1.0), (-math.inf, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_the_first_bad_step_is_named_until_a_checkpoint_is_loaded(bad):
    one = log((1.0, 1.0), bad, (3.0, 1.0), (math.nan, math.nan))
    fault = "the loss or its gradient was not finite in step 2 at rate 2.0e-01"
    assert one.read() == fault and one.epoch_loss == 2.0  # the good ones before it alone
    one.add(torch.tensor(1.0), torch.tensor(1.0), 5, 2, 0.5)
    assert one.read() == fault
    one.load({"loss_sum": 7.0, "window": 3.0, "window_images": 2})
    assert one.read() == "" and one.epoch_loss == 7.0 and one.take_window() == 1.5
