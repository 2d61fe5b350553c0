"""Measuring a model on disk: never imports the training room."""
