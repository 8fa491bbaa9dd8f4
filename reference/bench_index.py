"""Recall against speed: xr's indexes, FAISS, hnswlib and usearch on the very same vectors and queries.

    python reference/bench_index.py --out target/bench_index              # 100,000 x 512
    python reference/bench_index.py --out target/bench_index --rows 10000 --seconds 0.2

Runs `cargo bench --bench recall`, which makes the vectors and measures ours; then measures the others and
writes `report.md` and `report.png` into the folder. Recall is the share of the ten true neighbours found,
for pictures as queries and for texts, which lie where no picture is. Speed is that of one query after
the other on one thread; every graph is built with 32 links and 200 candidates, which is not any library's
default. What follows `--` goes to the bench: `-- --pictures A --texts B` takes real embeddings.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

# Before NumPy and FAISS read it: speed is that of one thread.
os.environ["OMP_NUM_THREADS"] = "1"

import faiss
import hnswlib
import numpy as np
from usearch.index import Index, search as usearch_exact

K, LINKS, CANDIDATES = 10, 32, 200
NPROBES = [1, 2, 4, 8, 16, 32, 64, 128]
EFS = [16, 32, 64, 128, 256, 512]
HERE = Path(__file__).resolve().parent


def options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    parser.add_argument("--features", default="faiss", help="cargo features of ours")
    parser.add_argument("bench", nargs="*", help="more for the bench")
    return parser.parse_args()


def ours(args):
    """Makes the vectors and measures xr."""
    command = ["cargo", "bench", "--quiet", "--bench", "recall"]
    command += ["--features", args.features] if args.features else []
    command += ["--", "--out", args.out.resolve(), "--rows", args.rows, "--dim", args.dim]
    command += ["--seconds", args.seconds, *args.bench]
    subprocess.run(list(map(str, command)), cwd=HERE.parent, check=True, stdout=sys.stderr)
    report = json.loads((args.out / "xr.json").read_text())
    for m in report["measured"]:
        effort = ",".join(f"{name}={value}" for name, value in m["effort"].items()) or "default"
        recall = {r["kind"]: r["mean"] for r in m["recall"]}
        yield dict(engine="xr", index=m["spec"], effort=effort, qps=m["qps_one"], **recall)


class Bench:
    def __init__(self, folder, dim, seconds):
        read = lambda name: np.fromfile(folder / f"{name}.f32", np.float32).reshape(-1, dim)
        self.gallery = read("gallery")
        self.queries = {kind: read(kind) for kind in ["image", "text"]}
        self.seconds = seconds
        flat = faiss.IndexFlatIP(dim)
        flat.add(self.gallery)
        self.truth = {kind: flat.search(rows, K)[1] for kind, rows in self.queries.items()}

    def measure(self, engine, index, effort, search):
        """One index at one effort; `search` takes `[queries, dim]` and returns ids."""
        recall = {}
        for kind, rows in self.queries.items():
            pairs = zip(search(rows), self.truth[kind])
            recall[kind] = float(np.mean([len(np.intersect1d(a, b)) / K for a, b in pairs]))
        qps = self.speed(search)
        line = dict(engine=engine, index=index, effort=effort, qps=qps, **recall)
        print(json.dumps(line), file=sys.stderr, flush=True)
        return line

    def speed(self, search):
        rows = np.concatenate(list(self.queries.values()))
        start, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < self.seconds:
            search(rows[count % len(rows)][None])
            count += 1
        return count / passed

    def faiss_indexes(self):
        rows, dim = self.gallery.shape
        lists = min(1 << int(np.ceil(np.log2(4 * rows**0.5))), rows // 39)
        hnsw = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        yield "Flat", faiss.IndexFlatIP(dim), [("default", lambda index: None)]
        yield f"HNSW{LINKS}", hnsw, [
            (f"ef_search={ef}", lambda index, ef=ef: setattr(index.hnsw, "efSearch", ef)) for ef in EFS
        ]
        for codes in ["Flat", "SQ8", "PQ64x4fs,RFlat"]:
            name = f"IVF{lists},{codes}"
            index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT)
            space = faiss.ParameterSpace()
            k_factor = 16 if "RFlat" in codes else 1

            def probe(index, n, k_factor=k_factor):
                space.set_index_parameter(index, "nprobe", n)
                if k_factor > 1:
                    index.k_factor = k_factor

            rerank = f",rerank={k_factor}" if k_factor > 1 else ""
            yield name, index, [
                (f"nprobe={n}{rerank}", lambda index, n=n, probe=probe: probe(index, n)) for n in NPROBES
            ]

    def faiss(self):
        for name, index, efforts in self.faiss_indexes():
            # Learning is not what is measured.
            faiss.omp_set_num_threads(os.cpu_count())
            index.train(self.gallery)
            index.add(self.gallery)
            faiss.omp_set_num_threads(1)
            for effort, apply in efforts:
                apply(index)
                yield self.measure("faiss-cpu", name, effort, lambda x: index.search(x, K)[1])

    def hnswlib(self):
        rows, dim = self.gallery.shape
        index = hnswlib.Index("ip", dim)
        index.init_index(rows, ef_construction=CANDIDATES, M=LINKS, random_seed=0)
        index.add_items(self.gallery, num_threads=os.cpu_count())
        index.set_num_threads(1)
        for ef in EFS:
            index.set_ef(ef)
            name = f"HNSW M={LINKS}"
            yield self.measure("hnswlib", name, f"ef={ef}", lambda x: index.knn_query(x, K)[0])

    def usearch(self):
        dim = self.gallery.shape[1]
        graph = dict(ndim=dim, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=CANDIDATES)
        index = Index(**graph)
        index.add(np.arange(len(self.gallery)), self.gallery, threads=os.cpu_count())
        for ef in EFS:
            index.expansion_search = ef
            find = lambda x: np.atleast_2d(index.search(x, K, threads=1).keys)
            yield self.measure("usearch", f"HNSW M={LINKS}", f"ef={ef}", find)
        exact = lambda x: np.atleast_2d(usearch_exact(self.gallery, x, K, "ip", exact=True, threads=1).keys)
        yield self.measure("usearch", "exact", "default", exact)


def table(measured):
    yield "| engine | index | effort | recall@10, image | recall@10, text | QPS, 1 thread |"
    yield "|---|---|---|---|---|---|"
    for m in measured:
        cells = [m["engine"], m["index"], m["effort"], f"{m['image']:.3f}", f"{m['text']:.3f}", f"{m['qps']:,.0f}"]
        yield "| " + " | ".join(cells) + " |"


def plot(measured, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(14, 6), sharey=True)
    for panel, kind in zip(panels, ["image", "text"]):
        for engine, index in dict.fromkeys((m["engine"], m["index"]) for m in measured):
            points = [m for m in measured if (m["engine"], m["index"]) == (engine, index)]
            points = sorted((m[kind], m["qps"]) for m in points)
            style = "o-" if engine == "xr" else "x--"
            panel.plot(*zip(*points), style, label=f"{engine} {index}", linewidth=1, markersize=4)
        panel.set(xlabel=f"recall@{K}, {kind} queries", yscale="log", title=f"{kind} queries")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("queries a second, one thread")
    panels[1].legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    args = options()
    args.out.mkdir(parents=True, exist_ok=True)
    measured = list(ours(args))
    bench = Bench(args.out, args.dim, args.seconds)
    for engine in [bench.faiss, bench.hnswlib, bench.usearch]:
        measured += engine()
    rows, dim = bench.gallery.shape
    head = f"{rows:,} vectors of {dim} dimensions; {len(bench.queries['text']):,} queries of each kind."
    (args.out / "report.md").write_text("\n".join([head, "", *table(measured), ""]))
    plot(measured, args.out / "report.png")
    print((args.out / "report.md").read_text())


if __name__ == "__main__":
    main()
