"""The folder of a run: its record, its checkpoints, and the model it ends in."""

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

from transformers import PreTrainedTokenizerBase

from pipeline.foundation import atomic
from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.foundation.untrusted import parse_json, read_text_file
from pipeline.models.loading import load_tokenizer
from pipeline.training.processes import on_main

Resume = Literal["auto", "never", "always"]
DISTILL = "distill"
"""The method of a run whose record names none."""


class RunFolder:
    """One run's folder: `run.json`, `metrics.jsonl`, `checkpoints/`, the model, `README.md`.

    A context: one process at a time may write there. Of the processes of a distributed run only
    the first does; in the others the methods that write, and `prepare`, do nothing.

    Args:
        path: where it is, or shall be.
        model: name of the folder in it for the model that the run hands on. It is written last.
        others: names of further folders that the run hands on.
    """

    def __init__(self, path: Path, model: str, *others: str) -> None:
        self._lock = ExitStack()
        self._locked = False
        self.path = path
        self.record_file = path / "run.json"
        self.checkpoints = path / "checkpoints"
        self.tokenizer = path / "checkpoints" / "tokenizer"
        self.model = path / model
        self.handed_on = (*(path / name for name in others), self.model)

    def record(self) -> dict[str, Any] | None:
        """The record of the run that is here, if any.

        Raises:
            SpeechkdError: it is damaged.
        """
        if not self.record_file.exists():
            return None
        try:
            record: dict[str, Any] = parse_json(read_text_file(self.record_file))
            _ = record["identity"], record["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"{self.record_file} is not the record of a run ({error!r}). Name a new --out."
            ) from error
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()
        self._locked = False

    @on_main
    def prepare(
        self,
        identity: Mapping[str, Any],
        resume: Resume,
        free: Collection[str] = (),
        versions: Mapping[str, str] | None = None,
    ) -> dict[str, Any] | None:
        """Check that this folder may be written; return the record of what is to go on, if any.

        Nothing is changed yet: what `never` gives up is deleted by `claim`, once the run starts.

        Args:
            identity: everything that the result depends on.
            resume: `auto` goes on if there is something, `always` insists, `never` starts anew.
            free: settings that may differ, even if the record counts them.
            versions: names in the identity that the program decides, not the user, each with what
                another value means. A record without one has 1. A finished run may differ.

        Raises:
            SpeechkdError: it holds something else, such as a run of another method, or nothing to
                go on from, or another process is at work there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SpeechkdError(f"--out {self.path} is a file; name a folder.")
        if self.path.is_dir():
            self._take_lock()
        record = self.record()
        if record is None:
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
        there, now = record["identity"], json.loads(json.dumps(identity))
        begun_by, goes_on = (str(one.get("method", DISTILL)) for one in (there, now))
        if begun_by != goes_on:  # what it handed on has other names, and would stay beside
            raise SpeechkdError(
                f"{self.path} holds a run of {begun_by}, and this is one of {goes_on}. Name "
                "another --out."
            )
        if resume == "never":
            return None
        for name, meaning in (versions or {}).items():
            begun_with = there.get(name, 1)
            if begun_with != now[name] and record["status"] != "finished":
                raise SpeechkdError(
                    f"{self.path} holds a run of another version of speechkd: {meaning} (there "
                    f"{name} {begun_with}, now {now[name]}), so what follows would not be "
                    "the same run. Finish it with that version, name another --out, or start anew "
                    "with --resume never."
                )
        differing = [
            _difference(name, there.get(name), now.get(name))
            for name in sorted({*now, *there} - set(free) - set(versions or ()))
            if now.get(name) != there.get(name)
        ]
        if differing:
            raise SpeechkdError(
                f"{self.path} holds a run of other settings ({'; '.join(differing)}). Go back to "
                "what it began with, name another --out, or start anew with --resume never."
            )
        return record

    def is_finished(self, record: Mapping[str, Any] | None) -> bool:
        """Whether the run with this record has handed on its model."""
        if record is None or record["status"] != "finished":
            return False
        return all(folder.is_dir() for folder in self.handed_on)

    @on_main
    def claim(self, *, anew: bool = False) -> None:
        """Make the folder, be alone in it, and remove what a killed run left half-written.

        Args:
            anew: delete what an earlier run left here, too.

        Raises:
            SpeechkdError: another process is at work there, or was since `prepare`.
        """
        if not self._locked:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if self.record_file.exists():
                raise SpeechkdError(
                    f"{self.path}: another process has begun a run there meanwhile; the same "
                    "command carries on with it."
                )
        atomic.remove_leftovers(self.path, older_than_seconds=0)
        atomic.remove_leftovers(self.checkpoints, older_than_seconds=0)
        if anew:
            self._clear()

    def _take_lock(self) -> None:
        busy = f"{self.path}: another process is writing there; wait for it, or name another --out."
        self._lock.enter_context(atomic.locked(self.path, busy=busy))
        self._locked = True

    def _clear(self) -> None:
        for folder in (self.checkpoints, *self.handed_on, self.path / "tensorboard"):
            if folder.is_dir():
                shutil.rmtree(folder)
        for name in ("metrics.jsonl", "README.md", "loss.png", "run.json"):
            (self.path / name).unlink(missing_ok=True)

    @on_main
    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write `run.json`."""
        atomic.write_json(self.record_file, dict(record))

    @on_main
    def keep_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Store the run's tokenizer for later sittings, unless an earlier one has."""
        if not self.tokenizer.is_dir():
            self._replace_folder(self.tokenizer, tokenizer.save_pretrained)

    def kept_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that an earlier sitting stored."""
        return load_tokenizer(str(self.tokenizer)) if self.tokenizer.is_dir() else None

    @on_main
    def export(self, save: Callable[[Path], None], name: str = "") -> None:
        """Write the model, whole or not at all: `save` fills the folder that it is given.

        Args:
            save: fills it.
            name: of the folder, if it is not that of the model.
        """
        self._replace_folder(self.path / name if name else self.model, save)

    @staticmethod
    def _replace_folder(final: Path, save: Callable[[Path], Any]) -> None:
        with (
            atomic.explained_write_errors(final),
            atomic.new_folder(final, replace=True) as folder,
        ):
            save(folder)


def _difference(name: str, there: Any, now: Any) -> str:
    """One thing that a run depends on and that is another one now, in words."""
    what, digest, _ = name.partition("_sha256")
    if digest and isinstance(there, str) and isinstance(now, str):
        return f"other content of the {what}, sha256 {there[:12]} there and {now[:12]} now"
    return f"{name}: there {there!r}, now {now!r}"
