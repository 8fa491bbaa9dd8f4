"""Exact search in Python: NumPy's matrix product with argpartition, and FAISS' flat index.

    OMP_NUM_THREADS=2 python reference/bench_search.py

Gallery and queries are random unit vectors of 512 dimensions, seed 0; the ten best by inner product
are asked for.
"""

import faiss
import numpy as np

from timing import THREADS, arguments, report

DIM, K = 512, 10


def unit_vectors(rows, rng):
    vectors = rng.standard_normal((rows, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def numpy_search(gallery, queries):
    scores = queries @ gallery.T
    best = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


def flat_index(gallery):
    index = faiss.IndexFlatIP(DIM)
    index.add(gallery)
    return index


def main():
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    args = parser.parse_args()
    faiss.omp_set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    for rows in args.rows:
        gallery = unit_vectors(rows, rng)
        index = flat_index(gallery)
        for batch in [1, 64]:
            queries = unit_vectors(batch, rng)
            agree = numpy_search(gallery, queries) == index.search(queries, K)[1]
            assert agree.mean() > 0.99, "only scores that rounding makes equal may change places"
            engines = {
                "numpy": lambda: numpy_search(gallery, queries),
                "faiss": lambda: index.search(queries, K),
            }
            for engine, call in engines.items():
                work = f"search/{rows}x{DIM}/{batch}"
                report(work, engine, batch, "queries/s", call, args.seconds)


if __name__ == "__main__":
    main()
