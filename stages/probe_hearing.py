"""Ask encoders what was heard in speech that no student met, from its text alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.settings import Settings, setting

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pipeline.models.pretrained import Pretrained
    from pipeline.tasks.hearing.encoders import Known
    from pipeline.tasks.hearing.preparing import Asking, Caches
    from pipeline.tasks.hearing.results import HearingFolder, Role
    from pipeline.tasks.hearing.states import TokenizedTexts


@dataclass(frozen=True, kw_only=True)
class HearingSettings(Settings):
    """Settings of `speechkd probe hearing`."""

    cache: str = setting(
        help="Teacher cache of the speech to ask of, a path or URL: vectors of clips, or words "
        "(speechkd extract-teacher --keep words).",
        argument=True,
        operational=True,
    )
    checkpoint: list[str] = setting(
        help="Encoder, PATH or NAME=PATH: a distill run, a Hugging Face folder or a hub id; may be "
        "repeated. Word counts and each student untrained are asked as well.",
        operational=True,
    )
    out: Path = setting(help="Folder for the results.", operational=True)
    words: str | None = setting(
        None,
        help="Cache of words of the same recordings, to ask of words as well, if CACHE holds "
        "vectors.",
        operational=True,
    )
    prosody: str | None = setting(
        None,
        help="Cache of prosody of the same recordings (speechkd extract-features --features "
        "prosody), to ask for pitch, energy and rate.",
        operational=True,
    )
    unheard: Literal["auto", "recording", "speaker"] = setting(
        "auto",
        help="What must be new to every student: the recording, or its speaker as well. auto asks "
        "for new speakers if there are 100 clips of them.",
    )
    halves: Literal["auto", "recording", "speaker"] = setting(
        "auto",
        help="What no two halves share: of these one is fitted on and the other judged, in turn. "
        "auto takes speakers if all are known and they are four or more.",
    )
    clips: int = setting(
        4000,
        help="Most clips to ask of; whole recordings are drawn.",
        unit="clips",
        minimum=20,
    )
    among: int = setting(
        1000,
        help="Most candidates in each half among which a clip or a word is to be found.",
        minimum=2,
    )
    pooling: Literal["mean", "cls"] = setting(
        "mean", help="What stands for a clip: the mean of its tokens' states, or the first state."
    )
    word_tokens: Literal["first", "mean"] = setting(
        "first", help="What stands for a word: the state of its first token, or the mean of all."
    )
    max_tokens: int = setting(
        128,
        help="Longest text; longer texts are cut and counted.",
        unit="tokens",
        minimum=4,
        maximum=512,
    )
    seed: int = setting(
        0, help="Seed of halves, draws and the weights of untrained students.", minimum=0
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", help="Where to run; auto takes a GPU if there is one.", operational=True
    )
    dry_run: bool = setting(False, help="Say what would be asked, and stop.", operational=True)

    def check(self) -> None:
        """Refuse a list of no encoder, and a file in place of the folder."""
        if not self.checkpoint:
            raise SpeechkdError("--checkpoint is empty; name at least one encoder.")
        if self.out.exists() and not self.out.is_dir():
            raise SpeechkdError(f"--out {self.out} is a file; name a folder.")


def run(settings: HearingSettings) -> None:
    """Ask what encoders tell of speech that no student was trained on, from its text alone.

    On one half a ridge regression learns to tell from an encoder's states what the teacher heard,
    on the other it is judged: does it find the teacher's own vector among others, how much of the
    vectors does it explain (also within speaker, and within words that are spelled alike), and
    does it tell pitch, energy, rate and pauses? Beside it stand chance, word counts, and each
    student untrained. Name the student without a teacher and the shuffled ones, too: only a gain
    over both is hearing.

    Finished encoders are kept, so the same command carries on, and more --checkpoint may be added.

    Example: speechkd probe hearing cache --prosody prosody --checkpoint runs/none --checkpoint
    runs/crd --checkpoint runs/shuffled --out hearing
    """
    from pipeline.foundation.atomic import write_bytes
    from pipeline.foundation.devices import device_named, ieee_float32
    from pipeline.foundation.progress import say
    from pipeline.foundation.provenance import record
    from pipeline.models.encoders import check_labels
    from pipeline.reports.formats import to_terminal
    from pipeline.reports.hearing.sections import HearingReport
    from pipeline.tasks.hearing.encoders import look_at
    from pipeline.tasks.hearing.names import UNTRAINED, WORDS
    from pipeline.tasks.hearing.preparing import Caches
    from pipeline.tasks.hearing.results import HearingFolder

    device = device_named(settings.device)
    check_labels([*settings.checkpoint, f"{WORDS}=", f"{UNTRAINED}="])
    caches = Caches.open(settings.cache, settings.words, settings.prosody)
    encoders = [look_at(checkpoint) for checkpoint in dict.fromkeys(settings.checkpoint)]
    asking, texts = _prepare(settings, caches, encoders)
    for line in asking.notes:
        say(line)
    if settings.dry_run:
        return
    asked = {**settings.identity(), "cache": caches.main.location, "digests": caches.digests}
    folder = HearingFolder(settings.out, asked, asking.notes, asking.examinations, record())
    with ieee_float32():
        _ask(settings, encoders, texts, asking, folder, device)
    report = HearingReport(settings.out)
    write_bytes(settings.out / "hearing.png", report.picture())
    print(to_terminal(report.table("\n"), f"{settings.out}, with 95 % intervals"), end="")
    for line in report.findings():
        print(line)
    print(settings.out / "hearing.png")


def _prepare(
    settings: HearingSettings, caches: "Caches", encoders: "list[Known]"
) -> "tuple[Asking, dict[str, TokenizedTexts]]":
    """What is asked, and the texts as each encoder reads them, by label."""
    from pipeline.tasks.hearing.preparing import choose, prepare, spoken_of
    from pipeline.tasks.hearing.states import tokenize
    from pipeline.tasks.hearing.trainings import TrainingReader

    trainings = TrainingReader([caches.main]).read(
        {one.pretrained.label: one.checkpoint for one in encoders},
        {one.pretrained.label: one.tokenizer for one in encoders},
    )
    chosen = choose(
        caches, trainings, new=settings.unheard, most=settings.clips, seed=settings.seed
    )
    spoken = spoken_of(caches, chosen)
    texts = {
        one.pretrained.label: tokenize(
            one.tokenizer,
            [clip.text for clip in chosen.clips],
            min(settings.max_tokens, one.most_tokens or settings.max_tokens),
            spoken,
        )
        for one in encoders
    }
    asking = prepare(
        caches,
        chosen,
        spoken,
        texts,
        by=settings.halves,
        among=settings.among,
        seed=settings.seed,
    )
    return asking, texts


def _ask(
    settings: HearingSettings,
    encoders: "list[Known]",
    texts: "dict[str, TokenizedTexts]",
    asking: "Asking",
    folder: "HearingFolder",
    device: "torch.device",
) -> None:
    """Ask the word counts, then each encoder; before the first of its kind the untrained one."""
    from pipeline.foundation.progress import Meter, say
    from pipeline.models.encoders import load_pretrained
    from pipeline.tasks.hearing import encoders as kinds
    from pipeline.tasks.hearing.results import Judged
    from pipeline.tasks.hearing.states import encode

    counts = kinds.word_counts()
    if not folder.has(counts):
        say(f"asking {counts.label}")
        folder.add(Judged(counts, "words", "", asking.answers_from(asking.counts(), device)))
    began = folder.untrained()
    names = kinds.untrained_names(encoders, began)
    for one in encoders:
        label = one.pretrained.label
        done = folder.has(one.pretrained, one.start)
        if done and (not one.start or one.start in began):
            continue
        _, encoder, _ = load_pretrained(one.checkpoint)
        several: list[tuple[Pretrained, PreTrainedModel, Role]] = []
        if not done:
            several.append((one.pretrained, encoder, "encoder"))
        if one.start and one.start not in began:
            began[one.start] = names[one.start]
            known, fresh = kinds.untrained(encoder, names[one.start], settings.seed)
            several.insert(0, (known, fresh, "untrained"))
        for known, model, role in several:
            model.to(device)
            with Meter(f"asking {known.label}", len(asking.texts), "texts") as meter:
                clips_CD, words_WD = encode(
                    model,
                    texts[label],
                    asking.words,
                    settings.pooling,
                    settings.word_tokens,
                    meter.advance,
                )
            told = asking.answers_from(asking.features(clips_CD, words_WD), device)
            folder.add(Judged(known, role, one.start, told))


COMMANDS = {"probe hearing": (HearingSettings, run)}
