"""Speech encoders that are asked where a spoken passage answers a question, and their controls."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.frame_statistics import open_frames
from pipeline.corpus.identity import tokenizer_sha256
from pipeline.corpus.speech import open_speech
from pipeline.corpus.stacking import stacked_lengths
from pipeline.finetuning.audio_inputs import AudioClips, fresh_seed, run_of_speech
from pipeline.finetuning.inputs import Loaded, tokenize
from pipeline.finetuning.span_cells import Cells
from pipeline.finetuning.span_inputs import SpanInputs, SpokenPassage
from pipeline.finetuning.span_reader import SpanEncoder, SpanRecipe
from pipeline.finetuning.text_form import in_form
from pipeline.foundation.errors import SpeechkdError
from pipeline.foundation.progress import say
from pipeline.foundation.units import SAMPLE_RATE_HZ, Seconds
from pipeline.models.encoders import describe, name_and_source
from pipeline.models.loading import load_tokenizer
from pipeline.models.speech_front import SpeechFront
from pipeline.models.student import load_encoder
from pipeline.models.texts import composed
from pipeline.tasks.spans.table import CONTROLS, SpanTable

SHUFFLE_SEED = 0


@dataclass(frozen=True)
class AudioSpans:
    """Questions about spoken passages, for any speech encoder of their cache.

    Attributes:
        table: the questions.
        clips: the cache of frames.
        recipe: decides cells, tokens and the encoder over both.
    """

    table: SpanTable
    clips: AudioClips
    recipe: SpanRecipe

    def load(self, argument: str) -> Loaded:
        """Load a checkpoint that a user named, for `Grid.load`.

        Args:
            argument: a run of `speechkd pretrain`, `fresh:base` or `fresh:RUN`, perhaps with a name
                and `=` before it. `shuffled:` or `blind:` before the run makes a control of it.

        Raises:
            SpeechkdError: it cannot be loaded, reads frames of another front end, or the questions
                cannot be shuffled.
        """
        source = name_and_source(argument)[1]
        control = next((name for name in CONTROLS if source.startswith(name)), "")
        source = source.removeprefix(control)
        run = run_of_speech(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fresh_seed(source))
            speech, front = open_speech(
                source, self.clips.cache, self.clips.reader, self.clips.prepared
            )
            passages = self._passages(front)
            tokenizer, table_VE = self._words(speech.width)
            longest = max(passage.cells.places for passage in passages)
            encoder = SpanEncoder(
                speech,
                table_VE,
                pretrained=self.recipe.question_table == "own",
                places=max(longest, self.recipe.max_tokens),
                layers=self.recipe.layers,
                dropout=self.recipe.dropout,
            )
        known = describe(argument, {} if control else run, speech)

        def inputs() -> SpanInputs:
            return self._inputs(front, passages, tokenizer, control)

        return Loaded(known.under(control) if control else known, encoder, inputs)

    def words_sha256(self) -> str:
        """Digest of the tokenizer, and of what its tokens begin as if that is not drawn anew."""
        tokenizer, table_VE = self._words(1)
        digest = hashlib.sha256(tokenizer_sha256(tokenizer).encode())
        if self.recipe.question_table == "own":
            digest.update(table_VE.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _passages(self, front: SpeechFront) -> list[SpokenPassage]:
        clips, place_of = self.clips.reader.clips, self.clips.place_of
        pool, position_seconds = self._grid(front)
        passages = []
        for passage in self.table.passages.values():
            places = tuple(place_of[key] for key in passage.clips)
            rows = torch.from_numpy(clips.rows[list(places)]).long()
            positions = tuple(stacked_lengths(rows, front.stack).tolist())
            of = (passage.starts_s, passage.seconds, positions, pool, position_seconds)
            passages.append(SpokenPassage(places, positions, Cells.of(*of)))
        return passages

    def _grid(self, front: SpeechFront) -> tuple[int, Seconds]:
        """Positions of a cell, and seconds of a position."""
        hop = int(self.clips.cache.identity.hop_samples or 0)
        position_seconds = front.stack * hop / SAMPLE_RATE_HZ
        return max(1, int(self.recipe.grid_ms / 1000 / position_seconds + 1e-9)), position_seconds

    def _words(self, width: int) -> tuple[PreTrainedTokenizerBase, Tensor]:
        """The tokenizer of questions, and what its tokens begin as."""
        if self.recipe.question_table == "fresh":
            tokenizer = load_tokenizer(self.recipe.tokenizer)
            return tokenizer, torch.empty(len(tokenizer), width)
        encoder, tokenizer = load_encoder(self.recipe.tokenizer)
        table: Tensor = encoder.get_input_embeddings().weight
        return tokenizer, table.detach().float()

    def _inputs(
        self,
        front: SpeechFront,
        passages: Sequence[SpokenPassage],
        tokenizer: PreTrainedTokenizerBase,
        control: str,
    ) -> SpanInputs:
        rows, recipe = self.table.rows, self.recipe
        number_of = {name: number for number, name in enumerate(self.table.passages)}
        texts = [in_form(composed(row.text), recipe.text_form) for row in rows]
        reads = None if control == "blind:" else list(range(len(rows)))
        if control == "shuffled:" and reads is not None:
            trained = self.table.question.places["train"]
            for place, other in zip(trained, shuffled(self.table, trained), strict=True):
                reads[place] = other
        pool, position_seconds = self._grid(front)
        cell_seconds = pool * position_seconds
        say(
            f"cells of {1000 * cell_seconds:g} ms: "
            f"{sum(p.cells.count for p in passages) / len(passages):,.0f} in a passage, "
            f"{max(p.cells.count for p in passages):,} in the longest"
        )
        return SpanInputs(
            frames=open_frames(self.clips.cache, self.clips.reader, front, self.clips.prepared),
            front=front,
            pool=pool,
            cell_seconds=cell_seconds,
            passages=passages,
            passage_n=[number_of[row.passage] for row in rows],
            answers_n=[row.answers for row in rows],
            texts=tokenize(tokenizer, texts, recipe.max_tokens),
            reads_n=reads,
        )


def shuffled(table: SpanTable, places: Sequence[int]) -> list[int]:
    """For each of some questions another one, about another passage; each is taken once.

    Questions of a passage lie side by side, passages in an order drawn at random. Each takes the
    question that lies as many places further on as the passage with most questions has, so it is
    never one of its own passage.

    Raises:
        SpeechkdError: one passage has more than half of the questions.
    """
    of_passage = defaultdict(list)
    for place in places:
        of_passage[table.rows[place].passage].append(place)
    most = max(map(len, of_passage.values()))
    if 2 * most > len(places):
        name = max(of_passage, key=lambda passage: len(of_passage[passage]))
        raise SpeechkdError(
            f"passage {name} has {most} of {len(places)} training questions, so they cannot all be "
            "exchanged for questions about other passages; leave the control shuffled: out."
        )
    names = sorted(of_passage)
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(names))
    line = [place for number in order for place in of_passage[names[number]]]
    takes = dict(zip(line, line[most:] + line[:most], strict=True))
    return [takes[place] for place in places]
