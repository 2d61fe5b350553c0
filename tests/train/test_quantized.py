"""What bitsandbytes can show without a GPU: 4-bit bases under adapters, and 8-bit moments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.runs import recipe_for, write_base
from torch import nn

from sftprep.data.tokenizer import load_tokenizer
from sftprep.model.load import load_model
from sftprep.train.export import merged_weights, write_model
from sftprep.train.lora import add_adapters
from sftprep.train.optimizer import optimizer_tensors, restore_optimizer

pytest.importorskip("bitsandbytes")
IDS = torch.arange(4, 60)[None]


def dequantised(four_bit: Any, base: Path) -> Any:
    """The base in float32 with the weights that 4 bits stand for."""
    from bitsandbytes.functional import dequantize_4bit

    plain = load_model(str(base))
    for name, module in four_bit.named_modules():
        if hasattr(getattr(module, "weight", None), "quant_state"):
            weight = dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.get_submodule(name).weight.data.copy_(weight)
    return plain


def adapted(base: Path) -> tuple[Any, Any]:
    """The same adapters on a 4-bit base and on what it stands for in float32."""
    section = recipe_for(base, method="lora", lora_rank=4).training
    four_bit = load_model(str(base), four_bit=True)
    plain = dequantised(four_bit, base)
    pair = add_adapters(four_bit, section), add_adapters(plain, section)
    generator = torch.Generator().manual_seed(0)
    for one, other in zip(*(m.parameters() for m in pair), strict=True):
        if one.requires_grad:
            one.data.normal_(std=0.05, generator=generator)
            other.data.copy_(one.data)
    return pair


def test_gradients_on_a_four_bit_base_are_those_of_the_weights_it_stands_for(
    tmp_path: Path,
) -> None:
    pair = adapted(write_base(tmp_path / "base"))
    for model in pair:
        # outside training, bitsandbytes repacks weights on some CPUs and has no derivative then
        model.train()
        model(input_ids=IDS, labels=IDS).loss.backward()
    four_bit, plain = (
        {n: p.grad for n, p in m.named_parameters() if p.requires_grad} for m in pair
    )
    assert len(plain) == 2 * 7 * 2  # layers x linear layers x (A, B)
    for name, gradient in plain.items():
        # 4-bit layers compute in bfloat16, which keeps 8 bits: 0.4 % a value
        assert (four_bit[name] - gradient).norm() < 0.02 * gradient.norm(), name


def test_the_export_of_a_four_bit_base_is_its_merged_float32_model(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    four_bit, plain = adapted(base)
    weights = merged_weights(four_bit.get_base_model())
    expected = merged_weights(plain.get_base_model())
    assert set(weights) == set(expected)
    folder = tmp_path / "export"
    write_model(folder, four_bit, load_tokenizer(recipe_for(base).model), torch.float32, weights)
    written = load_file(folder / "model.safetensors")
    for name, weight in written.items():
        assert torch.equal(weight, expected[name]), name
    with torch.no_grad():
        merged = load_model(str(folder))(IDS).logits
        torch.testing.assert_close(merged, plain.eval()(IDS).logits, rtol=0, atol=1e-5)


def train_eight_bit(layer: nn.Linear, optimizer: Any, steps: int) -> None:
    inputs = torch.ones(4, 256)
    for _ in range(steps):
        (layer(inputs) - 3).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_eight_bit_moments_learn_and_continue_bit_for_bit() -> None:
    from bitsandbytes.optim import AdamW8bit

    torch.manual_seed(0)
    straight = nn.Linear(256, 256)  # 65,536 values: smaller tensors keep 32-bit moments
    stopped = nn.Linear(256, 256)
    stopped.load_state_dict(straight.state_dict())
    first = AdamW8bit(straight.parameters(), lr=1e-2)
    train_eight_bit(straight, first, 20)
    assert {
        t.dtype for t in first.state[straight.weight].values() if isinstance(t, torch.Tensor)
    } == {
        torch.uint8,
        torch.float32,
    }
    second = AdamW8bit(stopped.parameters(), lr=1e-2)
    train_eight_bit(stopped, second, 8)
    table = {name: tensor.clone() for name, tensor in optimizer_tensors(second, stopped).items()}
    third = AdamW8bit(stopped.parameters(), lr=1e-2)
    restore_optimizer(third, stopped, table)
    train_eight_bit(stopped, third, 12)
    assert torch.equal(stopped.weight, straight.weight)
    with torch.no_grad():
        assert float((straight(torch.ones(1, 256)) - 3).abs().mean()) < 0.5
