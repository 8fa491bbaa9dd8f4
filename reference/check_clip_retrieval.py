"""Reads a folder that `xr index export` wrote as clip-retrieval reads it: with NumPy, pandas and faiss-cpu.

    pip install numpy pandas pyarrow faiss-cpu
    python reference/check_clip_retrieval.py FOLDER

The test `clip_retrieval_reads_what_is_written` makes the folder: row `i` is of `i.jpg`, and every row is
found first by its own embedding.
"""

import sys
from pathlib import Path

import faiss
import numpy as np
import pandas as pd


def main():
    folder = Path(sys.argv[1])
    metadata = pd.read_parquet(folder / "metadata/metadata_0.parquet")
    rows = len(metadata)
    assert list(metadata.columns) == ["image_path", "caption"]
    assert list(metadata["image_path"]) == [f"{i}.jpg" for i in range(rows)]
    assert list(metadata["caption"]) == [f"ü {i}" for i in range(rows)]
    for embeddings, index in [("img_emb", "image"), ("text_emb", "text")]:
        values = np.load(folder / embeddings / f"{embeddings}_0.npy")
        assert values.dtype == np.float32 and values.shape[0] == rows, values.shape
        index = faiss.read_index(str(folder / f"{index}.index"))
        assert list(index.search(values, 1)[1][:, 0]) == list(range(rows))


if __name__ == "__main__":
    main()
