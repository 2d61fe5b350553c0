"""Keys and values of the rows being written: one slot per row, each at its own length.

Shapes: S slots, H key/value heads, C capacity in tokens, D head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sftprep.evaluate.rows import Prefix, PrefixCache

GROW_TOKENS = 128
"""Capacity grows in steps of at least this many tokens."""


class SlotCache(DynamicCache):  # type: ignore[misc]
    """A cache whose rows have different lengths; finished rows are overwritten by new prompts."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.capacity = 0
        self.keys_SHCD: list[Tensor] = []
        self.values_SHCD: list[Tensor] = []
        self.rows = torch.arange(slots)
        self.lengths: Tensor | None = None
        self.visible = 0

    def begin_step(self, lengths_S: Tensor, visible: int) -> None:
        """Announce where this step's token of each slot goes: behind `lengths_S` earlier ones.

        Args:
            visible: the largest of them plus one; known to the caller without asking the device.
        """
        self.lengths = lengths_S
        self.visible = visible
        self.reserve(visible)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token per slot; what the layer attends to, [S, H, visible, D]."""
        keys, values = self.keys_SHCD[layer_idx], self.values_SHCD[layer_idx]
        keys[self.rows, :, self.lengths] = key_states[:, :, 0]
        values[self.rows, :, self.lengths] = value_states[:, :, 0]
        return keys[:, :, : self.visible], values[:, :, : self.visible]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this step in the longest slot."""
        return max(0, self.visible - 1)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self.visible, 0

    def reserve(self, tokens: int) -> None:
        """Make room for rows of `tokens` tokens."""
        if tokens <= self.capacity or not self.keys_SHCD:
            return
        grown = max(tokens, self.capacity + GROW_TOKENS)
        for stored in (self.keys_SHCD, self.values_SHCD):
            for index, old in enumerate(stored):
                new = old.new_zeros(self.slots, old.shape[1], grown, old.shape[3])
                new[:, :, : self.capacity] = old
                stored[index] = new
        self.capacity = grown

    def fill(self, slots: Sequence[int], states: Sequence[tuple[Tensor, Tensor]], at: int) -> None:
        """Put the states of new prompts ([rows or 1, H, tokens, D] per layer) into slots.

        Args:
            at: token position of the first state.
        """
        tokens = states[0][0].shape[2]
        if not self.keys_SHCD:
            self.capacity = at + tokens + GROW_TOKENS
            for key, value in states:
                shape = (self.slots, key.shape[1], self.capacity)
                self.keys_SHCD.append(key.new_zeros(*shape, key.shape[3]))
                self.values_SHCD.append(value.new_zeros(*shape, value.shape[3]))
            self.rows = self.rows.to(states[0][0].device)
        self.reserve(at + tokens)
        index = torch.as_tensor(slots, device=self.rows.device)
        for layer, (key, value) in enumerate(states):
            self.keys_SHCD[layer][index, :, at : at + tokens] = key
            self.values_SHCD[layer][index, :, at : at + tokens] = value

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all other slots; the kept ones are renumbered in the given order."""
        index = torch.as_tensor(slots, device=self.rows.device)
        self.keys_SHCD = [keys[index] for keys in self.keys_SHCD]
        self.values_SHCD = [values[index] for values in self.values_SHCD]
        self.slots = len(slots)
        self.rows = self.rows[: self.slots]


class RecordingCache(PrefixCache):
    """A prefix that also remembers what each layer computed behind it."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__(prefix)
        self.recorded: list[tuple[Tensor, Tensor]] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Prefix and new states of one layer; the new ones are recorded."""
        assert layer_idx == len(self.recorded)
        self.recorded.append((key_states, value_states))
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)
