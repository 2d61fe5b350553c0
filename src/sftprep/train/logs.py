"""Logs of a run: steps.jsonl and flags.jsonl (append-only), TensorBoard, and trackers by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from sftprep.errors import CorruptError
from sftprep.records import RedFlag, StepRecord, from_dict, to_json
from sftprep.store.durable import append_line, iterate_jsonl, write_text
from sftprep.store.run import RunFolder
from sftprep.train.trackers import Tracker

T = TypeVar("T")


class Logs:
    """Writers of one run. On resume, lines after the checkpoint's step are cut off.

    `flops_per_token`, `peak_flops`: for the share of the hardware's peak that was used (MFU);
    a peak of 0 is unknown and gives none.
    """

    def __init__(
        self,
        run: RunFolder,
        step: int,
        trackers: Sequence[Tracker] = (),
        *,
        flops_per_token: float = 0.0,
        peak_flops: float = 0.0,
    ) -> None:
        self.run = run
        self.trackers = trackers
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        run.train.mkdir(parents=True, exist_ok=True)
        cut_after(run.steps, step)
        cut_after(run.flags, step)
        cut_after(run.train / "samples.jsonl", step)
        self.board = _board(run.train / "tensorboard", step)

    def step(self, record: StepRecord) -> None:
        """Append one step."""
        append_line(self.run.steps, to_json(record))
        values = self.values(record)
        for name, value in values.items():
            self.board.add_scalar(name, value, record.step)
        for tracker in self.trackers:
            tracker.log(values, record.step)

    def values(self, record: StepRecord) -> dict[str, float]:
        """What the board and the trackers show of a step."""
        rate = _per_second(record.tokens_real, record)
        values = {
            "train/loss_nats": record.loss_nats,
            "train/learning_rate": record.learning_rate,
            "train/grad_norm": record.grad_norm,
            "train/tokens_per_second": rate,
            "train/supervised_tokens_per_second": _per_second(record.tokens_supervised, record),
        }
        if self.peak_flops > 0:
            values["train/mfu"] = rate * self.flops_per_token / self.peak_flops
        if record.memory_bytes is not None:
            values["train/memory_gib"] = record.memory_bytes / 2**30
        if record.validation_loss_nats is not None:
            values["validation/loss_nats"] = record.validation_loss_nats
        if record.sensitivity_nats is not None:
            values["validation/sensitivity_nats"] = record.sensitivity_nats
        return values

    def words(self, record: StepRecord) -> list[str]:
        """Speed, memory and course of a step for the live line."""
        values = self.values(record)
        words = [
            f"{values['train/tokens_per_second']:,.0f} tokens/s",
            f"{values['train/supervised_tokens_per_second']:,.0f} supervised",
        ]
        if "train/mfu" in values:
            words.append(f"MFU {values['train/mfu']:.1%}")
        if "train/memory_gib" in values:
            words.append(f"{values['train/memory_gib']:.2f} GiB")
        return [*words, f"rate {record.learning_rate:.2e}", f"gradient {record.grad_norm:.2f}"]

    def flag(self, flag: RedFlag) -> None:
        """Append one red flag."""
        append_line(self.run.flags, json.dumps(asdict(flag), ensure_ascii=False))
        self.board.add_text("red_flags", f"{flag.id}: {flag.evidence}. {flag.remedy}", flag.step)

    def sample(self, step: int, prompt: str, answer: str) -> None:
        """Append one sample answer."""
        row = {"step": step, "prompt": prompt, "answer": answer}
        append_line(self.run.train / "samples.jsonl", json.dumps(row, ensure_ascii=False))
        self.board.add_text("samples", f"{prompt}\n\n{answer}", step)

    def close(self) -> None:
        """Flush TensorBoard and the trackers."""
        self.board.close()
        for tracker in self.trackers:
            tracker.close()


def _per_second(tokens: int, record: StepRecord) -> float:
    return tokens / record.seconds if record.seconds > 0 else 0.0


def _board(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1 if step else None, flush_secs=30)


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of a step log that belong to steps after `step`."""
    if not path.exists():
        return
    if all(_step(row, path) <= step for row in iterate_jsonl(path)):
        return  # appending cuts off a torn last line
    kept = (row for row in iterate_jsonl(path) if _step(row, path) <= step)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _step(row: Mapping[str, Any], path: Path) -> int:
    step = row.get("step")
    if type(step) is not int:
        raise CorruptError(f"{path}: a line has no step number. Move the file away.")
    return step


def read_steps(path: Path) -> list[StepRecord]:
    """All step records of a log.

    Raises:
        CorruptError: a line is not such a record.
    """
    return _records(StepRecord, path)


def read_flags(path: Path) -> list[RedFlag]:
    """All red flags of a log.

    Raises:
        CorruptError: a line is not such a record.
    """
    return _records(RedFlag, path)


def _records(kind: type[T], path: Path) -> list[T]:
    try:
        return [from_dict(kind, row) for row in iterate_jsonl(path)]
    except (ValueError, TypeError) as error:
        raise CorruptError(
            f"{path}: a line is not a {kind.__name__}. Move the file away."
        ) from error
