"""What the client scripts share: each check is a line `pass NAME` or `FAIL NAME: WHY` for the harness to count."""

import itertools
import sys
import time
import traceback

COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]
ACKS = [0, 1, "all"]
HEADERS = [("first", b"1"), ("empty", b""), ("first", b"again")]
LARGE = bytes(itertools.islice(itertools.cycle(range(251)), 900_000))
PATIENCE_S = 30

failed = 0


def check(name, attempt):
    """Runs one check; a check that returns has passed."""
    global failed
    try:
        attempt()
        print("pass", name, flush=True)
    except Exception as error:  # noqa: BLE001: whatever a client raises is what the check found
        failed += 1
        traceback.print_exc(file=sys.stderr)
        print(f"FAIL {name}: {type(error).__name__}: {error}".replace("\n", " ")[:500], flush=True)


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"found {str(found)[:200]}, wanted {str(wanted)[:200]}")


def until(what, ask):
    """Asks until there is an answer that is not None."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = ask()
        if answer is not None:
            return answer
    raise TimeoutError(f"no {what} within {PATIENCE_S} s")


def end():
    """Says that every check had its turn."""
    print("end", flush=True)
    sys.exit(1 if failed else 0)
