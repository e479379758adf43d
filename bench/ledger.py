"""One row per measurement: what, on what, ours against a peer in the same run, and the quality beside it."""

import csv
import os
import platform
import subprocess
from datetime import date
from pathlib import Path

LEDGER = Path(__file__).resolve().parent / "ledger.csv"
COLUMNS = ["date", "commit", "machine", "bench", "case", "ours_s", "peer", "peer_s", "peer_over_ours", "quality"]


def append(bench: str, case: str, ours_s: float, peer: str, peer_s: float, quality: str) -> None:
    """Append a row and print it."""
    root = LEDGER.parent.parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    row = [
        date.today().isoformat(),
        commit,
        machine,
        bench,
        case,
        f"{ours_s:.3f}",
        peer,
        f"{peer_s:.3f}",
        f"{peer_s / ours_s:.2f}",
        quality,
    ]
    fresh = not LEDGER.exists()
    with LEDGER.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        writer.writerow(row)
    print(dict(zip(COLUMNS, row, strict=True)))
