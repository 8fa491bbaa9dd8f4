"""EfficientNet-Lite0 and MiniLM in PyTorch (eager and compiled) and in ONNX Runtime.

    OMP_NUM_THREADS=2 python reference/bench_encode.py --pictures FOLDER --captions FILE

`lite0/16` is the encoder alone on 16 pictures of 224 x 224; `lite0/jpeg` decodes, resizes and
encodes the JPEGs of FOLDER. `minilm/64x25` is the encoder alone on 64 rows of 25 tokens;
`minilm/captions` cuts the captions of FILE, one a line, into tokens, sorts them by length and encodes
64 at a time. The weights are random: speed doesn't depend on them, but real captions need the
tokenizer in `--weights`, the folder that fetch_weights.sh made.

`--only lite0/16/onnxruntime` measures that alone, so that the process's peak memory is its own.
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

BATCHES = [1, 16, 64]
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


def channels_last(model):
    model = model.to(memory_format=torch.channels_last)
    return lambda x: model(x.to(memory_format=torch.channels_last))


def compiled_lite0():
    return channels_last(torch.compile(lite0(), dynamic=False))


def onnx_lite0():
    example = torch.zeros(LITE0_BATCH, 3, SIDE, SIDE)
    return onnx_session(lite0(), (example,), ["pixels"], {"pixels": {0: "batch"}})


def onnx_minilm():
    example = (torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long))
    axes = {name: {0: "batch", 1: "tokens"} for name in ["ids", "mask"]}
    return onnx_session(MiniLm().eval(), example, ["ids", "mask"], axes)


# Engine -> what makes a function of pixels [batch, 3, 224, 224].
IMAGE_ENGINES = {
    "pytorch": lite0,
    "pytorch, channels last": lambda: channels_last(lite0()),
    "pytorch compiled": compiled_lite0,
    "onnxruntime": onnx_lite0,
}

# Engine -> what makes a function of token numbers and mask, both [batch, tokens].
TEXT_ENGINES = {
    "pytorch": lambda: MiniLm().eval(),
    "pytorch compiled": lambda: torch.compile(MiniLm().eval(), dynamic=True),
    "pytorch bf16": lambda: MiniLm().eval().bfloat16(),
    "onnxruntime": onnx_minilm,
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


def wanted(args, work, engine):
    return args.only in (None, f"{work}/{engine}")


def bench_images(args):
    jpegs = [p.read_bytes() for p in sorted(args.pictures.glob("*.jpg"))[:64]] if args.pictures else []
    for engine, make in IMAGE_ENGINES.items():
        works = {f"lite0/{n}": (n, torch.randn(n, 3, SIDE, SIDE)) for n in BATCHES}
        works = {work: at for work, at in works.items() if wanted(args, work, engine)}
        encode = make() if works else None
        for work, (batch, pixels) in works.items():
            report(work, engine, batch, "pictures/s", lambda: encode(pixels), args.seconds)
        if jpegs and wanted(args, "lite0/jpeg", engine):
            call = lambda: encode_jpegs(encode, jpegs)
            report("lite0/jpeg", engine, len(jpegs), "pictures/s", call, args.seconds)


def bench_texts(args):
    captions, tokenizer = [], None
    if args.captions and args.weights:
        captions = args.captions.read_text().splitlines()[:2048]
        tokenizer = Tokenizer.from_file(str(args.weights / "minilm" / "tokenizer.json"))
        tokenizer.no_padding()
    for engine, make in TEXT_ENGINES.items():
        works = {f"minilm/{n}x{TOKENS}": n for n in BATCHES}
        works = {work: n for work, n in works.items() if wanted(args, work, engine)}
        encode = make() if works else None
        for work, batch in works.items():
            ids = torch.randint(1000, VOCABULARY, (batch, TOKENS))
            mask = torch.ones_like(ids)
            report(work, engine, batch, "captions/s", lambda: encode(ids, mask), args.seconds)
        # bf16 is of use only where the processor has it: elsewhere all captions would take minutes.
        if captions and "bf16" not in engine and wanted(args, "minilm/captions", engine):
            call = lambda: encode_captions(encode, tokenizer, captions)
            report("minilm/captions", engine, len(captions), "captions/s", call, args.seconds)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of JPEGs; the first 64 are used")
    parser.add_argument("--captions", type=Path, help="text file; the first 2048 lines are used")
    parser.add_argument("--weights", type=Path, help="what fetch_weights.sh made")
    parser.add_argument("--only", help="WORK/ENGINE to measure alone")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with torch.inference_mode():
        bench_images(args)
        bench_texts(args)


if __name__ == "__main__":
    main()
