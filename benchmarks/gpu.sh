#!/usr/bin/env bash
# Training speed on one NVIDIA GPU: random-weight Llama shapes of 0.5B, 1.2B and 8B, bf16, rows packed
# to 2048, against TRL tuned (packed, flash attention, two workers, checkpointing off), then a profile
# of our step. Not run so far: no GPU was at hand. Needs sftprep[test] and a CUDA build of torch; the
# 8B shape needs sftprep[quantized] and an H200 (weights, gradients and 8-bit moments: 80 GB).
#
#   benchmarks/gpu.sh 989 [rows.json]        # bf16 peak of the GPU in TFLOP/s: H100, H200 989
#
# ONLY=1.2B takes one shape. Without a network: TRL_ATTENTION=flash_attention_2, or sdpa (slow masks).
set -euo pipefail
cd "$(dirname "$0")/.."
PEAK=${1:?give the bf16 peak of the GPU in TFLOP/s}
DATA=${2:+--data $2}
ATTENTION=${TRL_ATTENTION:-kernels-community/vllm-flash-attn3}
COMMON="--device cuda --precision bf16 --shape packed --max-length 2048 --rows 6000 $DATA"
# Shapes of Qwen2.5-0.5B, Llama-3.2-1B and Llama-3.1-8B. At 8B no fp32 loss curves: they do not fit.
while read -r name shape; do
    [[ -n ${ONLY:-} && $ONLY != "$name" ]] && continue
    echo "== $name"
    extra=
    [[ $name == 8B ]] && extra=--no-curves
    # shellcheck disable=SC2086
    python benchmarks/train.py $COMMON $shape $extra --rounds 3 --steps 15 \
        --against packed --trl-attention "$ATTENTION" --peak-tflops "$PEAK"
    # shellcheck disable=SC2086
    python benchmarks/gpu_profile.py $COMMON $shape
done <<TABLE
0.5B --hidden 896 --layers 24 --intermediate 4864 --heads 14 --kv-heads 2 --vocabulary 151936 --batch 16
1.2B --hidden 2048 --layers 16 --intermediate 8192 --heads 32 --kv-heads 8 --vocabulary 128256 --batch 8
8B --hidden 4096 --layers 32 --intermediate 14336 --heads 32 --kv-heads 8 --vocabulary 128256 --untied --batch 2 --accumulation 4 --optimizer adamw_8bit
TABLE
