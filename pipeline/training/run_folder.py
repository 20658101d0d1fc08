"""The folder of a distillation run: its record, its checkpoints, and the student it ends in."""

import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from pipeline.foundation import atomic
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.loading import load_tokenizer
from pipeline.models.student import Student

Resume = Literal["auto", "never", "always"]


class RunFolder:
    """One run's folder: `run.json`, `metrics.jsonl`, `checkpoints/`, `student/`, `README.md`.

    A context: one process at a time may write there.

    Args:
        path: where it is, or is to be.
    """

    def __init__(self, path: Path) -> None:
        self._lock = ExitStack()
        self._locked = False
        self.path = path
        self.record_file = path / "run.json"
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "checkpoints" / "tokenizer"
        self.student = path / "student"

    def record(self) -> dict[str, Any] | None:
        """The record of the run that is here, if any.

        Raises:
            SpeechkdError: it is damaged.
        """
        if not self.record_file.exists():
            return None
        try:
            found: dict[str, Any] = parse_json(read_text_file(self.record_file))
            _ = found["identity"], found["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{self.record_file} is not the record of a run ({error!r}). Name a new --out."
            ) from error
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()
        self._locked = False

    def claim(self) -> None:
        """Make the folder, be alone in it, and remove what a killed run left half-written.

        Raises:
            SpeechkdError: another process is at work there, or was since `prepare`.
        """
        if not self._locked:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if self.record_file.exists():
                raise SpeechkdError(
                    f"{self.path}: another `speechkd distill` has begun a run there meanwhile; "
                    "the same command carries on with it."
                )
        atomic.remove_leftovers(self.path, older_than_seconds=0)
        atomic.remove_leftovers(self.checkpoints, older_than_seconds=0)

    def _take_lock(self) -> None:
        busy = (
            f"{self.path}: another `speechkd distill` is writing there; wait for it, or name "
            "another --out."
        )
        self._lock.enter_context(atomic.locked(self.path, busy=busy))
        self._locked = True

    def prepare(
        self, identity: Mapping[str, Any], resume: Resume, free: Collection[str] = ()
    ) -> dict[str, Any] | None:
        """Check that this folder may be written; return the record of what is to go on, if any.

        Nothing is changed yet: what `never` gives up is deleted by `clear`, once the run starts.

        Args:
            identity: everything the result depends on.
            resume: `auto` goes on where there is something, `always` insists, `never` starts anew.
            free: settings that may differ, whatever an earlier version recorded of them.

        Raises:
            SpeechkdError: it holds something else, or nothing to go on from, or another process
                is at work there.
        """
        if self.path.is_dir():
            self._take_lock()
        found = self.record()
        if found is None:
            if self.path.exists() and any(
                not entry.name.startswith(".") for entry in self.path.iterdir()
            ):
                raise SpeechkdError(
                    f"{self.path} holds files but no run. Name a new or empty folder as --out."
                )
            if resume == "always":
                raise NotThere(
                    f"--resume always: there is no run in {self.path}. Leave it at auto to start."
                )
            return None
        if resume == "never":
            return None
        plain = json.loads(json.dumps(identity))
        differing = [
            name
            for name in sorted({*plain, *found["identity"]} - set(free))
            if plain.get(name) != found["identity"].get(name)
        ]
        if differing:
            table = "; ".join(
                f"{name}: there {found['identity'].get(name)!r}, now {plain.get(name)!r}"
                for name in differing
            )
            raise SpeechkdError(
                f"{self.path} holds a run of other settings ({table}). Use those settings, name "
                "another --out, or start anew with --resume never."
            )
        return found

    def clear(self) -> None:
        """Delete what an earlier run left here."""
        for name in ("checkpoints", "student", "tensorboard"):
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
        for name in ("metrics.jsonl", "README.md", "loss.png", "run.json"):
            (self.path / name).unlink(missing_ok=True)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        atomic.write_json(self.record_file, dict(record))

    def keep_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Store the run's tokenizer, whole or not at all."""
        self._replace_folder(self.tokenizer, lambda aside: tokenizer.save_pretrained(aside))

    def kept_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that an earlier sitting stored."""
        return load_tokenizer(str(self.tokenizer)) if self.tokenizer.is_dir() else None

    def export(self, student: Student, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write `student/`: an ordinary Hugging Face folder, whole or absent."""

        def save(aside: Path) -> None:
            transformers_logging.disable_progress_bar()
            student.model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)

        self._replace_folder(self.student, save)

    @staticmethod
    def _replace_folder(final: Path, fill: Any) -> None:
        aside = final.with_name(f".{final.name}.partial")
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(parents=True)
        with atomic.explained_write_errors(final):
            fill(aside)
        for file in aside.rglob("*"):
            atomic.sync(file)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        atomic.sync(final.parent)
