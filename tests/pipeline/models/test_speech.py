"""The speech module is Hugging Face's BERT on padded clips, one at a time, up to rounding."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertModel

from pipeline.foundation.errors import Damaged, NotThere, SpeechkdError
from pipeline.models.lengths import Lengths
from pipeline.models.speech import (
    SpeechInput,
    SpeechShape,
    build_speech,
    load_speech,
    sinusoids,
)
from pipeline.models.speech_front import SpeechFront

COUNTS = [1, 7, 3, 12]
SHAPE = {"channels": 4, "most_rows": 30, "stack": 2, "layers": 2, "width": 16, "heads": 2}


def make(read="cls", **changes):
    torch.manual_seed(0)
    return build_speech(SpeechShape(**{**SHAPE, "read": read, **changes})).double().eval()


def clips(counts=COUNTS, read="cls", seed=1):
    values = torch.randn(
        sum(counts), 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return SpeechInput.of(Lengths.of(torch.tensor(counts)), values, read)


def front(read="cls", **changes):
    options = {
        "source": {"kind": "whisper-mel", "width": 4}, "normalise": "speaker",
        "shrink_frames": 500.0, "floor": 0.05, "stack": 2, "read": read, "mean_C": torch.randn(4),
        "std_C": torch.rand(4) + 1,
    }  # fmt: skip
    return SpeechFront(**{**options, **changes})


def plain(module, values_NK, read):
    """States of one clip by transformers' own eager attention."""
    config = copy.deepcopy(module.encoder.config)  # its attention is set below
    encoder = BertModel(config, add_pooling_layer=False).double().eval()
    encoder.load_state_dict(module.encoder.state_dict())
    encoder.set_attn_implementation("eager")
    embedded = module.inputs(values_NK)
    if read == "cls":
        embedded = torch.cat([module.first[None], embedded])
    return encoder(inputs_embeds=embedded[None]).last_hidden_state[0]


