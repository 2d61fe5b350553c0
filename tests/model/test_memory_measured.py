"""The memory formula against what torch's allocator holds for a real micro-batch on a CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from sftprep.data.render import Rendered
from sftprep.model.attention import use_packed_attention
from sftprep.model.hardware import cpu_from_info
from sftprep.model.job import Job, Method
from sftprep.model.loss import DeviceBatch, pack_documents, to_device, token_nll
from sftprep.model.memory import memory_need
from sftprep.model.padding import SHORT_TOKENS, groups_of
from sftprep.model.shape import shape_of

LENGTHS = (240, 215, 180, 150, 122, 100, 85, 60)  # few and short: padded, with scores kept
RANK = 8


def model_and_config(method: Method, *, checkpointing: bool) -> tuple[Any, LlamaConfig]:
    config = LlamaConfig(
        num_hidden_layers=4, hidden_size=128, intermediate_size=344, vocab_size=512,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    core = LlamaForCausalLM(config)
    assert use_packed_attention(core)
    if checkpointing:
        core.activation_checkpointing_enable({"use_reentrant": False})
    if method == "full":
        return core.train(), config
    peft = pytest.importorskip("peft")
    if checkpointing:
        core.enable_input_require_grads()
    adapters = peft.LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(core, adapters).train(), config


def micro_batch() -> DeviceBatch:
    """Documents of LENGTHS, two thirds of each supervised."""
    random = np.random.default_rng(0)
    documents = []
    for length in LENGTHS:
        supervised = np.arange(length) >= length // 3
        documents.append(Rendered(random.integers(3, 500, length, np.int32), supervised))
    return to_device(pack_documents(documents), "cpu")


def allocator_peak(model: Any, batch: DeviceBatch) -> int:
    """Bytes held at most during forward and backward, beside the weights."""
    token_nll(model, batch).sum().backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        token_nll(model, batch).sum().backward()  # type: ignore[no-untyped-call]
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return int(np.cumsum([change for _, change in changes]).max())


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_formula_follows_the_tensors(method: Method, checkpointing: bool) -> None:
    model, config = model_and_config(method, checkpointing=checkpointing)
    batch, shape = micro_batch(), shape_of(config.to_dict())
    groups = groups_of(LENGTHS)
    assert all(longest <= SHORT_TOKENS for _, longest in groups)
    job = Job(
        shape, shape.parameters, method, "fp32", 1, batch.tokens, checkpointing, RANK,
        supervised=batch.supervised / batch.tokens,
        places=sum(count * longest for count, longest in groups) / batch.tokens,
        score_span=sum(count * longest**2 for count, longest in groups) / batch.tokens,
    )  # fmt: skip
    need = memory_need(job, cpu_from_info("", cores=1, memory=1 << 34))
    planned = need.tensors - need.weights - need.optimiser
    assert planned == pytest.approx(allocator_peak(model, batch), rel=0.08)
