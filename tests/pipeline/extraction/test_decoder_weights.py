"""A teacher's decoder is found in its files, and a teacher without one says what still works."""

import json

import pytest
import transformers
from safetensors.torch import load_file, save_file

from pipeline.extraction.decoder_weights import read_decoder
from pipeline.extraction.offline import OFFLINE
from pipeline.foundation.errors import Damaged, NotThere
from tests.helpers.whispers import needs_tiny_en, save_random_whisper, small_tokenizer


@pytest.fixture
def folder(tmp_path):
    save_random_whisper(tmp_path / "w", layers=1, heads=2, vocab_size=400)
    small_tokenizer().save(str(tmp_path / "w" / "tokenizer.json"))
    edit(tmp_path / "w" / "generation_config.json", alignment_heads=[[0, 1]])
    return tmp_path / "w"


def edit(path, **changes):
    record = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**record, **changes}))


def test_what_hugging_face_saves_is_read(folder):
    files = read_decoder(str(folder))
    assert (files.shape.d_model, files.shape.vocab_size, files.heads) == (32, 400, ((0, 1),))
    assert not files.multilingual
    assert len(files.decoder().layers) == 1
    assert files.reader("en", "w").read("yes").prompt == 2


def test_a_model_for_transcription_is_read_as_well(folder, tmp_path):
    base = transformers.WhisperModel.from_pretrained(folder)
    model = transformers.WhisperForConditionalGeneration(base.config)
    model.model = base
    model.save_pretrained(tmp_path / "whole")
    edit(tmp_path / "whole" / "generation_config.json", alignment_heads=[[0, 0], [0, 1], [0, 0]])
    assert read_decoder(str(tmp_path / "whole")).heads == ((0, 0), (0, 1))


def test_whether_there_are_several_languages_is_told_or_follows_from_the_vocabulary(folder):
    edit(folder / "generation_config.json", is_multilingual=True)
    assert read_decoder(str(folder)).multilingual


def test_a_teacher_without_a_decoder_says_which_kinds_work(folder):
    path = folder / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if "decoder" not in n}, path)
    with pytest.raises(NotThere, match=r"hold no decoder.*vector and states need no decoder"):
        read_decoder(str(folder))


@pytest.mark.parametrize("told", [None, []])
def test_a_teacher_without_alignment_heads_says_which_kinds_work(folder, told):
    edit(folder / "generation_config.json", alignment_heads=told)
    with pytest.raises(NotThere, match=r"lists no alignment_heads.*vector and states need no"):
        read_decoder(str(folder))


@pytest.mark.parametrize(
    "told", [[[0, 9]], [[1, 0]], [[0, -1]], [[0, 0.5]], [0, 1], "all", {"a": 1}]
)
def test_alignment_heads_that_it_does_not_have(folder, told):
    edit(folder / "generation_config.json", alignment_heads=told)
    with pytest.raises(Damaged, match=r"needs pairs of \[layer, head\]"):
        read_decoder(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"decoder_layers": 10**9}, "decoder_layers is 1000000000"),
        ({"decoder_attention_heads": 3}, "no multiple"),
        ({"decoder_ffn_dim": "wide"}, "decoder_ffn_dim is 'wide'"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, message):
    edit(folder / "config.json", **changes)
    with pytest.raises(Damaged, match=message):
        read_decoder(str(folder))


def test_a_tokenizer_of_another_model(folder):
    edit(folder / "config.json", vocab_size=64)
    with pytest.raises(Damaged, match="its tokenizer has a token"):
        read_decoder(str(folder)).reader("en", "w")


def test_files_beside_the_weights_are_fetched_from_the_hub(monkeypatch, folder, tmp_path):
    import huggingface_hub

    encoder_alone = tmp_path / "encoder"
    encoder_alone.mkdir()
    for name in ("config.json", "model.safetensors"):
        (encoder_alone / name).write_bytes((folder / name).read_bytes())

    def snapshot(repository, *, local_files_only, allow_patterns, **options):
        return str(folder if "generation_config.json" in allow_patterns else encoder_alone)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert read_decoder("some/whisper").folder == folder


@needs_tiny_en
def test_the_offline_teacher_has_openais_alignment_heads():
    files = read_decoder(OFFLINE)
    assert files.heads == ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))
    assert (files.multilingual, files.shape.decoder_layers) == (False, 4)
