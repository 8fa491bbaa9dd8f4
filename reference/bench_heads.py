"""Training steps of the three heads in PyTorch, on random features.

    OMP_NUM_THREADS=2 python reference/bench_heads.py

Batch 128, 1280 picture and 384 text features, Adam (rate 1e-3, weight decay 1e-5), temperature 0.07.
The autoencoders have the paper's sizes: 1024 (text: 512) hidden units, 512 in the latent. The dual
encoder is one linear map of each modality to 1024, behind dropout.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from timing import THREADS, arguments, report

BATCH, IMAGE, TEXT, LATENT, TEMPERATURE = 128, 1280, 384, 512, 0.07


def mlp(widths, dropout=0.0):
    layers = []
    for before, after in zip(widths, widths[1:]):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def info_nce(image, text):
    logits = normalize(image) @ normalize(text).T / TEMPERATURE
    labels = torch.arange(len(logits))
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


class DualEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Dropout(0.4), nn.Linear(IMAGE, 1024))
        self.text = nn.Sequential(nn.Dropout(0.1), nn.Linear(TEXT, 1024))

    def loss(self, image, text):
        return info_nce(self.image(image), self.text(text))


class Autoencoder(nn.Module):
    """Each modality decoded into itself, or into the other if `crossed`."""

    def __init__(self, crossed, align):
        super().__init__()
        dropout = 0.3 if crossed else 0.0
        self.crossed, self.align = crossed, align
        self.image_in = mlp([IMAGE, 1024, LATENT], dropout)
        self.image_out = mlp([LATENT, 1024, IMAGE])
        self.text_in = mlp([TEXT, 512, LATENT], dropout)
        self.text_out = mlp([LATENT, 512, TEXT])

    def loss(self, image, text):
        i, t = self.image_in(image), self.text_in(text)
        for_image, for_text = (t, i) if self.crossed else (i, t)
        rebuilt = mse_loss(self.image_out(for_image), image) + mse_loss(self.text_out(for_text), text)
        return self.align(i, t) + rebuilt


def training_step(head):
    image, text = torch.randn(BATCH, IMAGE), torch.randn(BATCH, TEXT)
    adam = torch.optim.Adam(head.parameters(), lr=1e-3, weight_decay=1e-5)

    def step():
        adam.zero_grad()
        head.loss(image, text).backward()
        adam.step()

    return step


def main():
    args = arguments(__doc__).parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    heads = {
        "dual-encoder": DualEncoder(),
        "corr-ae-mse": Autoencoder(crossed=False, align=mse_loss),
        "corr-ae-contrastive": Autoencoder(crossed=False, align=info_nce),
        "cross-ae": Autoencoder(crossed=True, align=info_nce),
    }
    for name, head in heads.items():
        report(f"step/{name}", "pytorch", 1, "steps/s", training_step(head.train()), args.seconds)


if __name__ == "__main__":
    main()
