"""Instruction data: read, check, deduplicate, decontaminate, split, report; render and pack.

Every row that is read ends in the training set, in the validation set or, with all its reasons, in
the rejected file: `read = kept + rejected (by reason) + quarantined + merged`.
"""
