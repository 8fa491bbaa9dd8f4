"""Single operations of PyTorch: what goes in, what comes out, and the gradients.

    python reference/fixtures_ops.py

Writes crates/xr-models/tests/fixtures/{conv2d,batch_norm,transformer_ops,conv2d_wide,pools,not_finite}.safetensors.
What belongs to a case is `test.CASE.*`; `grad` is the gradient of the output, and `x_grad` that of `x` it
leads to. Needs torch and safetensors.
"""

from pathlib import Path

import torch
from torch import inf, nan
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

# Channels in and out, sides of the picture, zeros before and after: 3 x 3, and wide enough for minimal
# filtering.
WIDE_CONVOLUTIONS = {
    "wide": (17, 20, (7, 9), (1, 1)),
    "wide, padded behind": (16, 16, (5, 4), (0, 2)),
}

# Inputs that aren't finite, and where.
NOT_FINITE = {
    "linear": {"x": {(0, 1, 2): nan, (0, 2, 0): inf, (0, 3, 5): -inf}},
    "add_norm": {"x": {(0, 1, 7): nan, (0, 2, 18): inf}, "residual": {(0, 3, 0): -inf}},
    # A query; a key, and one behind the end of its text; values, and one behind the end.
    "attention": {
        "query": {(0, 0, 1, 2): nan},
        "key": {(0, 1, 2, 1): inf, (1, 0, 4, 0): nan},
        "value": {(0, 2, 3, 0): inf, (1, 1, 1, 3): -inf, (1, 2, 4, 2): nan},
    },
    "batch_norm": {
        "x": {(0, 1, 0, 1): nan, (1, 5, 1, 1): inf, (0, 16, 0, 0): -inf, (1, 16, 1, 0): inf},
        "beta": {(2,): inf, (17,): -inf},
    },
    "global_avg_pool2d": {
        "x": {(0, 1, 0, 2): nan, (0, 3, 1, 1): inf, (1, 4, 2, 0): -inf, (1, 0, 0, 0): inf, (1, 0, 2, 2): -inf}
    },
    # One window has two that are no numbers, and one channel is nothing but -inf.
    "max_pool2d": {
        "x": {(0, 0, 3, 3): nan, (0, 0, 4, 2): nan, (0, 1, 2, 5): inf, (0, 2, 6, 0): -inf, (1, 1): -inf}
    },
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


def spoilt(inputs, places):
    """The same inputs, with other values at some places."""
    for name, values in places.items():
        for place, value in values.items():
            inputs[name][place] = value
    return inputs


def convolution(channels, out, sides, kernel, stride, padding, dilation, groups):
    inputs = {
        "x": torch.randn(2, channels, *sides),
        "weight": torch.randn(out, channels // groups, kernel, kernel),
        "bias": torch.randn(out),
    }
    return run(inputs, lambda x, weight, bias: F.relu6(
        F.conv2d(F.pad(x, 2 * padding), weight, bias, stride, 0, dilation, groups)
    ))


def wide_convolution(channels, out, sides, padding):
    inputs = {"x": torch.randn(1, channels, *sides), "weight": torch.randn(out, channels, 3, 3)}
    return run(inputs, lambda x, weight: F.conv2d(F.pad(x, 2 * padding), weight))


def batch_norm(activation=F.relu6, shape=(3, 17, 5, 4), places={}):
    inputs = {
        "x": 3 * torch.randn(shape) + 10 * torch.rand(1, shape[1], 1, 1),
        "gamma": 3 * torch.rand(shape[1]),
        "beta": torch.randn(shape[1]),
    }
    return run(spoilt(inputs, places), lambda x, gamma, beta: activation(
        F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
    ))


def global_avg_pool2d(shape, places={}):
    inputs = spoilt({"x": torch.randn(shape)}, places)
    return run(inputs, lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1))


def max_pool2d(shape, places={}):
    """Of 3 x 3, every other place, and padded by 1."""
    inputs = spoilt({"x": torch.randn(shape)}, places)
    return run(inputs, lambda x: F.max_pool2d(x, 3, 2, 1))


def linear(activation, shape=(3, 5, 19), out=33, places={}):
    inputs = {
        "x": torch.randn(shape),
        "weight": torch.randn(shape[-1], out),
        "bias": torch.randn(out),
    }
    return run(spoilt(inputs, places), lambda x, weight, bias: activation(x @ weight + bias))


def add_norm(shape=(4, 5, 37), places={}):
    width = shape[-1]
    inputs = {
        "x": 3 * torch.randn(shape),
        "residual": torch.randn(shape) + 2,
        "gamma": 3 * torch.rand(width),
        "beta": torch.randn(width),
    }
    return run(spoilt(inputs, places), lambda x, residual, gamma, beta: F.layer_norm(
        x + residual, [width], gamma, beta, eps=1e-12
    ))


def attention(attend=F.scaled_dot_product_attention, shape=(2, 3, 9, 8), places={}):
    """Two texts, of all tokens and of 4."""
    inputs = {name: torch.randn(shape) for name in ["query", "key", "value"]}
    kept = torch.arange(shape[2]) < torch.tensor([[shape[2]], [4]])
    case = run(spoilt(inputs, places), lambda query, key, value: attend(
        query, key, value, kept[:, None, None]
    ))
    return case | {"mask": kept.int()}


def attend_by_hand(query, key, value, kept):
    """What is behind the end of a text isn't looked at: the fused ones add -inf to its scores."""
    scores = query @ key.mT / query.shape[-1] ** 0.5
    return scores.masked_fill(~kept, -inf).softmax(-1) @ value


ACTIVATIONS = {"gelu": F.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "relu": F.relu}


def transformer():
    cases = {f"linear, {name}": linear(f) for name, f in ACTIVATIONS.items()}
    # What isn't a number, or is on the edge of one.
    edge = torch.tensor([0.0, -0.0, 1e-30, -12.0, 90.0, -90.0, inf, -inf, nan])
    cases |= {name: {"edge": edge, "output": f(edge)} for name, f in ACTIVATIONS.items()}
    return cases | {"add_norm": add_norm(), "attention": attention()}


def not_finite():
    places = NOT_FINITE
    cases = {
        f"linear, {name}": linear(f, (1, 5, 6), 17, places["linear"])
        for name, f in ACTIVATIONS.items()
    }
    cases["add_norm"] = add_norm((1, 5, 19), places["add_norm"])
    cases["attention"] = attention(attend_by_hand, (2, 3, 5, 4), places["attention"])
    # For NaN the slope of PyTorch's ReLU6 is 0 in the middle of an array and 1 at its end.
    for name, f in {"identity": lambda x: x, "relu": F.relu}.items():
        cases[f"batch_norm, {name}"] = batch_norm(f, (2, 18, 2, 2), places["batch_norm"])
    cases["global_avg_pool2d"] = global_avg_pool2d((2, 5, 3, 3), places["global_avg_pool2d"])
    cases["max_pool2d"] = max_pool2d((2, 3, 7, 6), places["max_pool2d"])
    return cases


def flat(cases):
    return {f"{name}.{key}": value for name, case in cases.items() for key, value in case.items()}


if __name__ == "__main__":
    torch.manual_seed(0)
    cases = {name: convolution(*sizes) for name, sizes in CONVOLUTIONS.items()}
    save("conv2d", flat(cases))
    save("batch_norm", batch_norm())
    save("transformer_ops", flat(transformer()))
    save("conv2d_wide", flat({name: wide_convolution(*sizes) for name, sizes in WIDE_CONVOLUTIONS.items()}))
    shape = (2, 17, 5, 4)
    pools = {"global_avg_pool2d": global_avg_pool2d(shape), "max_pool2d": max_pool2d(shape)}
    save("pools", flat(pools))
    save("not_finite", flat(not_finite()))
