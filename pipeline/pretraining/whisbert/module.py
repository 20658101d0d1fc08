"""WhisBERT: text, audio and fusion encoders, and the five losses that train them together.

Wolf et al. 2023, after FLAVA (Singh et al. 2022). Passes are shared: masked text feeds three
losses, masked audio three, and unmatched pairs are made of states that matched ones have already.

Shapes: B clips, P patches, K predicted ones or chosen tokens, A audio states, N text states, D
widths, V vocabulary.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.packing import Packed
from pipeline.models.student import Student
from pipeline.models.whisbert.fusion import Fused, Fusion
from pipeline.models.whisbert.layers import LayerSizes, initialise
from pipeline.models.whisbert.speech_encoder import SpeechEncoder
from pipeline.pretraining.whisbert.batches import Audio, PairBatch, Text
from pipeline.pretraining.whisbert.contrast import Terms, between_clips, within_clip
from pipeline.pretraining.whisbert.losses import HEAR, HIDE, JOIN, LOSS_OF, Loss
from pipeline.pretraining.whisbert.measures import Seen, measured
from pipeline.training import processes

MOST_SCALE = 100.0
BERT_EPSILON = 1e-12


@dataclass(frozen=True)
class Shape:
    """What WhisBERT is made of beside its text encoder.

    Attributes:
        frame_width: values of a frame.
        per_patch: frames per patch.
        audio: sizes of the audio encoder's layers.
        fusion: sizes of the fusion encoder's layers.
        normed: a layer norm behind the stem.
        kappa: temperature of the contrast between patches.
        temperature: of the contrast between clips; it is learned from there if `learned`.
        learned: whether it is.
    """

    frame_width: int
    per_patch: int
    audio: LayerSizes
    fusion: LayerSizes
    normed: bool = True
    kappa: float = 0.1
    temperature: float = 0.07
    learned: bool = True


class JointTextHead(nn.Module):
    """BERT's masked-LM head on fused states; its last matrix is the text encoder's embedding.

    Args:
        width: of the fused states.
        embedding_width: of the text encoder's embeddings.
        vocabulary: V.
    """

    def __init__(self, width: int, embedding_width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)
        self.norm = nn.LayerNorm(embedding_width, eps=BERT_EPSILON)
        self.bias_V = nn.Parameter(torch.zeros(vocabulary))
        self.apply(initialise)

    def forward(self, states_KD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Logits `[K, V]`."""
        hidden_KD = self.norm(functional.gelu(self.dense(states_KD)))
        return functional.linear(hidden_KD, embedding_VD, self.bias_V)


