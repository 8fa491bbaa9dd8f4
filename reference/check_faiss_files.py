"""Searches an index file that xr wrote with faiss-cpu, and writes one for xr to search.

    python reference/check_faiss_files.py FOLDER

The test `files_are_those_of_faiss_cpu` makes the folder, with `rows.f32`, `queries.f32` and `ours.index`,
and reads what this leaves there: `theirs.index`, and the ids of the five best of each query in both.
"""

import sys
from pathlib import Path

import faiss
import numpy as np

DIM, K = 16, 5


def main():
    folder = Path(sys.argv[1])
    rows, queries = (
        np.fromfile(folder / f"{name}.f32", np.float32).reshape(-1, DIM) for name in ["rows", "queries"]
    )
    theirs = faiss.index_factory(DIM, "IDMap2,IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
    theirs.train(rows)
    theirs.add_with_ids(rows, np.arange(len(rows)) * 5 + 2)
    faiss.write_index(theirs, str(folder / "theirs.index"))
    ours = faiss.read_index(str(folder / "ours.index"))
    for name, index in [("ours", ours), ("theirs", theirs)]:
        index.search(queries, K)[1].astype(np.uint64).tofile(folder / f"found_in_{name}.u64")


if __name__ == "__main__":
    main()
