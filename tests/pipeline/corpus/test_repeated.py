"""What stands twice is counted as Python counts it."""

import random

import torch

from pipeline.corpus import repeated as module
from pipeline.corpus.corpus import read_corpus
from pipeline.corpus.repeated import fingerprints, repeated
from pipeline.corpus.sources import TextTables
from tests.helpers.caches import make_cache, samples_of, wordpiece


def test_repetitions_are_those_of_equal_token_sequences(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLIPS_AT_ONCE", 7)
    cache = make_cache(tmp_path / "cache", [30])
    spoken = list(samples_of(cache).texts)
    draw = random.Random(0)
    words = ["cat", "dog", "sat", "cat dog", "dog cat", *spoken[:10]]
    texts = [draw.choice(words) for _ in range(60)]
    (tmp_path / "t.txt").write_text("\n".join(texts))
    tokenizer = wordpiece(cache)
    corpus = read_corpus(
        cache, tokenizer, tables=TextTables((tmp_path / "t.txt",)), max_tokens=32,
        held_out_share=0.2, seed=0,
    )  # fmt: skip
    whole = spoken + texts
    assert len(corpus) == 90
    bits = fingerprints(corpus).tolist()
    assert len(set(bits)) == len(set(whole))
    train, held_out = corpus.train.tolist(), corpus.held_out.tolist()
    assert torch.equal(corpus.spoken_train, torch.tensor([c for c in train if c < 30]))
    trained = {whole[c] for c in train}
    out_spoken = {whole[c] for c in held_out if c < 30}
    in_training = [whole[c] for c in train if c >= 30]
    assert repeated(corpus) == {
        "spoken": sum(text in spoken for text in in_training),
        "spoken_held_out": sum(text in out_spoken for text in in_training),
        "held_out": sum(whole[c] in trained for c in held_out),
        "again": len(texts) - len(set(texts)),
    }
