"""The one way from a word on the command line to a torch device."""

import os

import torch

from pipeline.foundation.errors import SpeechkdError


def device_named(word: str) -> torch.device:
    """The device of this process: `cpu`, `cuda`, or for `auto` the latter if there is one.

    Of several GPUs it is the one with this process's number on this machine (`LOCAL_RANK`), else
    the first; it becomes torch's current one.

    Raises:
        SpeechkdError: CUDA was asked for and there is none.
    """
    if word == "cpu" or (word == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SpeechkdError(
            f"--device {word}: torch finds no CUDA device. Use --device cpu, or install the CUDA "
            "build of torch for this driver."
        )
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def devices_named(text: str) -> list[torch.device]:
    """The devices that `--devices` names: `auto`, `cpu`, `all`, or numbers of GPUs by commas.

    Raises:
        SpeechkdError: one of them is not here.
    """
    gpus = torch.cuda.device_count()
    if text == "auto":
        return [torch.device("cuda:0" if gpus else "cpu")]
    if text == "all":
        text = ",".join(map(str, range(gpus))) or "cpu"
    names = [f"cuda:{part}" if part.isdecimal() else part for part in text.split(",")]
    for name in names:
        known = name == "cpu" or (name.startswith("cuda:") and name[5:].isdecimal())
        if not known or (name != "cpu" and int(name[5:]) >= gpus):
            raise SpeechkdError(
                f"--devices {text}: there is no device {name!r} here ({gpus} GPUs found). Give "
                "cpu, all, or GPU numbers such as 0,1."
            )
    return [torch.device(name) for name in names]