@pytest.mark.parametrize("read", ["cls", "first-frame", "mean"])
def test_states_and_gradients_are_those_of_each_clip_alone_by_plain_transformers(read):
    module, batch = make(read), clips(read=read)
    states = module(batch)
    at = 0
    for place, values_NK in enumerate(batch.values_NK.split(COUNTS)):
        wanted = plain(module, values_NK, read)
        frames = wanted[1:] if read == "cls" else wanted
        vector = frames.mean(0) if read == "mean" else wanted[0]
        torch.testing.assert_close(states.vector_BD[place], vector, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(
            states.frames_ND[at : at + len(frames)], frames, atol=1e-12, rtol=1e-12
        )
        at += len(frames)
    torch.testing.assert_close(module.vectors(batch), states.vector_BD, atol=1e-12, rtol=1e-12)
    module.vectors(batch).square().sum().backward()
    fast = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    module(batch).vector_BD.square().sum().backward()
    for name, gradient in fast.items():
        slow = dict(module.named_parameters())[name].grad
        torch.testing.assert_close(gradient, slow, atol=1e-10, rtol=1e-10)
    assert "encoder.embeddings.word_embeddings.weight" not in fast


def test_a_clip_does_not_see_the_others():
    module = make()
    whole = module(clips()).vector_BD
    values = list(clips().values_NK.split(COUNTS))
    order = [2, 0, 3, 1]
    turned = SpeechInput.of(
        Lengths.of(torch.tensor([COUNTS[i] for i in order])),
        torch.cat([values[i] for i in order]),
        "cls",
    )
    torch.testing.assert_close(module(turned).vector_BD, whole[order], atol=1e-12, rtol=1e-12)


def test_positions_begin_as_sinusoids_and_tell_frames_apart():
    module = make()
    table = module.encoder.embeddings.position_embeddings.weight.detach()
    assert table.shape == (16, 16)  # 15 positions of two frames, and the learned first one
    torch.testing.assert_close(table.float(), sinusoids(16, 16))
    assert float(table[0, 0]) == 0
    assert float(table[3, 0]) == pytest.approx(float(torch.tensor(3.0).sin()), abs=1e-6)
    values = torch.randn(5, 8, dtype=torch.float64)
    lengths = Lengths.of(torch.tensor([5]))
    forth = module(SpeechInput.of(lengths, values, "cls")).vector_BD
    back = module(SpeechInput.of(lengths, values.flip(0), "cls")).vector_BD
    assert not torch.allclose(forth, back)


def test_dropout_follows_from_clip_place_and_key_alone():
    module = make(dropout=0.3).train()
    batch, number = clips(), torch.tensor([5, 9, 2, 7]) * 2**20
    key = torch.tensor(11)

    def run(some, numbers, key):
        module.begin(some, numbers, key)
        return module(some).vector_BD

    whole = run(batch, number, key)
    torch.manual_seed(99)
    assert run(batch, number, key).equal(whole)
    assert not run(batch, number, key + 1).equal(whole)
    values = batch.values_NK.split(COUNTS)[3]
    alone = SpeechInput.of(Lengths.of(torch.tensor([12])), values, "cls")
    torch.testing.assert_close(run(alone, number[3:], key)[0], whole[3], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("read", ["cls", "first-frame", "mean"])
def test_what_is_saved_loads_back_and_opens_with_transformers_alone(read, tmp_path):
    module = make(read).float()
    module.save(tmp_path / "speech", front(read))
    loaded, told = load_speech(tmp_path / "speech")
    assert told.record() == front(read).record()
    batch = SpeechInput.of(clips(read=read).frames, clips(read=read).values_NK.float(), read)
    assert loaded.eval()(batch).vector_BD.equal(module(batch).vector_BD)
    encoder = AutoModel.from_pretrained(tmp_path / "speech" / "encoder", add_pooling_layer=False)
    assert encoder.config.num_hidden_layers == 2
    names = set(encoder.state_dict())
    assert names == {n for n in module.encoder.state_dict() if "pooler" not in n}


@pytest.mark.parametrize(
    ("spoil", "error", "wanted"),
    [
        (lambda f: (f / "front.json").unlink(), NotThere, "no front.json"),
        (lambda f: (f / "front.safetensors").unlink(), NotThere, "no front.safetensors"),
        (lambda f: (f / "front.json").write_text("{"), Damaged, "damaged"),
        (lambda f: (f / "front.safetensors").write_bytes(b"x"), Damaged, "damaged"),
        (lambda f: edit(f, read="last"), Damaged, "read 'last'"),
        (lambda f: edit(f, stack=0), Damaged, "stack 0"),
        (lambda f: edit(f, stack=3), Damaged, "do not fit"),
        (lambda f: edit(f, floor=float("nan")), Damaged, "floor nan"),
        (lambda f: edit(f, source={"width": 5}), Damaged, "5 finite numbers"),
        (lambda f: edit(f, more=1), Damaged, "more"),
        (lambda f: tensors(f, first=None), Damaged, "do not fit"),
        (lambda f: tensors(f, std=torch.zeros(4)), Damaged, "not positive"),
        (lambda f: tensors(f, mean=torch.full((4,), torch.nan)), Damaged, "finite"),
    ],
)
def test_what_is_damaged_is_named(spoil, error, wanted, tmp_path):
    make().float().save(tmp_path, front())
    spoil(tmp_path)
    with pytest.raises(error, match=wanted):
        load_speech(tmp_path)


def edit(folder, **changes):
    record = json.loads((folder / "front.json").read_text())
    (folder / "front.json").write_text(json.dumps({**record, **changes}))


def tensors(folder, **changes):
    both = {**load_file(folder / "front.safetensors"), **changes}
    save_file({n: t for n, t in both.items() if t is not None}, folder / "front.safetensors")


def test_another_source_is_refused_with_both_values():
    with pytest.raises(SpeechkdError, match=r"width: 5 there, 4 wanted"):
        front().check_source({"kind": "whisper-mel", "width": 5}, "mels", "run")
    front().check_source({"kind": "whisper-mel", "width": 4}, "mels", "run")


def test_the_papers_size_has_the_papers_parameters():
    with torch.device("meta"):
        module = build_speech(SpeechShape(channels=80, most_rows=1500))
    counted = sum(p.numel() for p in module.parameters())
    assert 22.3e6 < counted < 22.6e6
    assert module.most_positions == 1500
