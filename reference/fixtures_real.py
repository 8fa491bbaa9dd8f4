"""EfficientNet-Lite0, -Lite2 and MiniLM with their published weights: inputs and outputs.

    reference/fetch_weights.sh target/weights
    python reference/fixtures_real.py --weights target/weights --out target/real

Writes OUT/{lite0,lite2,minilm}.safetensors and OUT/sentences.json, for
crates/xr-models/tests/real_weights.rs, which holds our encoders to them. The implementations are
timm's and transformers', which share no code with ours or with the weights' own packages.
Needs torch, timm, transformers and safetensors.
"""

import argparse
import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

PICTURES, SENTENCES = 4, 50
WORDS = "a dog the cat runs jumps over Über wet café grass, 42 people's beach; snowboarding 犬 ¿qué?".split()


def lite(variant, weights, side):
    model = timm.create_model(f"tf_efficientnet_lite{variant}", num_classes=0).eval()
    model.load_state_dict(timm_names(torch.load(weights), model.state_dict()))
    return model, pictures(side)


def timm_names(published, timm_weights):
    """The published weights under timm's names: both list the same tensors in the same order,
    but for the classifier, which stands last."""
    ours = [key for key in published if not key.startswith("_fc.")]
    assert len(ours) == len(timm_weights)
    renamed = {name: published[key] for name, key in zip(timm_weights, ours)}
    assert all(renamed[name].shape == timm_weights[name].shape for name in timm_weights)
    return renamed


def pictures(side):
    """Blurred noise from -1 to 1: smoother than noise, as pictures are."""
    noise = torch.rand(PICTURES, 3, side // 16, side // 16) * 2 - 1
    return torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")


def minilm(folder, out):
    sentences = [sentence(n) for n in range(1, SENTENCES + 1)]
    tokens = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
    mask = tokens["attention_mask"]
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    features = (hidden * weights).sum(1) / weights.sum(1)
    save_file(dict(ids=tokens["input_ids"], mask=mask, features=features), out / "minilm.safetensors")
    (out / "sentences.json").write_text(json.dumps(sentences))


def sentence(words):
    return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (words,)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="what fetch_weights.sh made")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for variant, side in (0, 224), (2, 260):
        weights = arguments.weights / f"efficientnet-lite{variant}.pth"
        model, pixels = lite(variant, weights, side)
        with torch.no_grad():
            features = model(pixels)
        save_file(dict(pixels=pixels, features=features), arguments.out / f"lite{variant}.safetensors")
    minilm(arguments.weights / "minilm", arguments.out)


if __name__ == "__main__":
    main()
