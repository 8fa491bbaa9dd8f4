"""Writes crates/xr-train/tests/fixtures/optim.json: three steps of Adam and AdamW with a large
weight decay on a linear layer, whose bias AdamW doesn't decay, and a plateau schedule.

    python reference/fixtures_optim.py
"""

import json
from pathlib import Path

import torch

STEPS, LR, DECAY = 3, 0.1, 0.5


def run(make, weight, bias, inputs):
    # y = x W + b with W [2, 1], the loss is the mean of y².
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = make(weight, bias)
    for x in inputs:
        optimizer.zero_grad()
        ((x @ weight + bias) ** 2).mean().backward()
        optimizer.step()
    return {"weight": weight.flatten().tolist(), "bias": bias.tolist()}


def plateau(losses):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    rates = []
    for loss in losses:
        schedule.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def main():
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(2, 1), torch.randn(1), torch.randn(STEPS, 4, 2)
    adam = lambda w, b: torch.optim.Adam([w, b], lr=LR, weight_decay=DECAY)
    adamw = lambda w, b: torch.optim.AdamW([w, b], lr=LR, weight_decay=DECAY)
    matrices = lambda w, b: torch.optim.AdamW(
        [{"params": [w]}, {"params": [b], "weight_decay": 0.0}], lr=LR, weight_decay=DECAY
    )
    losses = [4.0, 3.9999, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0]
    fixture = {
        "lr": LR,
        "decay": DECAY,
        "weight": weight.flatten().tolist(),
        "bias": bias.tolist(),
        "inputs": inputs.tolist(),
        "adam": run(adam, weight, bias, inputs),
        "adamw": run(adamw, weight, bias, inputs),
        "adamw_matrices": run(matrices, weight, bias, inputs),
        "plateau": {"losses": losses, "rates": plateau(losses)},
    }
    path = Path(__file__).parent.parent / "crates/xr-train/tests/fixtures/optim.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fixture) + "\n")


if __name__ == "__main__":
    main()
