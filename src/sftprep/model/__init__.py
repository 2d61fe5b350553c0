"""Base models: catalogue, selection, memory plan; loading, packed attention, loss."""
