"""What a run of SPLAT hands on: an encoder, its front end, and a file that uses both by itself."""

import inspect
from pathlib import Path

from pipeline.models.speech import SpeechModule
from pipeline.models.speech_front import SpeechFront
from pipeline.pretraining.splat import front as stand_alone


def save_speech(module: SpeechModule, front: SpeechFront, folder: Path) -> None:
    """Fill the folder speech/ of a run.

    Args:
        module: what was trained.
        front: what stands before it.
        folder: an existing one.
    """
    module.save(folder, front)
    (folder / "front.py").write_text(inspect.getsource(stand_alone), encoding="utf-8")
