"""Small heads with random weights, in PyTorch: weights, inputs, outputs and gradients.

    python reference/fixtures_heads.py

Writes crates/xr-models/tests/fixtures/{dual_encoder,corr_ae,cross_ae}.safetensors: a whole feature
model under the names of its parts, and `test.*`, what a test feeds and expects. `test.gradient.X`
is the gradient of weight X under the loss of `loss` below. Needs torch and safetensors.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import mse_loss, normalize

FOLDER = Path(__file__).parent.parent / "crates/xr-models/tests/fixtures"
IMAGE, TEXT, LATENT, BATCH = 5, 4, 3, 6


class Mlp(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def dual_encoder():
    return nn.ModuleDict({"image": Mlp(IMAGE, LATENT), "text": Mlp(TEXT, 7, LATENT)})


def autoencoders():
    return nn.ModuleDict({
        "image_encoder": Mlp(IMAGE, 8, 7, LATENT),
        "image_decoder": Mlp(LATENT, 7, 8, IMAGE),
        "text_encoder": Mlp(TEXT, 6, LATENT),
        "text_decoder": Mlp(LATENT, 6, TEXT),
    })


def loss(image, text, reconstructions):
    """Not an objective anyone trains with: one number that every weight has a part in."""
    return (image * text).sum() + sum(mse_loss(*r) for r in reconstructions)


def fixture(name, seed, head, crossed):
    torch.manual_seed(seed)
    head = head()
    features = {"image": 3 * torch.randn(BATCH, IMAGE) + 1, "text": 0.1 * torch.randn(BATCH, TEXT) - 2}
    stats = {m: (f.mean(0), f.std(0, correction=0)) for m, f in features.items()}
    z = {m: (f - stats[m][0]) / stats[m][1] for m, f in features.items()}

    auto = "image_encoder" in head
    latent = {m: head[f"{m}_encoder" if auto else m](z[m]) for m in z}
    other = {"image": "text", "text": "image"}
    decoded = {}
    if auto:
        for m in z:
            decoded[m] = head[f"{m}_decoder"](latent[other[m] if crossed else m])
    reconstructions = [(decoded[m], z[m]) for m in decoded]
    loss(latent["image"], latent["text"], reconstructions).backward()

    tensors = {f"head.{k}": v for k, v in head.state_dict().items()}
    for m, (mean, std) in stats.items():
        tensors |= {f"{m}_stats.mean": mean, f"{m}_stats.std": std}
    tensors |= {"logit_scale": torch.tensor([math.log(1 / 0.07)]), "logit_bias": torch.zeros(1)}
    for m in z:
        tensors |= {f"test.{m}": features[m], f"test.{m}_latent": latent[m]}
        tensors[f"test.{m}_embedding"] = normalize(latent[m])
        if auto:
            tensors[f"test.{m}_reconstruction"] = decoded[m]
            tensors[f"test.decode_to_{other[m]}"] = head[f"{other[m]}_decoder"](latent[m])
    tensors |= {f"test.gradient.head.{k}": p.grad for k, p in head.named_parameters()}
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    fixture("dual_encoder", 0, dual_encoder, crossed=False)
    fixture("corr_ae", 1, autoencoders, crossed=False)
    fixture("cross_ae", 2, autoencoders, crossed=True)
