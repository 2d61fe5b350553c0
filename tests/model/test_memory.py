"""Memory of a training step against published figures and sums done by hand."""

from dataclasses import replace

import pytest
from tests.model.jobs import H100, LLAMA, job, shape_named

from sftprep.model.activations import (
    LOGITS_CACHE_VALUES,
    LOGITS_CHUNK_VALUES,
    activation_bytes,
    activation_bytes_per_token,
    head_work_bytes,
    layer_work_bytes,
    logits_bytes,
)
from sftprep.model.hardware import GIB, parse_hardware
from sftprep.model.job import Job
from sftprep.model.memory import fits, memory_need
from sftprep.model.settings import job_for
from sftprep.recipe.sections import TrainingSection


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_seven_billion_weights_with_adamw_need_112_gb_before_activations(precision: str) -> None:
    # Rajbhandari et al. 2020, section 3.1: 16 bytes per weight. Here 4 + 4 + 8 in either precision,
    # the fp32 weights being the masters.
    need = memory_need(job(parameters=7_000_000_000, precision=precision), H100)
    assert need.states == 112_000_000_000


def test_the_parts_of_112_gb_are_named() -> None:
    need = memory_need(job(parameters=7_000_000_000), H100)
    parts = (need.weights, need.gradients, need.masters, need.optimiser)
    assert parts == (28_000_000_000, 28_000_000_000, 0, 56_000_000_000)
    assert need.casts == 14_000_000_000  # every weight once more in bf16 while a step runs


def test_a_1_5b_model_needs_the_published_24_gb_of_states() -> None:
    # Rajbhandari et al. 2020, section 3.1: GPT-2 with 1.5B parameters, at least 24 GB.
    small = job(parameters=1_500_000_000)
    assert memory_need(small, H100).states == 24_000_000_000


def test_64_way_sharding_gives_the_published_1_9_gb_for_7_5b() -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5B parameters, 120 GB, over 64 devices 1.9 GB.
    need = memory_need(job(parameters=7_500_000_000, shards=64), parse_hardware("64xA100"))
    assert round(need.states / 1e9, 1) == 1.9


def test_lora_trains_only_its_adapters() -> None:
    # 4 bytes for each frozen weight, 16 for each of the 39,976,960 adapter weights.
    need = memory_need(job(method="lora"), H100)
    assert need.states == 4 * 6_738_415_616 + 16 * 39_976_960


def test_a_4_bit_base_makes_65b_fit_48_gb_as_published() -> None:
    # Dettmers et al. 2023 (QLoRA), abstract: 65B on a single 48 GB GPU; section 3: 4.127 bits a
    # weight. Llama-2-70B has 524,296,192 weights outside its layers, which stay fp32.
    shape = shape_named("meta-llama/Llama-2-70b-hf")
    small = Job(shape, shape.parameters, "lora", "bf16", 1, 512, True, four_bit=True, lora_rank=16)
    need = memory_need(small, parse_hardware("1xA6000"))
    outside = 524_296_192
    frozen = 4.127 / 8 * (68_976_648_192 - outside) + 4 * outside
    assert need.weights == pytest.approx(frozen + 4 * small.trained)
    assert fits(need, parse_hardware("1xA6000")) is True


def test_8_bit_moments_take_two_bytes_of_each_trained_weight() -> None:
    need = memory_need(job(moment_bytes=2), H100)
    assert need.optimiser == 2 * 6_738_415_616


def test_the_recipes_memory_savers_reach_the_plan() -> None:
    training = TrainingSection(optimizer="adamw_8bit", method="lora", lora_base_4bit=True)
    found, _, _ = job_for(LLAMA, LLAMA.parameters, training, H100)
    assert (found.moment_bytes, found.four_bit) == (2, True)


def test_sharding_divides_the_states_and_nothing_else() -> None:
    eight = parse_hardware("8xH100-80GB")
    whole, part = (memory_need(job(shards=n), eight) for n in (1, 8))
    assert part.states == whole.states // 8
    assert (part.activations, part.logits) == (whole.activations, whole.logits)


def test_fsdp_holds_two_gathered_layers_and_what_lies_outside() -> None:
    eight = parse_hardware("8xH100-80GB")
    plain = memory_need(job(), H100)
    part = memory_need(job(shards=8), eight)
    # One layer of Llama-2-7B: 4 x 4096^2 + 3 x 4096 x 11008 + 2 x 4096 weights of 4 bytes.
    layer = 4 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096)
    outside = 4 * (2 * 32000 * 4096 + 4096)
    lost = 0.05 * part.tensors
    assert part.buffers == pytest.approx(1.5 * GIB + lost + 2 * layer + outside, abs=2)
    assert plain.buffers == pytest.approx(1.5 * GIB + 0.05 * plain.tensors, abs=2)


def test_ddp_adds_one_flat_bucket_of_gradients() -> None:
    one = memory_need(job(), H100)
    two = memory_need(job(), parse_hardware("2xH100-80GB"))
    assert two.buffers - one.buffers == 64 << 20


def test_the_bucket_is_that_of_the_trainer() -> None:
    from sftprep.model.memory import DDP_BUCKET_BYTES
    from sftprep.train.distributed import BUCKET_BYTES

    assert DDP_BUCKET_BYTES == BUCKET_BYTES


def test_activations_of_one_layer_are_counted_by_hand() -> None:
    # Llama-2-7B per token in fp32: two norms of input, normalised value and output (6 x 4096),
    # queries, keys, values and the attention's output (4 x 4096), feed-forward 4 x 11008.
    values = 6 * 4096 + 4 * 4096 + 4 * 11008
    assert activation_bytes_per_token(LLAMA, "fp32") == 4 * values
    # bf16: norms stay fp32 (2 x 2 values) and five maps keep a 16-bit copy of their input.
    assert activation_bytes_per_token(LLAMA, "bf16") == (16 + 10) * 4096 + 2 * (
        4 * 4096 + 4 * 11008
    )


