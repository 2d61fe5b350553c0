"""Compiled layers: the same losses and gradients, and no compilation after the first batches."""

import pytest
import torch
from tests.model.tiny_models import documents, tiny_model
from torch import Tensor

from sftprep.model.attention import use_packed_attention
from sftprep.model.loss import pack_documents, to_device, token_nll
from sftprep.train.learner import compile_layers

WARM = ((40, 7, 90), (33, 61, 12, 12))
LATER = ((100, 3), (25,) * 9, (64, 50, 50, 8, 2))


def results(compiled: bool, lengths: tuple[tuple[int, ...], ...]) -> list[tuple[Tensor, Tensor]]:
    """NLL and the gradient of the embeddings, batch by batch."""
    model = tiny_model("llama")
    assert use_packed_attention(model)
    if compiled:
        compile_layers(model)
    found = []
    for sizes in lengths:
        nll = token_nll(model, to_device(pack_documents(documents(*sizes)), "cpu"))
        nll.sum().backward()  # type: ignore[no-untyped-call]
        found.append((nll.detach(), model.get_input_embeddings().weight.grad.clone()))
        model.zero_grad()
        if compiled and len(found) == len(WARM):
            torch._dynamo.config.error_on_recompile = True
    return found


@pytest.fixture
def eager_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced and guarded as always, but run without a C++ compiler."""
    import torch._dynamo

    torch._dynamo.reset()
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", False)


@pytest.mark.usefixtures("eager_backend")
def test_other_documents_compile_nothing_anew_and_give_the_same_numbers() -> None:
    plain = results(False, WARM + LATER)
    with torch.compiler.set_stance("default", force_backend="eager"):
        compiled = results(True, WARM + LATER)
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
