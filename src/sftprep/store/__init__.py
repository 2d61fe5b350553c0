"""Durable writes, locks, fingerprints and the run folder: the only state sftprep keeps."""
