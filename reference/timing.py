"""What the bench_*.py scripts share: how long to measure, and the line a measurement prints.

The number of threads is OMP_NUM_THREADS, which PyTorch, NumPy's BLAS and FAISS heed by themselves. glibc
gets the settings that `xr::tune_allocator` gives it for ours.
"""

import argparse
import json
import os
import statistics
import sys
import time

THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count())))

# What src/allocator.rs sets: without it an allocation as large as a layer's output goes back to the
# system after each use, which costs everyone time. glibc reads a size_t: its largest value is never.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(2**64 - 1),
}


def arguments(doc):
    """The options every script has; a script adds its own."""
    tune_allocator()
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time spent on each measurement")
    return parser


def tune_allocator():
    """Starts the script anew with what it lacks of ALLOCATOR: glibc reads it only then."""
    if not ALLOCATOR.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], ALLOCATOR | os.environ)


def seconds_per_call(call, seconds):
    """Median time of one `call`, of at least three, after two that don't count."""
    call(), call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(work, engine, items, unit, call, seconds):
    """Measures `call`, which handles `items`, and prints items a second as one line of JSON."""
    value = items / seconds_per_call(call, seconds)
    line = dict(work=work, engine=engine, threads=THREADS, value=round(value, 2), unit=unit)
    print(json.dumps(line), flush=True)
