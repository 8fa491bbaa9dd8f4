"""Measures xr and its peers on one machine and prints the tables of docs/RESULTS.md.

    python reference/compare.py --weights target/weights > tables.md
    python reference/compare.py --weights target/weights --only train --threads 2    # a part of it

Each round runs, for each group in turn, the benches of `cargo bench` and then the bench_*.py scripts
and candle, so that a machine that gets slower does so for all of them; a cell is the median of the
rounds, with the lowest and the highest in brackets. All get the same pictures, captions and number of
threads, and the same glibc settings (`timing.ALLOCATOR`). Peak memory is that of a process that does
nothing else. Each measurement is kept in target/compare/GROUPS.jsonl.

With `--features tch` the libraries of the PyTorch that runs this are used: see CONTRIBUTING.md.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from timing import ALLOCATOR

HERE = Path(__file__).resolve().parent
CANDLE = HERE / "candle/target/release/bench-candle"
GROUPS = {
    "encode": {
        "items": "pictures or captions",
        "benches": ["encode"],
        "peers": ["bench_encode.py", "candle"],
    },
    "train": {
        "items": "steps or pairs",
        "benches": ["train_step", "train_pairs"],
        "peers": ["bench_heads.py", "bench_training.py", "bench_pairs.py"],
    },
    "search": {"items": "queries", "benches": ["search"], "peers": ["bench_search.py"]},
}
# Group -> our bench, the peers' script, and what of both is measured for peak memory.
MEMORY = {
    "encode": (
        "encode",
        "bench_encode.py",
        ["lite0/16", "minilm/64x25"],
        ["xr, flex", "pytorch", "onnxruntime"],
    ),
    "train": (
        "train_pairs",
        "bench_pairs.py",
        ["pairs/lite0+minilm-64", "pairs/lite0+minilm-128", "pairs/resnet18+minilm-64"],
        ["xr, flex", "pytorch", "pytorch, channels last"],
    ),
}
DEVICES = ["flex", "libtorch"]


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="what fetch_weights.sh made")
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs (generated if absent)")
    parser.add_argument("--captions", type=Path, help="text file with a caption a line")
    parser.add_argument("--features", default="", help="cargo features besides the default ones")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups to run")
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
    """A program's environment: threads and allocator."""
    limits = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    tch = libtorch() if "tch" in args.features else {}
    return os.environ | limits | ALLOCATOR | tch


def build_benches(args):
    """Our benches' programs, by name."""
    names = [name for group in args.only for name in GROUPS[group]["benches"]]
    benches = [word for name in names for word in ["--bench", name]]
    features = ["--features", args.features] if args.features else []
    command = ["cargo", "bench", "--workspace", "--no-run", "--message-format", "json"]
    command += [*features, *benches]
    env = os.environ | (libtorch() if "tch" in args.features else {})
    done = subprocess.run(command, cwd=HERE.parent, env=env, check=True, stdout=subprocess.PIPE)
    messages = map(json.loads, done.stdout.splitlines())
    return {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}


def build_candle():
    """The program of the other Rust peer."""
    folder = HERE / "candle"
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", folder / "target"]
    subprocess.run(command, cwd=folder, check=True)


def ours(args, group, threads, target, programs):
    """Runs our benches and yields what criterion noted."""
    start = time.time()
    quick = ["--measurement-time", str(args.seconds), "--warm-up-time", "1", "--noplot"]
    inputs = {"XR_WEIGHTS": args.weights, "XR_PICTURES": args.pictures, "XR_CAPTIONS": args.captions}
    inputs = {name: str(path.resolve()) for name, path in inputs.items() if path}
    env = environment(threads, args) | inputs | {"CARGO_TARGET_DIR": str(target)}
    for name in GROUPS[group]["benches"]:
        command = [programs[name], "--bench", *quick]
        subprocess.run(command, cwd=HERE.parent, env=env, check=True, stdout=sys.stderr)
    for path in target.glob("criterion/**/new/estimates.json"):
        if path.stat().st_mtime < start:
            continue
        seconds = json.loads(path.read_text())["median"]["point_estimate"] / 1e9
        bench = json.loads((path.parent / "benchmark.json").read_text())
        rate = bench["throughput"]["Elements"] / seconds
        yield dict(zip(["work", "engine"], work_and_engine(bench)), value=rate)


