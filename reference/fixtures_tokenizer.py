"""Token ids by Python's tokenizers, for xr-data's tests.

    pip install tokenizers
    python reference/fixtures_tokenizer.py crates/xr-data/tests/fixtures/tokenizer [MINILM]

MINILM is the tokenizer.json of sentence-transformers/all-MiniLM-L6-v2; with it, minilm.json is
made too: ids alone, the tokenizer itself isn't copied. Made with tokenizers 0.22.2.
"""

import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

OUT = Path(sys.argv[1])

TEXTS = [
    "A dog runs on the beach .",
    "a DOG",
    "Two children, playing; one laughs!",
    "The cat's whiskers aren't long.",
    "snowboarding snowboarder",
    "unrecognisablewordwithoutspaces",
    "naïve café Zürich Ångström",
    "été e\u0301te\u0301",
    "ﬁne ligature",
    "日本語の犬",
    "mixed 犬 dog",
    "emoji 🐕 dog",
    "family 👩‍👩‍👧 zwj",
    "price $3.50 (50% off)",
    "e-mail: a.b@c.org",
    "tabs\tand\nnew lines\r\n",
    "  many   spaces  ",
    "zero\u200bwidth and non\u00a0breaking",
    "control\u0007bell",
    "nul\u0000byte",
    "“curly” ‘quotes’ — dashes…",
    "under_score snake_case",
    "x" * 101,
    "x" * 99,
    "1234567890 007",
    "İstanbul ǅ ẞ",
    "Привет, собака",
    "كلب على الشاطئ",
    "[CLS] a dog [SEP]",
    "[MASK] [PAD]",
    "a dog and a cat and a dog and a cat and a dog and a cat and a dog and a cat and a dog",
    ".",
    "",
    " ",
]


def tiny():
    """WordPiece as BERT has it, over a few words; with the truncation and the fixed padding that
    published files carry and a reader has to undo."""
    words = "a dog run ##s on the be ##ach . , ! ' [ ] cat and two child ##ren snow ##board ##er ##ing e ##t ##e 犬 x"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words.split()]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding(length=7, pad_id=0, pad_token="[PAD]")
    return tokenizer


def expected(tokenizer, contexts):
    """The ids of every text, cut at each context, without padding."""
    tokenizer.no_padding()
    ids = {}
    for context in contexts:
        tokenizer.enable_truncation(context)
        ids[context] = [e.ids for e in tokenizer.encode_batch(TEXTS)]
    return {"tokenizers": tokenizers.__version__, "texts": TEXTS, "ids": ids}


def write(name, content):
    (OUT / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


OUT.mkdir(parents=True, exist_ok=True)
tiny().save(str(OUT / "wordpiece.json"))
write("wordpiece_ids.json", expected(tiny(), [256, 5]))
if len(sys.argv) > 2:
    write("minilm_ids.json", expected(Tokenizer.from_file(sys.argv[2]), [256, 12]))
