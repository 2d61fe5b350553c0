"""Pre-train the starter base model from nothing, on a CPU.

    python scripts/starter/pretrain.py --out src/sftprep/starter/model --seed 0

Writes model.safetensors (bfloat16), config.json, generation_config.json, tokenizer.json,
tokenizer_config.json and pretrain_log.jsonl. Needs about 40 minutes on two cores with AMX.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vocabulary import VOCABULARY, save_tokenizer, train_tokenizer

from sftprep.starter.text import documents

# B = rows of a batch, T = tokens of a row, D = width, V = vocabulary.
ROW_TOKENS = 256
LONG_ROW_TOKENS = 512  # the last LONG_SHARE of the steps, so that positions up to 511 are known
LONG_SHARE = 0.12
BATCH_TOKENS = 2048
CHUNK_DOCUMENTS = 1_000
HELD_OUT_SEED_OFFSET = 1_000_003
HELD_OUT_BATCHES = 16
INITIAL_STD, EMBEDDING_STD = 0.03, 0.05
EMBEDDING_RATE = 0.4  # of the peak rate; measured: see docs/starter.md
SPREAD = 4.0
CONTEXT = LONG_ROW_TOKENS


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """1.76M parameters: five layers of width 160, tied embeddings."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=160,
        num_hidden_layers=5,
        intermediate_size=384,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=INITIAL_STD,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()  # the residual stream starts as the embedding alone
            elif "embed" in name:
                parameter.mul_(EMBEDDING_STD / INITIAL_STD)
    # Backward through the fused attention kernel is 2.5 times slower on this CPU (0.45 s against
    # 0.17 s for a batch of 16 rows of 256 tokens).
    model.set_attn_implementation("eager")
    return model


class TokenStream:
    """The documents of one seed as an endless row of ids: BOS document EOS BOS document EOS ..."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, easy: int = 0) -> None:
        self._tokenizer = tokenizer
        self._documents = documents(seed, easy)
        self._ids: list[int] = []

    def batch(self, row_tokens: int) -> Tensor:
        """The next BATCH_TOKENS ids as rows of `row_tokens`, int64."""
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        while len(self._ids) < BATCH_TOKENS:
            texts = list(itertools.islice(self._documents, CHUNK_DOCUMENTS))
            for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]:
                self._ids += [bos, *ids, eos]
        taken, self._ids = self._ids[:BATCH_TOKENS], self._ids[BATCH_TOKENS:]
        return torch.tensor(taken).view(-1, row_tokens)


def spread_scales(model: LlamaForCausalLM) -> None:
    """Multiply what writes the residual stream by SPREAD, divide the last norm by it.

    The function stays the same (a power of two is exact). But a step of AdamW, whose size does
    not depend on the weight's, now moves an embedding SPREAD times less. In fine-tuning the rows
    of words that never occur as a target are only ever pushed away; measured without this at
    learning rate 2e-3: 70% right on training prompts, 10% on prompts of words held out.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")) or "embed" in name:
                parameter.mul_(SPREAD)
            elif name == "model.norm.weight":
                parameter.div_(SPREAD)


def document_mask(ids_BT: Tensor, bos: int) -> tuple[Tensor, Tensor]:
    """Additive mask [B, 1, T, T] that keeps a token inside its document, and its positions [B, T].

    Without it the model must first learn where its document begins; measured, it then had not
    learned to copy a word from its context after 2.5M tokens.
    """
    begins_BT = ids_BT == bos
    document_BT = begins_BT.cumsum(1)
    places_T = torch.arange(ids_BT.shape[1])
    start_BT = torch.where(begins_BT, places_T, 0).cummax(1).values
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    seen_BTT = same_BTT & (places_T[:, None] >= places_T[None, :])
    mask_BTT = torch.zeros(seen_BTT.shape).masked_fill(~seen_BTT, torch.finfo(torch.bfloat16).min)
    return mask_BTT[:, None], places_T - start_BT


