"""Converting an ENVI cube: time against copying the file, and peak memory of the process."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledger
import numpy as np

SHAPE = (1024, 128, 1024)  # BIL: rows, bands, columns; 256 MiB of uint16


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        smooth = np.cumsum(rng.normal(0, 3, SHAPE[:2])[..., None] + rng.normal(0, 3, (1, 1, SHAPE[2])), axis=1)
        (np.abs(smooth) * 20 + rng.integers(0, 30, SHAPE)).astype("<u2").tofile(folder / "a.raw")
        rows, bands, columns = SHAPE
        (folder / "a.hdr").write_text(
            f"ENVI\nsamples = {columns}\nlines = {rows}\nbands = {bands}\ndata type = 12\ninterleave = bil\n"
            f"wavelength = {{{', '.join(str(400 + 4 * k) for k in range(bands))}}}\n"
        )
        start = time.perf_counter()
        subprocess.run(["cp", folder / "a.raw", folder / "copy.raw"], check=True)
        subprocess.run(["sync", folder / "copy.raw"], check=True)
        copy_s = time.perf_counter() - start

        code = (
            "import re, sys, time; from pathlib import Path; from hvlabel.config import *; from hvlabel.stages.convert import convert_file\n"
            "start = time.perf_counter(); convert_file(Path(sys.argv[1]), Descriptor(container='envi'), CubeSettings(shard_mib=int(sys.argv[3])), Path(sys.argv[2]))\n"
            "print(time.perf_counter() - start, int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024)"
        )
        size_mib = (folder / "a.raw").stat().st_size / 2**20
        for shard_mib in (16, 64, 256):
            out = folder / f"{shard_mib}.zarr"
            done = subprocess.run(
                [sys.executable, "-c", code, folder / "a.hdr", out, str(shard_mib)],
                capture_output=True,
                text=True,
                check=True,
            )
            ours_s, peak_mib = map(float, done.stdout.split())
            stored = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**20
            ledger.append(
                "convert",
                f"ENVI BIL uint16 {size_mib:.0f} MiB, shard_mib {shard_mib}",
                ours_s,
                "cp and sync of the file",
                copy_s,
                f"peak memory {peak_mib:.0f} MiB, {stored:.0f} MiB on disk",
            )


if __name__ == "__main__":
    main()