def test_activations_agree_with_the_published_rule_of_34_h() -> None:
    # Korthikanti et al. 2022: 34 h bytes per token and layer (their feed-forward is 4h, ungated,
    # with LayerNorm and dropout masks).
    shape = replace(LLAMA, gated_mlp=False, ffn=4 * LLAMA.hidden, norm_bias=True)
    assert 0.9 < activation_bytes_per_token(shape, "bf16") / (34 * shape.hidden) < 1.3


def test_activations_grow_with_rows_and_length() -> None:
    assert activation_bytes(job(rows=16)) == 2 * activation_bytes(job(rows=8))
    assert activation_bytes(job(length=1024)) * 2 == activation_bytes(job(length=2048))


def test_pieces_of_a_micro_batch_are_held_one_after_another() -> None:
    whole, cut = job(), job(piece=4096)
    assert (whole.tokens, whole.passes) == (8 * 2048, 1)
    assert (cut.tokens, cut.passes) == (4096, 4)
    assert activation_bytes(cut) == activation_bytes(whole) // 4
    assert job(piece=1000).tokens == 2048  # a document is never cut


def test_gradients_of_earlier_pieces_are_there_at_the_peak() -> None:
    cut = job(piece=4096)
    alike = job(rows=2, accumulation=4)
    assert memory_need(cut, H100) == memory_need(alike, H100)


def test_checkpointing_keeps_one_input_per_layer_and_one_layer() -> None:
    tokens = 8 * 2048
    layer = activation_bytes_per_token(LLAMA, "bf16")
    final = 3 * 4 * 4096
    expected = tokens * (4 * 4096 * 32 + layer + final)
    assert activation_bytes(job(checkpointing=True)) == expected


def test_gradients_and_activations_are_not_held_at_once() -> None:
    # One micro-batch: gradients appear as activations go; the begin of backward is the larger end.
    need = memory_need(job(precision="fp32"), H100)
    assert need.overlap == need.gradients
    # With two micro-batches the gradients of the first are there while the second runs.
    twice = memory_need(job(precision="fp32", accumulation=2), H100)
    assert twice.overlap == 0
    assert twice.tensors == need.tensors + need.gradients


def test_documents_of_unequal_length_are_padded_for_attention() -> None:
    # Queries, keys, values and output (4 x 4096) with half as much padding, and the output again.
    more = activation_bytes_per_token(LLAMA, "fp32", places=1.5)
    assert more - activation_bytes_per_token(LLAMA, "fp32") == 4 * (2 * 4096 + 4096)


def test_short_documents_keep_their_scores_on_a_cpu() -> None:
    # 32 heads, 100 scores a token, 4 bytes.
    padded = activation_bytes_per_token(LLAMA, "fp32", places=1.5)
    more = activation_bytes_per_token(LLAMA, "fp32", places=1.5, score_span=100)
    assert more - padded == 4 * 32 * 100


def test_adapters_keep_one_value_per_rank_and_map() -> None:
    # Seven maps of a block, rank 16, 4 bytes.
    plain = activation_bytes_per_token(LLAMA, "fp32", "lora")
    assert activation_bytes_per_token(LLAMA, "fp32", "lora", lora_rank=16) - plain == 4 * 7 * 16


def test_only_supervised_positions_have_logits() -> None:
    whole = job(rows=1, length=512)
    half = replace(whole, supervised=0.5)
    assert logits_bytes(whole) == 512 * 32000 * 2
    assert logits_bytes(replace(whole, precision="fp32")) == 512 * 32000 * 4
    assert logits_bytes(half) == logits_bytes(whole) // 2


def test_the_sizes_of_the_head_are_those_of_the_loss() -> None:
    from sftprep.model.head import CACHE_VALUES, CHUNK_VALUES

    assert (LOGITS_CHUNK_VALUES, LOGITS_CACHE_VALUES) == (CHUNK_VALUES, CACHE_VALUES)


def test_the_head_holds_logits_two_pieces_its_input_and_its_gradient() -> None:
    # 1,024 supervised tokens, 32,000 logits each in fp32; the input and its gradient; on a CPU two
    # pieces of 2^20 values, of which the second gives way to the head's own gradient.
    one = job(rows=1, length=1024, precision="fp32")
    logits, inputs, piece = 1024 * 32000 * 4, 2 * 4 * 1024 * 4096, 4 << 20
    gradient = 4 * 32000 * 4096
    assert head_work_bytes(one, on_cpu=True) == logits + inputs + piece + gradient
    frozen = replace(one, method="lora")
    assert head_work_bytes(frozen, on_cpu=True) == logits + inputs + 2 * piece
    # A GPU turns all rows of a chunk into float32 at once.
    assert head_work_bytes(frozen, on_cpu=False) == 2 * logits + inputs


def test_the_last_layers_backward_adds_gradients_of_its_values() -> None:
    # Per token two of the feed-forward width and two of the hidden width; the map that ends the
    # layer; and the head's gradient, which is there already.
    one = job(rows=1, length=100, precision="fp32")
    values = 100 * 2 * (11008 + 4096)
    assert layer_work_bytes(one) == 4 * (values + 11008 * 4096 + 32000 * 4096)


def test_a_7b_full_run_fits_an_h200_only_with_checkpointing() -> None:
    h200 = parse_hardware("1xH200")
    assert fits(memory_need(job(checkpointing=True), h200), h200) is True
    assert fits(memory_need(job(), h200), h200) is False
    assert fits(memory_need(job(checkpointing=True), H100), H100) is False
