"""What the bench_*.py scripts share: how long to measure, and the line a measurement prints.

The number of threads is OMP_NUM_THREADS, which PyTorch, NumPy's BLAS and FAISS heed by themselves.
"""

import argparse
import json
import os
import statistics
import time

THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count())))


def arguments(doc):
    """The options every script has; a script adds its own."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time spent on each measurement")
    return parser


def seconds_per_call(call, seconds):
    """Median time of one `call`, after two that don't count."""
    call(), call()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def report(work, engine, items, unit, call, seconds):
    """Measures `call`, which handles `items`, and prints items a second as one line of JSON."""
    value = items / seconds_per_call(call, seconds)
    line = dict(work=work, engine=engine, threads=THREADS, value=round(value, 2), unit=unit)
    print(json.dumps(line), flush=True)
