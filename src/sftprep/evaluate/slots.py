"""Keys and values of the rows being written: one slot per row, each at its own length.

Shapes: S slots, R of them at work, H key/value heads, C capacity in tokens, D head size.
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
    """A cache whose rows have different lengths. The first slots are at work, the others free.

    A finished row is overwritten by the last one at work, so no step computes an idle slot.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.capacity = 0
        self.keys_SHCD: list[Tensor] = []
        self.values_SHCD: list[Tensor] = []
        self.rows = torch.arange(slots)
        self.lengths: Tensor | None = None
        self.visible = 0

    def begin_step(self, lengths_R: Tensor, visible: int) -> None:
        """Announce where this step's token of each row goes: behind `lengths_R` earlier ones.

        Args:
            lengths_R: of the R first slots; the others rest.
            visible: the largest of them plus one; known to the caller without asking the device.
        """
        self.lengths = lengths_R
        self.visible = visible
        self.reserve(visible)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token per row; what the layer attends to, [R, H, visible, D]."""
        keys, values = self.keys_SHCD[layer_idx], self.values_SHCD[layer_idx]
        count = key_states.shape[0]
        keys[self.rows[:count], :, self.lengths] = key_states[:, :, 0]
        values[self.rows[:count], :, self.lengths] = value_states[:, :, 0]
        return keys[:count, :, : self.visible], values[:count, :, : self.visible]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this step in the longest slot."""
        return max(0, self.visible - 1)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Length and offset of the keys."""
        return self.visible, 0

    def keep(self, slots: int) -> None:
        """No more rows than these will come: the next time room is made, it is made for them."""
        self.slots = slots

    def reserve(self, tokens: int) -> None:
        """Make room for rows of `tokens` tokens."""
        if tokens <= self.capacity or not self.keys_SHCD:
            return
        grown = max(tokens, self.capacity + GROW_TOKENS)
        for stored in (self.keys_SHCD, self.values_SHCD):
            for index, old in enumerate(stored):
                new = old.new_zeros(self.slots, old.shape[1], grown, old.shape[3])
                new[:, :, : self.capacity] = old[: self.slots]
                stored[index] = new
        self.capacity = grown

    def fill(
        self, first: int, count: int, states: Sequence[tuple[Tensor, Tensor]], at: int
    ) -> None:
        """Put the states of new prompts ([count or 1, H, tokens, D] per layer) into slots.

        Args:
            first: the first of `count` neighbouring slots.
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
        for layer, (key, value) in enumerate(states):
            self.keys_SHCD[layer][first : first + count, :, at : at + tokens] = key
            self.values_SHCD[layer][first : first + count, :, at : at + tokens] = value

    def move(self, source: int, target: int, tokens: int) -> None:
        """Overwrite a slot with the `tokens` first states of another."""
        for stored in (*self.keys_SHCD, *self.values_SHCD):
            stored[target, :, :tokens] = stored[source, :, :tokens]


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
