"""Single operations of PyTorch: what goes in, what comes out, and the gradients.

    python reference/fixtures_ops.py

Writes crates/xr-models/tests/fixtures/{conv2d,batch_norm,transformer_ops}.safetensors. What belongs to a case is
`test.CASE.*`; `grad` is the gradient of the output, and `x_grad` that of `x` it leads to.
Needs torch and safetensors.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

FOLDER = Path(__file__).parent.parent / "crates/xr-models/tests/fixtures"

# Channels in and out, sides of the picture, side of the kernel, stride, zeros before and after,
# dilation, groups.
CONVOLUTIONS = {
    "pointwise": (16, 24, (7, 5), 1, 1, (0, 0), 1, 1),
    "stem": (3, 8, (9, 10), 3, 2, (0, 1), 1, 1),
    "dilated": (5, 7, (8, 8), 3, 1, (2, 2), 2, 1),
    "depthwise 3": (17, 17, (6, 9), 3, 1, (1, 1), 1, 17),
    "depthwise 5, stride 2": (8, 8, (11, 8), 5, 2, (1, 2), 1, 8),
    "groups": (6, 4, (5, 5), 3, 1, (1, 1), 1, 2),
}


def save(name, cases):
    tensors = {f"test.{key}": value.detach().contiguous().clone() for key, value in cases.items()}
    save_file(tensors, FOLDER / f"{name}.safetensors")


def run(inputs, function):
    """The function's output on the inputs, and their gradients for a random one of the output."""
    for value in inputs.values():
        value.requires_grad_()
    output = function(**inputs)
    grad = torch.randn_like(output)
    grads = torch.autograd.grad(output, inputs.values(), grad)
    named = {f"{name}_grad": value for name, value in zip(inputs, grads)}
    return inputs | {"grad": grad, "output": output} | named


def convolution(channels, out, sides, kernel, stride, padding, dilation, groups):
    inputs = {
        "x": torch.randn(2, channels, *sides),
        "weight": torch.randn(out, channels // groups, kernel, kernel),
        "bias": torch.randn(out),
    }
    return run(inputs, lambda x, weight, bias: F.relu6(
        F.conv2d(F.pad(x, 2 * padding), weight, bias, stride, 0, dilation, groups)
    ))


def batch_norm():
    inputs = {
        "x": 3 * torch.randn(3, 17, 5, 4) + 10 * torch.rand(1, 17, 1, 1),
        "gamma": 3 * torch.rand(17),
        "beta": torch.randn(17),
    }
    return run(inputs, lambda x, gamma, beta: F.relu6(
        F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
    ))


def linear(activation):
    inputs = {"x": torch.randn(3, 5, 19), "weight": torch.randn(19, 33), "bias": torch.randn(33)}
    return run(inputs, lambda x, weight, bias: activation(x @ weight + bias))


def add_norm():
    inputs = {
        "x": 3 * torch.randn(4, 5, 37),
        "residual": torch.randn(4, 5, 37) + 2,
        "gamma": 3 * torch.rand(37),
        "beta": torch.randn(37),
    }
    return run(inputs, lambda x, residual, gamma, beta: F.layer_norm(
        x + residual, [37], gamma, beta, eps=1e-12
    ))


def attention():
    """Two texts, of 9 tokens and of 4."""
    inputs = {name: torch.randn(2, 3, 9, 8) for name in ["query", "key", "value"]}
    kept = torch.arange(9) < torch.tensor([[9], [4]])
    case = run(inputs, lambda query, key, value: F.scaled_dot_product_attention(
        query, key, value, kept[:, None, None]
    ))
    return case | {"mask": kept.int()}


def transformer():
    activations = {"gelu": F.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "relu": F.relu}
    cases = {f"linear, {name}": linear(f) for name, f in activations.items()}
    # What isn't a number, or is on the edge of one.
    edge = torch.tensor([0.0, -0.0, 1e-30, -12.0, 90.0, -90.0, torch.inf, -torch.inf, torch.nan])
    cases |= {name: {"edge": edge, "output": f(edge)} for name, f in activations.items()}
    return cases | {"add_norm": add_norm(), "attention": attention()}


def flat(cases):
    return {f"{name}.{key}": value for name, case in cases.items() for key, value in case.items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    cases = {name: convolution(*sizes) for name, sizes in CONVOLUTIONS.items()}
    save("conv2d", flat(cases))
    save("batch_norm", batch_norm())
    save("transformer_ops", flat(transformer()))
