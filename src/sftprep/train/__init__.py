"""Supervised fine-tuning: schedule, optimiser, red flags, checkpoints, the loop."""
