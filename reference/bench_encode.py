"""EfficientNet-Lite0 and MiniLM in PyTorch (eager and compiled) and in ONNX Runtime.

    OMP_NUM_THREADS=2 python reference/bench_encode.py --pictures FOLDER --captions FILE

`lite0/batch16` is the encoder alone on 16 pictures of 224 x 224; `lite0/jpeg` decodes, resizes and
encodes the JPEGs of FOLDER. `minilm/64x25` is the encoder alone on 64 rows of 25 tokens;
`minilm/captions` cuts the captions of FILE, one a line, into tokens, sorts them by length and encodes
64 at a time. The weights are random unless `--weights` names the folder that fetch_weights.sh made:
speed doesn't depend on them, but real captions need its tokenizer.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from timing import THREADS, arguments, report

LITE0_BATCH, MINILM_BATCH, TOKENS, VOCABULARY, SIDE = 16, 64, 25, 30_522, 224


class MiniLm(torch.nn.Module):
    """all-MiniLM-L6-v2: six BERT layers and the mean over the tokens."""

    def __init__(self):
        super().__init__()
        sizes = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12)
        config = BertConfig(vocab_size=VOCABULARY, intermediate_size=1536, **sizes)
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, ids, mask):
        hidden = self.bert(ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


def lite0():
    return timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()


def onnx_session(model, example, names, dynamic):
    """The model in ONNX Runtime, called with arrays in the order of `names`."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            model, example, path, input_names=names, output_names=["out"], dynamic_axes=dynamic,
            dynamo=False, opset_version=17,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda *arrays: session.run(None, {n: np.asarray(a) for n, a in zip(names, arrays)})[0]


def image_engines():
    """Engine → function of pixels [batch, 3, 224, 224]."""
    example = torch.zeros(LITE0_BATCH, 3, SIDE, SIDE)
    eager, last = lite0(), lite0().to(memory_format=torch.channels_last)
    compiled = torch.compile(lite0().to(memory_format=torch.channels_last), dynamic=False)
    return {
        "pytorch eager": eager,
        "pytorch eager, channels last": lambda x: last(x.to(memory_format=torch.channels_last)),
        "pytorch compiled": lambda x: compiled(x.to(memory_format=torch.channels_last)),
        "onnxruntime": onnx_session(lite0(), (example,), ["pixels"], {"pixels": {0: "batch"}}),
    }


def text_engines():
    """Engine → function of token numbers and mask, both [batch, tokens]."""
    model = MiniLm().eval()
    example = (torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long))
    axes = {name: {0: "batch", 1: "tokens"} for name in ["ids", "mask"]}
    return {
        "pytorch eager": model,
        "pytorch compiled": torch.compile(model, dynamic=True),
        "onnxruntime": onnx_session(MiniLm().eval(), example, ["ids", "mask"], axes),
    }


def pixels(jpeg):
    """One picture as EfficientNet-Lite wants it: short side 224, bicubic, centre, (x - 127) / 128."""
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    scale = SIDE / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    square = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), np.float32)
    return torch.from_numpy((square - 127) / 128).permute(2, 0, 1)


def encode_jpegs(encode, jpegs):
    for first in range(0, len(jpegs), LITE0_BATCH):
        encode(torch.stack([pixels(jpeg) for jpeg in jpegs[first : first + LITE0_BATCH]]))


def encode_captions(encode, tokenizer, captions):
    rows = sorted(tokenizer.encode_batch(captions), key=lambda row: len(row.ids))
    for first in range(0, len(rows), MINILM_BATCH):
        batch = rows[first : first + MINILM_BATCH]
        for row in batch:
            row.pad(len(batch[-1].ids))
        ids = torch.tensor([row.ids for row in batch])
        encode(ids, torch.tensor([row.attention_mask for row in batch]))


def bench_images(args):
    batch = torch.randn(LITE0_BATCH, 3, SIDE, SIDE)
    jpegs = [p.read_bytes() for p in sorted(args.pictures.glob("*.jpg"))[:64]] if args.pictures else []
    for engine, encode in image_engines().items():
        call = lambda: encode(batch)
        report("lite0/batch16", engine, LITE0_BATCH, "pictures/s", call, args.seconds)
        if jpegs:
            call = lambda: encode_jpegs(encode, jpegs)
            report("lite0/jpeg", engine, len(jpegs), "pictures/s", call, args.seconds)


def bench_texts(args):
    ids = torch.randint(1000, VOCABULARY, (MINILM_BATCH, TOKENS))
    mask = torch.ones_like(ids)
    captions, tokenizer = [], None
    if args.captions and args.weights:
        captions = args.captions.read_text().splitlines()[:2048]
        tokenizer = Tokenizer.from_file(str(args.weights / "minilm" / "tokenizer.json"))
        tokenizer.no_padding()
    for engine, encode in text_engines().items():
        call = lambda: encode(ids, mask)
        report("minilm/64x25", engine, MINILM_BATCH, "captions/s", call, args.seconds)
        if captions:
            call = lambda: encode_captions(encode, tokenizer, captions)
            report("minilm/captions", engine, len(captions), "captions/s", call, args.seconds)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs; the first 64 are used")
    parser.add_argument("--captions", type=Path, help="text file; the first 2048 lines are used")
    parser.add_argument("--weights", type=Path, help="what fetch_weights.sh made")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with torch.inference_mode():
        bench_images(args)
        bench_texts(args)


if __name__ == "__main__":
    main()
