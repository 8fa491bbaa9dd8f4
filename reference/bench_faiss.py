"""FAISS through xr and the wheel of faiss-cpu, on the very same index files.

    python reference/bench_faiss.py --out target/bench_faiss

Makes the files (`cargo bench --bench faiss`), and then measures both in turn, one query after the other on
one thread, for several rounds. Both search the same graphs and lists, so they find the same. Prints a table of
microseconds a query: the median of the rounds, and all of them. The wheel's figures include Python's call,
which the row of the tiny index shows.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

# Before FAISS reads it.
os.environ["OMP_NUM_THREADS"] = "1"

import faiss
import numpy as np

K = 10
HERE = Path(__file__).resolve().parent
NAMES = {"nprobe": "nprobe", "ef_search": "efSearch"}


def ours(args, *more):
    command = ["cargo", "bench", "--quiet", "--bench", "faiss", "--features", args.features, "--"]
    command += ["--out", str(args.out.resolve()), "--seconds", str(args.seconds), *more]
    lines = subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {(line["index"], line["effort"]): line["us"] for line in map(json.loads, lines.splitlines())}


def theirs(args, index, queries, factory, effort):
    if effort != "default":
        name, value = effort.split("=")
        faiss.ParameterSpace().set_index_parameter(index, NAMES[name], int(value))
    rows = np.ones((1, index.d), np.float32) if index.d != queries.shape[1] else queries
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        for _ in range(-(-len(queries) // len(rows))):
            for row in range(len(rows)):
                index.search(rows[row : row + 1], K)
                count += 1
    return (time.perf_counter() - start) * 1e6 / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--features", default="faiss", help="cargo features of ours")
    args = parser.parse_args()
    if not (args.out / "queries.f32").exists():
        # Learning is not what is measured.
        os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())
        ours(args, "--make", "--dim", str(args.dim))
        os.environ["OMP_NUM_THREADS"] = "1"
    queries = np.fromfile(args.out / "queries.f32", np.float32).reshape(-1, args.dim)
    indexes = {path.stem: faiss.read_index(str(path)) for path in args.out.glob("*.index")}
    rounds = []
    for _ in range(args.rounds):
        mine = ours(args, "--dim", str(args.dim))
        rounds.append({key: (us, theirs(args, indexes[key[0]], queries, *key)) for key, us in mine.items()})
    print("| index | effort | xr | faiss-cpu | ratio | rounds |\n|---|---|---|---|---|---|")
    for key in rounds[0]:
        pairs = [measured[key] for measured in rounds]
        a, b = (statistics.median(side) for side in zip(*pairs))
        every = ", ".join(f"{a:.1f}/{b:.1f}" for a, b in pairs)
        print(f"| {key[0]} | {key[1]} | {a:.1f} | {b:.1f} | {a / b:.2f} | {every} |")


if __name__ == "__main__":
    main()
