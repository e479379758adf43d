"""What a process sets up for its device."""

import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from hvlabel.models.device import choose_device
{setup}
def pages():
    buffers = [torch.ones(3 << 20) for _ in range(4)]  # 12 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    before = pages()
print(pages() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells of the GNU C library's allocator")
def test_large_tensors_take_the_place_of_freed_ones_on_a_cpu():
    fresh, kept = (
        int(
            subprocess.run(
                [sys.executable, "-c", COUNT.format(setup=s)], capture_output=True, text=True, check=True
            ).stdout
        )
        for s in ("", "choose_device('cpu')")
    )
    assert fresh > 10_000  # of 12,288 pages
    assert kept < 1_000
