"""Measures xr and its peers on one machine and prints the tables of docs/RESULTS.md.

    python reference/compare.py --weights target/weights > tables.md

Each round runs `cargo bench`, the bench_*.py scripts and candle one after the other, so that a machine
that gets slower does so for all of them; a cell is the median of the rounds, with the lowest and the
highest in brackets. All get the same pictures, captions and number of threads, and the same glibc
settings: without them an allocation as large as a layer's output goes back to the system after each
use, which costs everyone time. Peak memory is that of a process that does nothing else. Each
measurement is kept in target/compare/measurements.jsonl.

With `--features tch` the libraries of the PyTorch that runs this are used: see CONTRIBUTING.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
BENCHES = ["encode", "train_step", "search"]
PEERS = ["bench_encode.py", "bench_heads.py", "bench_training.py", "bench_search.py"]
MEMORY_WORKS = {
    "lite0/16": ["xr, flex", "pytorch", "onnxruntime"],
    "minilm/64x25": ["xr, flex", "pytorch", "onnxruntime"],
}
DEVICES = ["flex", "libtorch"]
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="what fetch_weights.sh made")
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs (generated if absent)")
    parser.add_argument("--captions", type=Path, help="text file with a caption a line")
    parser.add_argument("--features", default="", help="cargo features besides the default ones")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="time for each measurement")
    return parser.parse_args()


def generated_pictures(folder):
    """64 JPEGs of the size photographs in data sets often have: soft blots with a little noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(64):
        blots = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        blots = np.asarray(blots.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = blots + rng.integers(-8, 9, blots.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.jpg", quality=90)
    return folder


def libtorch():
    """What building and running against the libraries of this Python's PyTorch needs."""
    import torch

    libraries = str(Path(torch.__file__).parent / "lib")
    return {
        "LIBTORCH_USE_PYTORCH": "1",
        "LIBTORCH_BYPASS_VERSION_CHECK": "1",
        "LD_LIBRARY_PATH": libraries,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def environment(threads, args):
    """A program's environment: threads, allocator and what to read."""
    ours = {"XR_WEIGHTS": args.weights, "XR_PICTURES": args.pictures, "XR_CAPTIONS": args.captions}
    ours = {name: str(path.resolve()) for name, path in ours.items() if path}
    limits = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    tch = libtorch() if "tch" in args.features else {}
    return os.environ | ours | limits | ALLOCATOR | tch


def build_benches(args):
    """Our benches' programs, by name."""
    benches = [word for name in BENCHES for word in ["--bench", name]]
    features = ["--features", args.features] if args.features else []
    command = ["cargo", "bench", "--workspace", "--no-run", "--message-format", "json"]
    command += [*features, *benches]
    env = environment(args.threads[-1], args)
    done = subprocess.run(command, cwd=HERE.parent, env=env, check=True, stdout=subprocess.PIPE)
    messages = map(json.loads, done.stdout.splitlines())
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def build_candle():
    """The program of the other Rust peer."""
    folder = HERE / "candle"
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", folder / "target"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "target/release/bench-candle"


def ours(args, threads, target, programs):
    """Runs our benches and yields what criterion noted."""
    start = time.time()
    quick = ["--measurement-time", str(args.seconds), "--warm-up-time", "1", "--noplot"]
    for name in BENCHES:
        command = [programs[name], "--bench", *quick]
        env = environment(threads, args) | {"CARGO_TARGET_DIR": str(target)}
        subprocess.run(command, cwd=HERE.parent, env=env, check=True, stdout=sys.stderr)
    for path in target.glob("criterion/**/new/estimates.json"):
        if path.stat().st_mtime < start:
            continue
        seconds = json.loads(path.read_text())["median"]["point_estimate"] / 1e9
        bench = json.loads((path.parent / "benchmark.json").read_text())
        rate = bench["throughput"]["Elements"] / seconds
        yield dict(zip(["work", "engine"], work_and_engine(bench)), value=rate)


def work_and_engine(bench):
    """A benchmark's id ends with the device, where it needs one."""
    *work, last = bench["full_id"].split("/")
    if last in DEVICES:
        return "/".join(work), f"xr, {last}"
    return bench["full_id"], "xr"


def peer(args, script):
    command = [sys.executable, "-W", "ignore", str(HERE / script), "--seconds", str(args.seconds)]
    if script == "bench_encode.py":
        command += ["--weights", args.weights, "--pictures", args.pictures]
        command += ["--captions", args.captions] if args.captions else []
    return command


def peers(args, threads, candle):
    for command in [peer(args, script) for script in PEERS] + [[candle, str(args.seconds)]]:
        lines = subprocess.run(
            command, env=environment(threads, args), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        yield from map(json.loads, lines.splitlines())


def memory(args, programs):
    """Yields work, engine and the peak memory in MiB of a process that does that alone."""
    for work, engines in MEMORY_WORKS.items():
        for engine in engines:
            command = peer(args, "bench_encode.py") + ["--only", f"{work}/{engine}"]
            if engine == "xr, flex":
                command = [programs["encode"], "--bench", f"^{work}/flex$", "--profile-time", "2"]
            child = subprocess.Popen(
                command, env=environment(args.threads[-1], args), stdout=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, command
            yield work, engine, usage.ru_maxrss / 1024


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ")[1]
    return platform.processor()


def number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def cell(values):
    if not values:
        return "–"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def table(measured, threads):
    """One row for each work and engine, a column for each number of threads."""
    columns = ["1 thread" if n == 1 else f"{n} threads" for n in threads]
    yield "| items a second | engine | " + " | ".join(columns) + " |"
    yield "|---|---|" + "---|" * len(threads)
    for work, engine in sorted({(m["work"], m["engine"]) for m in measured}):
        values = defaultdict(list)
        for m in measured:
            if (m["work"], m["engine"]) == (work, engine):
                values[m["threads"]].append(m["value"])
        yield f"| {work} | {engine} | " + " | ".join(cell(values[n]) for n in threads) + " |"


def main():
    args = options()
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(metadata, cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout
    target = Path(json.loads(metadata)["target_directory"])
    folder = target / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    args.pictures = args.pictures or generated_pictures(folder / "pictures")
    programs, candle = build_benches(args), build_candle()
    measured = []
    with open(folder / "measurements.jsonl", "w") as log:
        for round in range(args.rounds):
            for threads in args.threads:
                for measure in [ours(args, threads, target, programs), peers(args, threads, candle)]:
                    for line in measure:
                        line |= dict(threads=threads, round=round)
                        print(json.dumps(line), file=log, flush=True)
                        measured.append(line)
    print(f"{processor()}; the median of {args.rounds} rounds (lowest–highest).\n")
    print("\n".join(table(measured, args.threads)))
    print("\n| peak memory, MiB | engine | |\n|---|---|---|")
    for work, engine, mebibytes in memory(args, programs):
        print(f"| {work} | {engine} | {mebibytes:,.0f} |")


if __name__ == "__main__":
    main()