def work_and_engine(bench):
    """A benchmark's id ends with the device, where it needs one, and the precision if it isn't f32."""
    *work, last = bench["full_id"].split("/")
    if last.split(", ")[0] in DEVICES:
        return "/".join(work), f"xr, {last}"
    return bench["full_id"], "xr"


def peer(args, script):
    if script == "candle":
        return [CANDLE, str(args.seconds)]
    command = [sys.executable, "-W", "ignore", str(HERE / script), "--seconds", str(args.seconds)]
    if script == "bench_encode.py":
        command += ["--weights", args.weights, "--pictures", args.pictures]
        command += ["--captions", args.captions] if args.captions else []
    return command


def peers(args, group, threads):
    for script in GROUPS[group]["peers"]:
        lines = subprocess.run(
            peer(args, script), env=environment(threads, args), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        yield from map(json.loads, lines.splitlines())


def memory(args, group, threads, programs):
    """Yields the peak memory of processes that do one thing alone."""
    bench, script, works, engines = MEMORY[group]
    env = environment(threads, args) | {"XR_DEVICE": "flex"}
    for work in works:
        for engine in engines:
            command = peer(args, script) + ["--only", f"{work}/{engine}"]
            if engine == "xr, flex":
                # Long enough for a second step, which has the optimizer's state from the beginning.
                command = [programs[bench], "--bench", "--exact", f"{work}/flex", "--profile-time", "10"]
            child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, command
            yield dict(work=work, engine=engine, value=usage.ru_maxrss / 1024, unit="MiB")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ")[1]
    return platform.processor()


def number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def cell(values):
    if len(values) < 2:
        return "".join(map(number, values))
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def ratios(medians, best):
    """xr's median, on Flex, by the best peer's: in f32, and in bf16 where both have it."""
    for precision in ["", "bf16 "]:
        alike = {e: median for e, median in medians.items() if ("bf16" in e) == (precision != "")}
        mine = [median for e, median in alike.items() if e.startswith("xr") and "libtorch" not in e]
        theirs = [median for e, median in alike.items() if not e.startswith("xr")]
        if mine and theirs:
            yield f"{precision}{mine[0] / best(theirs):.2f}"


def table(title, measured, best=max):
    """A row for each work, a column for each engine, and what xr makes of the best peer."""
    rows = defaultdict(lambda: defaultdict(list))
    for m in measured:
        rows[m["work"]][m["engine"]].append(m["value"])
    engines = sorted({m["engine"] for m in measured}, key=lambda e: (not e.startswith("xr"), e))
    yield f"| {title} | " + " | ".join(engines) + " | xr / best peer |"
    yield "|---|" + "---|" * (len(engines) + 1)
    for work in sorted(rows, key=by_numbers):
        medians = {engine: statistics.median(values) for engine, values in rows[work].items()}
        cells = [work, *(cell(rows[work][e]) for e in engines), ", ".join(ratios(medians, best))]
        yield "| " + " | ".join(cells) + " |"


def by_numbers(work):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", work)]


def main():
    args = options()
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(metadata, cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout
    target = Path(json.loads(metadata)["target_directory"])
    folder = target / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    args.pictures = args.pictures or generated_pictures(folder / "pictures")
    programs = build_benches(args)
    if "encode" in args.only:
        build_candle()
    measured, held = [], []
    with open(folder / f"{'-'.join(args.only)}.jsonl", "w") as log:

        def note(lines, into, **more):
            for line in lines:
                into.append(line | more)
                print(json.dumps(into[-1]), file=log, flush=True)

        for round in range(args.rounds):
            for threads in args.threads:
                for group in args.only:
                    more = dict(group=group, threads=threads, round=round)
                    note(ours(args, group, threads, target, programs), measured, **more)
                    note(peers(args, group, threads), measured, **more)
        print(f"{processor()}; the median of {args.rounds} rounds (lowest–highest).")
        for group in args.only:
            for threads in args.threads:
                lines = [m for m in measured if (m["group"], m["threads"]) == (group, threads)]
                title = f"{GROUPS[group]['items']} a second, {counted(threads)}"
                print("", *table(title, lines), sep="\n", flush=True)
        threads = args.threads[-1]
        for group in filter(MEMORY.get, args.only):
            note(memory(args, group, threads, programs), held, group=group, threads=threads)
    if held:
        print("", *table(f"peak memory, MiB, {counted(threads)}", held, min), sep="\n")
        if "encode" in args.only:
            print("\nThe process of ONNX Runtime also holds PyTorch, which exports its model.")


def counted(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


if __name__ == "__main__":
    main()
