"""Training steps through MiniLM and EfficientNet-Lite0 in PyTorch, on random input.

    OMP_NUM_THREADS=2 python reference/bench_training.py

`train/minilm-32x25` is a step of AdamW on 32 rows of 25 tokens; `train/lite0-8` is forward and backward,
batch norms in training, on 8 pictures, in PyTorch's usual layout and with channels last. The loss of both
is the mean square of the features: it costs nothing.
"""

import torch

from bench_encode import SIDE, TOKENS, VOCABULARY, MiniLm, lite0
from timing import THREADS, arguments, report


def minilm_step():
    model = MiniLm().train()
    adam_w = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    ids = torch.randint(1000, VOCABULARY, (32, TOKENS))
    mask = torch.ones_like(ids)

    def step():
        adam_w.zero_grad()
        model(ids, mask).square().mean().backward()
        adam_w.step()

    return step


def lite0_gradients(layout):
    model = lite0().train().to(memory_format=layout)
    pixels = torch.randn(8, 3, SIDE, SIDE).to(memory_format=layout)

    def gradients():
        model.zero_grad()
        model(pixels).square().mean().backward()

    return gradients


def main():
    args = arguments(__doc__).parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    plain, last = torch.contiguous_format, torch.channels_last
    report("train/minilm-32x25", "pytorch", 1, "steps/s", minilm_step(), args.seconds)
    report("train/lite0-8", "pytorch", 1, "steps/s", lite0_gradients(plain), args.seconds)
    report("train/lite0-8", "pytorch, channels last", 1, "steps/s", lite0_gradients(last), args.seconds)


if __name__ == "__main__":
    main()
