"""Small encoders with random weights, in PyTorch: their weights, inputs and outputs.

    python reference/fixtures_encoders.py

Writes crates/xr-models/tests/fixtures/{efficientnet_lite,resnet_basic,resnet_bottleneck,
small_cnn,bert,lstm,gru}.safetensors.
Weights keep the names they have in published files; what a test feeds and expects is `test.*`.
Needs torch, torchvision, timm, transformers and safetensors.
"""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from transformers import BertConfig, BertModel

FOLDER = Path(__file__).parent.parent / "crates/xr-models/tests/fixtures"


def save(name, weights, **test):
    tensors = {key: value for key, value in weights.items() if "num_batches" not in key}
    tensors |= {f"test.{key}": value for key, value in test.items()}
    tensors = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    save_file(tensors, FOLDER / f"{name}.safetensors")


def randomise_norms(model):
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


def efficientnet_lite():
    """timm's own blocks; every kind that Lite has, on a picture whose sides pad differently."""
    torch.manual_seed(0)
    stages = [["ds_r1_k3_s1_e1_c8"], ["ir_r2_k3_s2_e3_c8"], ["ir_r2_k5_s2_e3_c16"]]
    model = EfficientNet(
        decode_arch_def(stages), stem_size=8, num_features=32, fix_stem=True, pad_type="same",
        act_layer=nn.ReLU6, norm_layer=partial(nn.BatchNorm2d, eps=1e-3), num_classes=0,
    ).eval()
    randomise_norms(model)
    pixels = torch.randn(2, 3, 30, 33)
    with torch.no_grad():
        features = model(pixels)
    save("efficientnet_lite", published(model.state_dict()), pixels=pixels, features=features)


def published(weights):
    """timm's names → those of efficientnet-lite-pytorch, whose blocks are numbered through."""
    blocks = sorted({tuple(key.split(".")[1:3]) for key in weights if key.startswith("blocks.")})
    names = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    separable = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    inverted = {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }

    def rename(key):
        parts = key.split(".")
        if parts[0] != "blocks":
            return ".".join([names[parts[0]], *parts[1:]])
        _, stage, block, module, tensor = parts
        kind = separable if stage == "0" else inverted
        return f"_blocks.{blocks.index((stage, block))}.{kind[module]}.{tensor}"

    return {rename(key): value for key, value in weights.items() if "num_batches" not in key}


class NarrowResNet(ResNet):
    """torchvision's, with 4 channels and two stages in place of 64 and four."""

    def __init__(self, block):
        super().__init__(block, [1, 1, 1, 1])
        self.inplanes = 4
        self.conv1 = nn.Conv2d(3, 4, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = self._make_layer(block, 4, 1)
        self.layer2 = self._make_layer(block, 8, 2, stride=2)
        self.layer3 = self.layer4 = self.fc = nn.Identity()


def resnet(name, block, seed):
    torch.manual_seed(seed)
    model = NarrowResNet(block).eval()
    randomise_norms(model)
    pixels = torch.randn(2, 3, 30, 33)
    with torch.no_grad():
        features = model(pixels)
    save(name, model.state_dict(), pixels=pixels, features=features)


def small_cnn():
    torch.manual_seed(1)
    model = nn.Module()
    model.stages = nn.ModuleList()
    for channels in [(3, 4), (4, 6)]:
        stage = nn.Module()
        stage.conv = nn.Conv2d(*channels, 3, stride=2, padding=1, bias=False)
        stage.norm = nn.BatchNorm2d(channels[1])
        model.stages.append(stage)
    model.eval()
    randomise_norms(model)
    pixels = torch.randn(2, 3, 9, 8)
    x = pixels
    for stage in model.stages:
        x = stage.norm(stage.conv(x)).relu()
    save("small_cnn", model.state_dict(), pixels=pixels, features=x.mean((2, 3)))


def mean_over_tokens(states, mask):
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def bert():
    torch.manual_seed(2)
    # A wide initialisation: with the usual 0.02 attention is all but uniform.
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=12, initializer_range=0.5,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    for name, value in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            nn.init.normal_(value)
    ids, mask = texts([7, 4, 1], 40)
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = {k: v for k, v in model.state_dict().items() if "position_ids" not in k}
    save("bert", weights, ids=ids.int(), mask=mask.int(), features=mean_over_tokens(states, mask))


def texts(lengths, vocabulary):
    ids = torch.randint(1, vocabulary, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def recurrent(name, kind, seed):
    """A packed sequence knows no padding: PyTorch's own way, and not the way we go."""
    torch.manual_seed(seed)
    model = nn.Module()
    model.words = nn.Embedding(20, 5)
    model.rnn = kind(5, 4, batch_first=True, bidirectional=True)
    model.output = nn.Linear(8, 3)
    lengths = [6, 2, 1, 4]
    ids, mask = texts(lengths, 20)
    packed = pack_padded_sequence(model.words(ids), lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(model.rnn(packed)[0], batch_first=True)
    features = model.output(mean_over_tokens(states, mask))
    probe = torch.randn_like(features)
    (features * probe).sum().backward()
    gradients = {
        "gradient_words": model.words.weight.grad,
        "gradient_backward_hidden": model.rnn.weight_hh_l0_reverse.grad,
    }
    save(name, model.state_dict(), ids=ids.int(), mask=mask.int(), features=features, probe=probe, **gradients)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    efficientnet_lite()
    resnet("resnet_basic", BasicBlock, 5)
    resnet("resnet_bottleneck", Bottleneck, 6)
    small_cnn()
    bert()
    recurrent("lstm", nn.LSTM, 3)
    recurrent("gru", nn.GRU, 4)