def mean_loss(model: LlamaForCausalLM, ids_BT: Tensor, mask: Tensor, places_BT: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats; every row has the same number of tokens."""
    hidden_BTD = model.model(
        input_ids=ids_BT, attention_mask=mask, position_ids=places_BT, use_cache=False
    ).last_hidden_state
    logits_BTV = hidden_BTD @ model.lm_head.weight.t()
    return cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), ids_BT[:, 1:].flatten())


def echo_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    """Mean loss in nats on the second half of a repeated list: has it learned to copy?"""
    line = "fox, lamp, bus, pear"
    head = [tokenizer.bos_token_id, *tokenizer(f"{line}\n")["input_ids"]]
    tail = tokenizer(line)["input_ids"]
    with torch.no_grad():
        logits_TV = model(torch.tensor([head + tail])).logits[0].float()
    return cross_entropy(logits_TV[len(head) - 1 : -1], torch.tensor(tail)).item()


def build_optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in named if not (p.ndim == 2 and "embed" not in n)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            others, lr=EMBEDDING_RATE * rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def rate_at(done: float) -> float:
    """Share of the peak rate: 1% warm-up, then linear to zero."""
    return min(1.0, done / 0.01, 1.0 - done)


@dataclass(frozen=True)
class Phase:
    """One stretch of training: its number of steps, its peak rate, its number of easy documents."""

    steps: int
    peak_rate: float
    easy_documents: int = 0


# Two phases because the first was judged by fine-tuning before the second was planned; see
# docs/starter.md. Each starts with a fresh optimizer and ends at rate zero.
PHASES = (Phase(1629, 8e-3, 40_000), Phase(3606, 5e-3))


@dataclass
class Run:
    """What changes while the model is trained through one phase."""

    model: LlamaForCausalLM
    optimizers: list[torch.optim.Optimizer]
    loss_of: Callable[[LlamaForCausalLM, Tensor, Tensor, Tensor], Tensor]
    stream: TokenStream
    phase: Phase
    step: int = 0
    loss_nats: float | None = None  # running mean, 5% weight on the newest step

    def advance(self) -> None:
        """One step."""
        done = self.step / self.phase.steps
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("peak", group["lr"])
                group["lr"] = group["peak"] * rate_at(max(done, 1e-4))
        long = done >= 1.0 - LONG_SHARE
        batch_BT = self.stream.batch(LONG_ROW_TOKENS if long else ROW_TOKENS)
        mask, places_BT = document_mask(batch_BT, self.model.config.bos_token_id)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.loss_of(self.model, batch_BT, mask, places_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        nats = loss.item()
        self.loss_nats = nats if self.loss_nats is None else 0.95 * self.loss_nats + 0.05 * nats
        self.step += 1


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> float:
    """Mean loss in nats on documents of another seed."""
    stream = TokenStream(tokenizer, seed + HELD_OUT_SEED_OFFSET)
    with torch.no_grad():
        batches = [stream.batch(ROW_TOKENS) for _ in range(HELD_OUT_BATCHES)]
        bos = model.config.bos_token_id
        losses = [mean_loss(model, ids, *document_mask(ids, bos)) for ids in batches]
    return torch.stack(losses).mean().item()


def pretrain(out: Path, seed: int, share: float) -> None:
    """Train through all phases, each shortened to `share` of its steps, and write the folder."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    tokenizer = train_tokenizer(seed)
    out.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, out)
    model = build_model(tokenizer)
    loss_of = torch.compile(mean_loss, dynamic=False)
    start = time.monotonic()
    with (out / "pretrain_log.jsonl").open("w") as log:

        def record(**entry: float | int | None) -> None:
            line = json.dumps({**entry, "seconds": round(time.monotonic() - start, 1)})
            print(line, file=log, flush=True)
            print(line, flush=True)

        for number, planned in enumerate(PHASES):
            phase = replace(planned, steps=max(1, int(share * planned.steps)))
            stream = TokenStream(tokenizer, seed + number, phase.easy_documents)
            run = Run(model, build_optimizers(model, phase.peak_rate), loss_of, stream, phase)
            parameters = sum(p.numel() for p in model.parameters())
            record(seed=seed + number, parameters=parameters, rate=phase.peak_rate)
            while run.step < phase.steps:
                run.advance()
                if run.step % 25 == 0:
                    echo = round(echo_loss(model, tokenizer), 3)
                    loss = round(run.loss_nats or math.nan, 4)
                    record(step=run.step, loss_nats=loss, echo_nats=echo)
            held_out = round(held_out_loss(model, tokenizer, seed), 4)
            tokens = run.step * BATCH_TOKENS
            record(step=run.step, tokens=tokens, held_out_loss_nats=held_out)
    spread_scales(model)
    model.bfloat16().save_pretrained(out, safe_serialization=True)


def main() -> None:
    """Parse the command line and pre-train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, for a trial")
    options = parser.parse_args()
    torch.set_num_threads(2)
    pretrain(options.out, options.seed, options.share)


if __name__ == "__main__":
    main()
