"""Feeds mutated files to every reader for some minutes: `python tests/fuzz/fuzz.py --minutes 5`.

What breaks a reader is kept in tests/fuzz/findings/TARGET/, where the tests read it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from fuzz_targets import TARGETS
from fuzzing import Finding, Fuzzer

FINDINGS = Path(__file__).with_name("findings")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long, all targets together")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = options.target or list(TARGETS)
    seconds = 60 * options.minutes / len(names)
    found = tried = 0
    for name in names:
        seed = options.seed
        if seed is None:
            seed = secrets.randbits(32)
        with tempfile.TemporaryDirectory(prefix="refdepth-fuzz-") as folder:
            fuzzer = Fuzzer(TARGETS[name], Path(folder), seed)
            try:
                fuzzer.run(seconds=seconds)
                print(f"{name:11} {fuzzer.tried:7} inputs, seed {seed}", flush=True)
            except Finding as finding:
                digest = hashlib.sha256(fuzzer.last).hexdigest()[:12]
                path = FINDINGS / name / digest
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fuzzer.last)
                print(f"{name:11} after {fuzzer.tried} inputs: {finding}\n  kept as {path}")
                found += 1
            tried += fuzzer.tried
    print(f"{tried} inputs, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
