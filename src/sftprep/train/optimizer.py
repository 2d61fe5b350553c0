"""AdamW with decay on matrices only, and its state by parameter name."""

import torch
from torch import Tensor, nn

from sftprep.errors import CorruptError
from sftprep.recipe.sections import TrainingSection

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that learn, by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def decays(name: str, weight: Tensor) -> bool:
    """Weight decay is for matrices: never for biases, norms and other vectors."""
    return weight.ndim >= 2 and not name.endswith(".bias") and "norm" not in name.lower()


def build_optimizer(model: nn.Module, section: TrainingSection) -> torch.optim.AdamW:
    """Fused AdamW over two groups. The learning rate is set at each step by the loop."""
    named = trainable(model)
    groups = [
        {
            "params": [p for n, p in named.items() if decays(n, p)],
            "weight_decay": section.weight_decay,
        },
        {"params": [p for n, p in named.items() if not decays(n, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=section.learning_rate,
        betas=(section.adam_beta1, section.adam_beta2),
        fused=True,
    )


def optimizer_tensors(optimizer: torch.optim.AdamW, model: nn.Module) -> dict[str, Tensor]:
    """Moments as a flat table `exp_avg/NAME`; empty before the first update."""
    table: dict[str, Tensor] = {}
    for name, weight in trainable(model).items():
        state = optimizer.state.get(weight, {})
        for moment in MOMENTS:
            if moment in state:
                table[f"{moment}/{name}"] = state[moment].detach().contiguous()
    return table


def restore_optimizer(
    optimizer: torch.optim.AdamW, model: nn.Module, table: dict[str, Tensor]
) -> None:
    """Put saved moments back.

    Raises:
        CorruptError: a moment is missing.
    """
    if not any(key.startswith("exp_avg/") for key in table):
        return  # saved before the first update
    for name, weight in trainable(model).items():
        try:
            state = {moment: table[f"{moment}/{name}"] for moment in MOMENTS}
        except KeyError as error:
            raise CorruptError(f"the optimiser state lacks {error}.") from error
        optimizer.state[weight] = {
            "step": state["step"].to(weight.device if weight.is_cuda else "cpu"),
            "exp_avg": state["exp_avg"].to(weight.device),
            "exp_avg_sq": state["exp_avg_sq"].to(weight.device),
        }
