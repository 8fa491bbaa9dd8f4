"""A folder as clip-retrieval's `clip inference` writes it, for `xr index import`.

    pip install numpy pandas pyarrow
    python reference/fixtures_clip_retrieval.py

Writes crates/xr-index/tests/fixtures/clip_retrieval: two parts of three and two rows, with the calls that
`clip_retrieval/clip_inference/writer.py` makes. Row `i` of the pictures is `[i + 1, 0.5, 0, 0]`, of the
texts `[0, 0, 0.25, i + 1]`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

PARTS = [range(0, 3), range(3, 5)]

out = Path(__file__).parents[1] / "crates/xr-index/tests/fixtures/clip_retrieval"
for folder in ["img_emb", "text_emb", "metadata"]:
    (out / folder).mkdir(parents=True, exist_ok=True)
for number, rows in enumerate(PARTS):
    images = np.array([[row + 1, 0.5, 0, 0] for row in rows], np.float16)
    texts = np.array([[0, 0, 0.25, row + 1] for row in rows], np.float16)
    np.save(out / f"img_emb/img_emb_{number}.npy", images)
    np.save(out / f"text_emb/text_emb_{number}.npy", texts)
    table = pd.DataFrame(
        {
            "image_path": [f"pictures/{row}.jpg" for row in rows],
            "caption": [f"caption {row}, ü" for row in rows],
            "width": [640 + row for row in rows],
            "licence": ["CC0" if row % 2 else None for row in rows],
        }
    )
    table.to_parquet(out / f"metadata/metadata_{number}.parquet")
