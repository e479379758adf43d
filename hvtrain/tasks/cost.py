"""What encoding a cube costs: weights, multiplications, seconds, memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from hvlabel.config import StudentSettings
from hvtrain.backbones.table import backbone_row

RANGE_NM = (450.0, 950.0)  # of the made-up camera's band centres: every backbone reads them
MIB = 2**20
PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Asked:
    """One measurement.

    bf16    : matrix products in bfloat16
    repeats : after a first encoding; the fastest counts
    """

    settings: StudentSettings
    n_bands: int
    bf16: bool = False
    compile: bool = False
    threads: int = 2
    repeats: int = 3


@dataclass(frozen=True)
class Cost:
    """What it came to.

    parameters : of the backbone, without a prompt decoder
    gmac       : 1e9 multiplications with additions, of matrix products and convolutions
    seconds    : of one encoding, the fastest
    peak_mib   : memory of the first encoding above network and input, of the GPU or of the process, MiB
    """

    n_bands: int
    parameters: int
    gmac: float
    seconds: float
    peak_mib: float


def costs(asked: Sequence[Asked]) -> list[Cost]:
    """Each measured in a process of its own: what an earlier one left in memory would hide what the next one takes.

    ConfigError and BandError of what a backbone cannot be.
    """
    for one in asked:
        backbone_row(one.settings.backbone)  # before a process is started for it
    context = multiprocessing.get_context("spawn")
    results = []
    for one in asked:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            results.append(pool.submit(cost, one).result())
    return results


@torch.inference_mode()
def cost(asked: Asked) -> Cost:
    """The same in this process, whose memory should be fresh."""
    torch.set_num_threads(asked.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side_px = asked.settings.crop_px
    row = backbone_row(asked.settings.backbone)
    network = row.build(asked.settings).eval().to(device)
    if asked.compile:
        network.compile_blocks()
    cube = torch.rand(1, asked.n_bands, side_px, side_px, device=device)
    wavelengths_nm = torch.linspace(*RANGE_NM, asked.n_bands).tolist()

    def encode(*, bf16: bool = asked.bf16) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            network.encode(cube, wavelengths_nm, [1.0])
        if device.type == "cuda":
            torch.cuda.synchronize()

    peak_mib = _peak_mib(encode, device)
    seconds = min(_seconds(encode) for _ in range(asked.repeats))
    with FlopCounterMode(display=False) as counter:
        encode(bf16=False)  # as many in either; the counter takes sums of products apart before autocast sees them
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    gmac = counter.get_total_flops() / 2e9  # a multiplication with its addition is two operations
    return Cost(asked.n_bands, n_parameters, gmac, seconds, peak_mib)


def cost_table(results: Sequence[Cost]) -> list[list[str]]:
    """Header and rows as text."""
    rows = [["bands", "M parameters", "GMAC", "seconds", "peak MiB"]]
    for result in results:
        numbers = [f"{result.parameters / 1e6:.1f}", f"{result.gmac:.1f}", f"{result.seconds:.3g}"]
        rows.append([str(result.n_bands), *numbers, f"{result.peak_mib:.0f}"])
    return rows


def _seconds(work: Callable[[], None]) -> float:
    begin_s = time.monotonic()
    work()
    return time.monotonic() - begin_s


def _peak_mib(work: Callable[[], None], device: torch.device) -> float:
    """Memory that some work takes at its most, above what was taken before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    (PROCESS / "clear_refs").write_text("5")  # Linux forgets the process's highest memory so far
    before_mib = _memory_mib("VmRSS")
    work()
    return max(0.0, _memory_mib("VmHWM") - before_mib)  # what was freed before may be taken again


def _memory_mib(name: str) -> float:
    """An entry of the process's status, which counts KiB."""
    lines = (PROCESS / "status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
