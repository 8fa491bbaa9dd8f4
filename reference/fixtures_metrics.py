"""Ranked lists scored by trec_eval, for the metrics of xr-eval.

    pip install pytrec_eval-terrier numpy
    python reference/fixtures_metrics.py

Writes crates/xr-eval/tests/fixtures/trec_eval.json: 12 queries, 30 documents, up to 5 relevant each.
The scores of a query are a permutation of 1 to 30. No two are equal, because trec_eval breaks ties
by document id, descending, and xr-eval by gallery position, ascending.
"""

import json
from pathlib import Path

import numpy as np
import pytrec_eval

QUERIES, DOCUMENTS = 12, 30
MEASURES = {"map", "recip_rank", "ndcg", "ndcg_cut.10", "success.1,5,10", "recall.10"}
NAMES = {
    "map": "mAP",
    "recip_rank": "MRR",
    "ndcg": "nDCG",
    "ndcg_cut_10": "nDCG@10",
    "success_1": "R@1",
    "success_5": "R@5",
    "success_10": "R@10",
    "recall_10": "Found@10",
}

rng = np.random.default_rng(0)
scores = [[int(x) + 1 for x in rng.permutation(DOCUMENTS)] for _ in range(QUERIES)]
relevant = [
    sorted(int(x) for x in rng.choice(DOCUMENTS, rng.integers(1, 6), replace=False))
    for _ in range(QUERIES)
]
qrel = {f"q{q}": {f"d{d}": 1 for d in items} for q, items in enumerate(relevant)}
run = {f"q{q}": {f"d{d}": float(s) for d, s in enumerate(row)} for q, row in enumerate(scores)}
result = pytrec_eval.RelevanceEvaluator(qrel, MEASURES).evaluate(run)

out = Path(__file__).parents[1] / "crates/xr-eval/tests/fixtures/trec_eval.json"
out.parent.mkdir(parents=True, exist_ok=True)
per_query = {ours: [result[f"q{q}"][theirs] for q in range(QUERIES)] for theirs, ours in NAMES.items()}
out.write_text(json.dumps({"scores": scores, "relevant": relevant, "values": per_query}) + "\n")
print(f"{out}: {out.stat().st_size} bytes")
