"""Writes crates/xr-train/tests/fixtures/losses.json: every alignment loss and its gradients.

    python reference/fixtures_losses.py

With one picture a row the values come from the textbook form (PyTorch's own cross entropy, log
sigmoid and clamp); with shared pictures from loops over rows. Double precision, so that what is
compared against is the formula and not another rounding.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

ROWS, WIDTH, MARGIN = 6, 4, 0.3


def info_nce(s, groups):
    if len(set(groups)) == len(groups):
        labels = torch.arange(len(groups))
        return (F.cross_entropy(s, labels) + F.cross_entropy(s.T, labels)) / 2
    total = 0
    for logits in (s, s.T):
        for i, group in enumerate(groups):
            same = [j for j, other in enumerate(groups) if other == group]
            total = total - logits[i].log_softmax(0)[same].mean()
    return total / (2 * len(groups))


def sigmoid(s, groups):
    total = 0
    for i, a in enumerate(groups):
        for j, b in enumerate(groups):
            total = total - F.logsigmoid(s[i, j] if a == b else -s[i, j])
    return total / len(groups)


def triplet(cosines, groups, reduce):
    total = 0
    for s in (cosines, cosines.T):
        for i, a in enumerate(groups):
            hinges = [(MARGIN - s[i, i] + s[i, j]).clamp(min=0) for j, b in enumerate(groups) if a != b]
            total = total + reduce(torch.stack(hinges))
    return total / len(groups)


LOSSES = {
    "info_nce": lambda cosines, scale, bias, groups: info_nce(cosines * scale, groups),
    "sigmoid": lambda cosines, scale, bias, groups: sigmoid(cosines * scale + bias, groups),
    "sum": lambda cosines, scale, bias, groups: triplet(cosines, groups, torch.sum),
    "mean": lambda cosines, scale, bias, groups: triplet(cosines, groups, torch.mean),
    "hardest": lambda cosines, scale, bias, groups: triplet(cosines, groups, torch.max),
}


def case(name, groups, image, text, scale, bias):
    leaves = [x.clone().requires_grad_() for x in (image, text, scale, bias)]
    image, text, scale, bias = leaves
    cosines = F.normalize(image) @ F.normalize(text).T
    loss = LOSSES[name](cosines, scale, bias, groups)
    grads = torch.autograd.grad(loss.squeeze(), leaves, allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads)]
    keys = ("image_grad", "text_grad", "scale_grad", "bias_grad")
    return {"loss": name, "groups": groups, "value": loss.item()} | {
        key: grad.flatten().tolist() for key, grad in zip(keys, zeros)
    }


def main():
    torch.manual_seed(0)
    image, text = torch.randn(2, ROWS, WIDTH).float().double()
    scale, bias = torch.tensor([5.0]).double(), torch.tensor([-1.5]).double()
    cases = [
        case(name, groups, image, text, scale, bias)
        for name in LOSSES
        for groups in ([0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 2, 2])
    ]
    fixture = {
        "rows": ROWS,
        "width": WIDTH,
        "margin": MARGIN,
        "scale": scale.item(),
        "bias": bias.item(),
        "image": image.flatten().tolist(),
        "text": text.flatten().tolist(),
        "cases": cases,
    }
    path = Path(__file__).parent.parent / "crates/xr-train/tests/fixtures/losses.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fixture) + "\n")


if __name__ == "__main__":
    main()
