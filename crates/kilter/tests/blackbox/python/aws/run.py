"""Runs every test_*.py beside this file against the endpoint that the environment names, in one process.

usage: run.py [service …]      only test_<service>.py

With every service, `operations.py` says at the end which operation no test has driven.

A module has functions `test_…()`, which assert. They run in the order of the file; what one makes, a later one may use.
`support.py` has clients and helpers. Prints a line per test; exits 1 when one failed.
"""

import importlib
import sys
import time
import traceback
from pathlib import Path

import operations


def main():
    here = Path(__file__).parent
    wanted = sys.argv[1:]
    names = sorted(path.stem for path in here.glob("test_*.py"))
    names = [name for name in names if not wanted or name.removeprefix("test_") in wanted]
    if not names:
        print("no test module of these names:", *wanted)
        return 1
    passed, failed = 0, []
    operations.watch()
    for name in names if wanted else [*names, "operations"]:
        module = importlib.import_module(name)
        tests = [(key, test) for key, test in vars(module).items() if key.startswith("test_") and callable(test)]
        for key, test in tests:
            began = time.monotonic()
            operations.test = f"{name.removeprefix('test_')}.{key}"
            try:
                test()
                passed += 1
                print(f"ok {name}.{key} {time.monotonic() - began:.2f}s", flush=True)
            except Exception:
                failed.append(f"{name}.{key}")
                print(f"FAILED {name}.{key}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {len(failed)} failed", *failed)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