class MatchHead(nn.Sequential):
    """Do audio and text match? Two logits of the pair's CLS, as in FLAVA: dense, tanh, linear."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
        self.apply(initialise)


class ClipHeads(nn.Module):
    """Both sides' projections into one space, and the temperature there.

    Args:
        audio_width: of the audio's CLS.
        text_width: of the text's.
        temperature: at the beginning.
        learned: whether it is trained; one over it stays between 1 and `MOST_SCALE`.
    """

    def __init__(
        self, audio_width: int, text_width: int, temperature: float, *, learned: bool
    ) -> None:
        super().__init__()
        self.audio = nn.Linear(audio_width, audio_width)
        self.text = nn.Linear(text_width, audio_width)
        self.apply(initialise)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learned)
        self.learned = learned

    def scale(self) -> Tensor:
        """One over the temperature."""
        if self.learned:
            with torch.no_grad():
                self.log_scale.clamp_(0, math.log(MOST_SCALE))
        return self.log_scale.exp()


class WhisBERT(nn.Module):
    """The encoders and heads of the losses that are on, and the losses of a batch.

    The text encoder is made first and everything else after it, so that its weights do not depend
    on which losses are on. A loss of weight 0 is measured and teaches nothing: what it alone would
    train is frozen, and no gradient of it exists. The text encoder then follows its twin, which
    has the masked-LM loss alone, bit for bit.

    Args:
        student: the text encoder with its masked-LM head.
        weights: of the losses that are on.
        shape: of the rest.
    """

    def __init__(self, student: Student, weights: Mapping[Loss, float], shape: Shape) -> None:
        super().__init__()
        self.student, self.weights, self.shape = student, dict(weights), shape
        self.taught = {name for name, weight in weights.items() if weight > 0}
        on = set(weights)
        embedding_VD: Tensor = student.encoder.get_input_embeddings().weight
        vocabulary, embedded = embedding_VD.shape
        heard, fused, read = shape.audio.width, shape.fusion.width, student.width
        self.speech = self.fusion = None
        self.audio_head = self.joint_audio_head = None
        self.joint_text_head = self.match_head = self.clip_heads = None
        if on & HEAR:
            self.speech = SpeechEncoder(
                shape.frame_width, shape.audio, shape.per_patch, normed=shape.normed
            )
        if on & JOIN:
            self.fusion = Fusion(heard, read, shape.fusion)
        if "mam" in on:
            self.audio_head = nn.Linear(heard, heard).apply(initialise)
        if "mmm" in on:
            self.joint_audio_head = nn.Linear(fused, heard).apply(initialise)
            self.joint_text_head = JointTextHead(fused, embedded, vocabulary)
        if "atm" in on:
            self.match_head = MatchHead(fused)
        if "mmc" in on:
            self.clip_heads = ClipHeads(heard, read, shape.temperature, learned=shape.learned)
        self._freeze()

    speech: SpeechEncoder | None
    fusion: Fusion | None
    audio_head: nn.Module | None
    joint_audio_head: nn.Module | None
    joint_text_head: JointTextHead | None
    match_head: MatchHead | None
    clip_heads: ClipHeads | None

    def _freeze(self) -> None:
        """Freeze what no loss with a weight would give a gradient."""
        trained_by: list[tuple[nn.Module | None, set[Loss] | frozenset[Loss]]] = [
            (self.speech, HEAR),
            (self.fusion, JOIN),
            (self.audio_head, {"mam"}),
            (self.joint_audio_head, {"mmm"}),
            (self.joint_text_head, {"mmm"}),
            (self.match_head, {"atm"}),
            (self.clip_heads, {"mmc"}),
        ]
        for module, losses in trained_by:
            if module is not None and not self.taught & losses:
                module.requires_grad_(False)
        if self.speech is not None and not self.taught & HIDE:
            self.speech.mask_D.requires_grad_(False)

    def _learning(self, losses: "set[Loss] | frozenset[Loss]") -> AbstractContextManager[None]:
        """While the block runs, gradients exist only if one of these losses has a weight."""
        gradients = torch.is_grad_enabled() and bool(self.taught & losses)
        return torch.set_grad_enabled(gradients)

    def read(self, text: Text, packed: Packed, number: int) -> Tensor:
        """Text states `[N, D]`; the number of the pass names what its dropout drops."""
        self.student.draws.begin(text.number_N, text.dropout_key + number)
        states_ND: Tensor = self.student(packed)
        return states_ND

    def forward(self, batch: PairBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """Losses of a batch by name, `loss` among them: the weighted sum.

        With `measure` there are also what fusion gains, how often matching is right, how the
        patches spread, and the norms of the gradients.
        """
        text, packed = batch.text, batch.text.packed
        states_ND = self.read(text, packed.with_ids(text.masked_N), 0)
        mlm = self.student.masked_lm_loss(states_ND, packed.ids_N, text.chosen_K)
        seen = Seen(text_ND=states_ND)
        seen.losses["mlm"] = mlm * batch.processes / text.chosen_total
        if batch.audio is not None and self.speech is not None:
            self._hear(batch, batch.audio, self.speech, seen)
        weighted = [
            self.weights[LOSS_OF[name]] * value
            for name, value in seen.losses.items()
            if LOSS_OF[name] in self.taught
        ]
        values = {"loss": torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]}
        values |= {f"loss/{name}": value for name, value in seen.losses.items()}
        return values | (measured(seen, batch, self.taught) if measure else {})

    def _hear(self, batch: PairBatch, audio: Audio, speech: SpeechEncoder, seen: "Seen") -> None:
        """The losses that hear audio."""
        with self._learning(HEAR):
            patches_PD = speech.patches(audio.frames)
        seen.patches_PD = patches_PD
        if self.weights.keys() & HIDE:
            with self._learning(HIDE):
                seen.audio_AD = speech(patches_PD, audio.places, audio.hidden.masked_P)
        if self.audio_head is not None and seen.audio_AD is not None:
            with self._learning({"mam"}):
                seen.mam = self._contrast(self.audio_head, seen.audio_AD, patches_PD, audio)
                seen.losses["mam"] = seen.mam.mean()
        if self.clip_heads is not None:
            with self._learning({"mmc"}):
                self._between_clips(batch, audio, speech, self.clip_heads, seen)
        if self.fusion is not None and seen.audio_AD is not None and batch.matched is not None:
            self._join(batch, audio, self.fusion, seen.audio_AD, seen)

    def _contrast(
        self, head: nn.Module, states_AD: Tensor, patches_PD: Tensor, audio: Audio
    ) -> Terms:
        """Hidden patches that a head predicts from states, against the clip's own patches."""
        place_K = audio.places.place_N.index_select(0, audio.hidden.place_K)
        predicted_KD = head(states_AD.index_select(0, place_K))
        return within_clip(predicted_KD, patches_PD, audio.hidden, self.shape.kappa)

    def embed(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Audio and text `[B, D]` of each clip in the space where clips are compared.

        Raises:
            ValueError: the model has no such space.
        """
        if self.speech is None or self.clip_heads is None or batch.audio is None:
            raise ValueError("clips are compared by the loss mmc alone")
        patches_PD = self.speech.patches(batch.audio.frames)
        return self._embed(batch, batch.audio, self.speech, self.clip_heads, patches_PD)[:2]

    def _embed(
        self,
        batch: PairBatch,
        audio: Audio,
        speech: SpeechEncoder,
        heads: ClipHeads,
        patches_PD: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Both sides' vectors from passes over what is not hidden, and the states they are of."""
        audio_AD = speech(patches_PD, audio.places)
        text_ND = self.read(batch.text, batch.text.packed, 1)
        audio_BD = heads.audio(audio_AD.index_select(0, audio.places.outer.starts_B))
        text_BD = heads.text(text_ND.index_select(0, batch.text.packed.starts_B))
        return audio_BD, text_BD, audio_AD, text_ND

    def _between_clips(
        self, batch: PairBatch, audio: Audio, speech: SpeechEncoder, heads: ClipHeads, seen: "Seen"
    ) -> None:
        if seen.patches_PD is None:
            raise ValueError("there are no patches")
        audio_BD, text_BD, seen.clean_AD, seen.clean_ND = self._embed(
            batch, audio, speech, heads, seen.patches_PD
        )
        seen.mmc = between_clips(audio_BD, text_BD, heads.scale(), batch.rivals_BB, batch.process)
        seen.losses["mmc"] = seen.mmc.loss

    def _join(
        self, batch: PairBatch, audio: Audio, fusion: Fusion, audio_AD: Tensor, seen: "Seen"
    ) -> None:
        """The losses of fused states."""
        text, matched = batch.text, batch.matched
        if matched is None or seen.patches_PD is None:
            raise ValueError("there is nothing to join")
        with self._learning(JOIN):
            sides = fusion.project(audio_AD, seen.text_ND, audio.places.outer, text.packed)
            fused = fusion(*sides, matched)
        if self.joint_text_head is not None and self.joint_audio_head is not None:
            with self._learning({"mmm"}):
                embedding_VD = self.student.encoder.get_input_embeddings().weight
                logits_KV = self.joint_text_head(fused.text_ND[text.chosen_K], embedding_VD).float()
                truth_K = text.packed.ids_N[text.chosen_K]
                loss = functional.cross_entropy(logits_KV, truth_K, reduction="sum")
                seen.losses["mmm_text"] = loss * batch.processes / text.chosen_total
                right = (logits_KV.argmax(1) == truth_K).sum()
                seen.text_right = right * batch.processes / text.chosen_total
                seen.mmm_audio = self._contrast(
                    self.joint_audio_head, fused.audio_AD, seen.patches_PD, audio
                )
                seen.losses["mmm_audio"] = seen.mmm_audio.mean()
        if self.match_head is not None:
            with self._learning({"atm"}):
                other = None if batch.unmatched is None else fusion(*sides, batch.unmatched)
                self._match(self.match_head, fused, other, seen)

    @staticmethod
    def _match(head: nn.Module, fused: Fused, other: Fused | None, seen: "Seen") -> None:
        """Matched pairs are class 1, unmatched ones class 0."""
        cls_RD = fused.cls_BD if other is None else torch.cat([fused.cls_BD, other.cls_BD])
        label_R = torch.arange(len(cls_RD), device=cls_RD.device) < len(fused.cls_BD)
        logits_R2 = head(cls_RD).float()
        rows = processes.differentiable_sum(
            torch.full((), float(len(cls_RD)), device=cls_RD.device)
        )
        part = processes.count() / rows
        loss = functional.cross_entropy(logits_R2, label_R.long(), reduction="sum")
        seen.losses["atm"] = loss * part
        seen.match_right = ((logits_R2.argmax(1) == label_R).sum() * part).detach()
