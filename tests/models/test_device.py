"""What a process sets up for its device."""

import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from hvlabel.models.device import choose_device
{setup}
def faults(mib):
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        buffers = [torch.ones(mib << 18) for _ in range(4)]
        del buffers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sum(faults(mib) for mib in range(4, 28, 3)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells of the GNU C library's allocator")
def test_large_tensors_take_the_place_of_freed_ones_on_a_cpu():
    pages = sum(mib * 256 * 4 for mib in range(4, 28, 3))
    run = [sys.executable, "-c", COUNT.format(setup="choose_device('cpu')")]
    assert int(subprocess.run(run, capture_output=True, text=True, check=True).stdout) < pages / 10
