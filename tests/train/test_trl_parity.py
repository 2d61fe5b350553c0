"""Our loss and every gradient equal those of TRL's SFTTrainer on the same rows and weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.runs import make_example, write_base

from sftprep.data.render import prompt_text, render_many
from sftprep.data.tokenizer import load_tokenizer
from sftprep.model.attention import use_packed_attention
from sftprep.model.load import load_model
from sftprep.model.loss import pack_documents, to_device, token_nll
from sftprep.recipe.sections import ModelSection
from sftprep.records import Example

pytest.importorskip("trl")


def rows_for_trl(examples: list[Example], tokenizer: Any) -> list[dict[str, str]]:
    """The same texts as prompt and completion; TRL appends no second end token."""
    rows = []
    for example in examples:
        prompt = prompt_text(example.messages[:1], tokenizer)
        answer = example.messages[1].content + tokenizer.eos_token
        rows.append({"prompt": prompt, "completion": answer})
    return rows


def trl_step(base: Path, rows: list[dict[str, str]], folder: Path, **options: Any) -> Any:
    """Loss and gradients of TRL's first optimiser step, taken before the update."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 1,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "max_length": 256,
        "max_grad_norm": 1e9,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "lr_scheduler_type": "constant",
        **options,
    }
    gradients: dict[str, torch.Tensor] = {}

    class Recording(SFTTrainer):
        """Keeps the gradients that reach the optimiser."""

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            optimizer = super().create_optimizer(*args, **kwargs)

            def keep(*_: Any) -> None:
                for name, weight in self.model.named_parameters():
                    gradients[name] = weight.grad.detach().clone()

            optimizer.register_step_pre_hook(keep)
            return optimizer

    trainer = Recording(
        model=load_model(str(base)),
        args=SFTConfig(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], gradients


def our_step(base: Path, examples: list[Example], parts: int) -> Any:
    """Our loss and gradients over `parts` micro-batches."""
    tokenizer = load_tokenizer(ModelSection(base=str(base)))
    model = load_model(str(base)).train()
    assert use_packed_attention(model)
    rendered = render_many([e.messages for e in examples], tokenizer)
    batches = [
        pack_documents([rendered[i] for i in piece])
        for piece in np.array_split(np.arange(len(rendered)), parts)
    ]
    tokens = sum(b.supervised for b in batches)
    total = 0.0
    for batch in batches:
        nll = token_nll(model, to_device(batch, "cpu")).sum()
        (nll / tokens).backward()  # type: ignore[no-untyped-call]
        total += float(nll.detach())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return total / tokens, gradients


def assert_equal(ours: Any, theirs: Any) -> None:
    """Losses within 1e-5; gradients within 1e-5 of each tensor's largest value."""
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert set(ours[1]) == set(theirs[1])
    for name, gradient in theirs[1].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(ours[1][name], gradient, rtol=0, atol=1e-5 * max(scale, 1e-3))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("parity") / "base")


@pytest.fixture
def rows(base: Path) -> list[dict[str, str]]:
    tokenizer = load_tokenizer(ModelSection(base=str(base)))
    return rows_for_trl([make_example(i) for i in range(8)], tokenizer)


EXAMPLES = [make_example(i) for i in range(8)]


def test_loss_and_gradients_equal_trl(base: Path, rows: Any, tmp_path: Path) -> None:
    theirs = trl_step(base, rows, tmp_path, per_device_train_batch_size=8)
    assert_equal(our_step(base, EXAMPLES, 1), theirs)


def test_accumulated_loss_and_gradients_equal_trl(base: Path, rows: Any, tmp_path: Path) -> None:
    theirs = trl_step(
        base, rows, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    assert_equal(our_step(base, EXAMPLES, 3), theirs)


def test_packed_loss_and_gradients_equal_trl(base: Path, rows: Any, tmp_path: Path) -> None:
    theirs = trl_step(
        base,
        rows,
        tmp_path,
        packing=True,
        packing_strategy="bfd",
        max_length=512,
        per_device_train_batch_size=8,
    )
    assert_equal(our_step(base, EXAMPLES, 1), theirs)
