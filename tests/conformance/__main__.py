"""The command line: all rows in worker processes, the table, the verdict."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import torch  # noqa: E402
import triton  # noqa: E402

from conformance import table  # noqa: E402
from fp4guard.files import write_atomically  # noqa: E402


def main() -> int:
    """Print the table and what is wrong; with `--write`, keep it."""
    parser = argparse.ArgumentParser(prog="python tests/conformance", description=__doc__)
    write = "write the table into FOLDER (default: beside this file), named by the GPU"
    parser.add_argument("--write", metavar="FOLDER", nargs="?", const=HERE, type=Path, help=write)
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains TEXT")
    parser.add_argument("--simulate", action="store_true", help="the simulator's part alone; needs no GPU")
    parser.add_argument("--jobs", type=int, default=min(14, os.cpu_count() or 1), help="worker processes")
    parser.add_argument("--keep", metavar="FILE", type=Path, help="pickle the lanes that differ")
    options = parser.parse_args()
    if not options.simulate and not torch.cuda.is_available():
        print("No CUDA GPU here: nothing to compare the simulator with (--simulate runs its part).", file=sys.stderr)
        return 2
    chosen = [i for i, row in enumerate(table.all_rows()) if options.only in row.name]
    work = table.simulate if options.simulate else table.compare_row
    # Compiling takes most of the time, and a process that a fault kills takes no other with it.
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        outcomes = pool.map(work, chosen, chunksize=4)
    if options.keep:
        options.keep.write_bytes(pickle.dumps({o.name: o for o in outcomes if o.differing or o.error}))
    wrong = [outcome for outcome in outcomes if not outcome.right]
    if options.simulate:
        print(f"{len(outcomes)} rows simulated, {len(wrong)} wrong")
    else:
        text = table.rendered(header(), [table.all_rows()[i] for i in chosen], outcomes)
        print(text)
        if options.write:
            name = torch.cuda.get_device_name().split()[-1]
            write_atomically(options.write / f"{name}.md", text)
    for outcome in wrong:
        print(f"WRONG {outcome.name}: {outcome.error or f'{outcome.beyond} values, {outcome.example}'}")
    return 1 if wrong else 0


def header() -> dict[str, str]:
    """Where and when."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return {
        "Date": datetime.now(timezone.utc).date().isoformat(),
        "GPU": torch.cuda.get_device_name(),
        "Driver": driver or "unknown",
        "CUDA": str(torch.version.cuda),
        "torch": torch.__version__,
        "Triton": triton.__version__,
        "Python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
