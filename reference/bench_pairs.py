"""Training steps of whole dual encoders in PyTorch, in pairs a second: the other side of
`cargo bench --bench train_pairs`.

    OMP_NUM_THREADS=2 python reference/bench_pairs.py

B random pictures of 224 x 224 and B rows of 25 tokens; every weight is trained, batch norms too; linear
projections to 384 dimensions, symmetric InfoNCE with a learned temperature, AdamW. In PyTorch's usual
layout and with channels last. `--only pairs/lite0+minilm-64/pytorch` measures that alone, so that the
process's peak memory is its own.
"""

import math

import timm
import torch
import torch.nn.functional as F

from bench_encode import SIDE, TOKENS, VOCABULARY, MiniLm, wanted
from timing import THREADS, arguments, report

WORKS = [("lite0+minilm", 64), ("lite0+minilm", 128), ("resnet18+minilm", 64)]
NAMES = {"lite0+minilm": "tf_efficientnet_lite0", "resnet18+minilm": "resnet18"}


class DualEncoder(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.image = timm.create_model(name, num_classes=0)
        self.text = MiniLm()
        self.image_head = torch.nn.Linear(self.image.num_features, 384)
        self.text_head = torch.nn.Linear(384, 384)
        self.scale = torch.nn.Parameter(torch.tensor(-math.log(0.07)))

    def forward(self, pixels, ids, mask):
        image = F.normalize(self.image_head(self.image(pixels)))
        text = F.normalize(self.text_head(self.text(ids, mask)))
        logits = self.scale.clamp(max=math.log(100)).exp() * image @ text.T
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def step(name, batch, layout):
    model = DualEncoder(name).train().to(memory_format=layout)
    adam_w = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    pixels = torch.randn(batch, 3, SIDE, SIDE).to(memory_format=layout)
    ids = torch.randint(1000, VOCABULARY, (batch, TOKENS))
    mask = torch.ones_like(ids)

    def call():
        adam_w.zero_grad()
        model(pixels, ids, mask).backward()
        adam_w.step()

    return call


def main():
    parser = arguments(__doc__)
    parser.add_argument("--only", help="WORK/ENGINE to measure alone")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    layouts = {"pytorch": torch.contiguous_format, "pytorch, channels last": torch.channels_last}
    for name, batch in WORKS:
        for engine, layout in layouts.items():
            work = f"pairs/{name}-{batch}"
            if wanted(args, work, engine):
                report(work, engine, batch, "pairs/s", step(NAMES[name], batch, layout), args.seconds)


if __name__ == "__main__":
    main()
