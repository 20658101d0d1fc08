"""Operations of a step by torch's own counter, which counts no fused kernel of a CPU."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import RobertaConfig, RobertaForMaskedLM

from pipeline.corpus.masking import most_chosen
from pipeline.corpus.row_batches import RowBatches
from pipeline.corpus.row_corpus import TOKENS
from pipeline.models.lengths import Lengths
from pipeline.models.packing import pack
from pipeline.models.student import Student
from pipeline.models.text_referred import AudioConfig, AudioStack
from pipeline.pretraining.ctal.batches import FRAMES, CtalBatch
from pipeline.pretraining.ctal.costs import (
    VALUES_PER_STATE,
    audio_flops,
    heads_flops,
    step_bytes,
    text_flops,
)
from pipeline.pretraining.ctal.method import CtalMethod
from pipeline.pretraining.ctal.module import CtalPretraining
from pipeline.pretraining.ctal.settings import CtalSettings
from pipeline.pretraining.running import assemble
from pipeline.pretraining.sizes import largest_share
from tests.helpers.caches import make_sequence_cache

PAPER = AudioConfig(
    columns=160, width=768, text_width=768, layers=3, heads=12, inner_width=3072, positions=3000
)


def test_the_papers_model_takes_what_the_specification_counted():
    """77.5 GFLOP forward at 1,200 frames and 40 tokens with 3 layers, 152.6 with 6."""
    for layers, billions in ((3, 77.5), (6, 152.6)):
        config = AudioConfig(**{**PAPER.record(), "layers": layers})
        with torch.device("meta"):
            text = RobertaConfig(vocab_size=30_000, num_hidden_layers=layers, pad_token_id=1)
            student = Student(RobertaForMaskedLM(text))
        whole = (
            audio_flops(config, 1200, 40)
            + text_flops(student, 40)
            + heads_flops(student, config, 160, 6, 180)
        )
        assert whole / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize("cross", [True, False])
def test_operations_are_those_that_torch_counts(cross):
    config = AudioConfig(
        columns=10, width=32, text_width=32, layers=2, heads=4, inner_width=128, positions=200,
        cross=cross,
    )  # fmt: skip
    stack = AudioStack(config).eval()
    frames, tokens = 150, 12
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        stack(
            torch.randn(frames, 10),
            Lengths.of(torch.tensor([frames])),
            torch.randn(tokens, 32),
            Lengths.of(torch.tensor([tokens])),
        )
    assert audio_flops(config, frames, tokens) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_operations_of_the_text_are_those_that_torch_counts():
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    student = Student(RobertaForMaskedLM(config)).eval()
    packed = pack(torch.arange(20) + 4, torch.tensor([20]))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        student(packed)
    assert text_flops(student, 20) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_what_is_kept_for_the_backward_pass_is_most_of_what_a_step_is_said_to_hold():
    config = AudioConfig(
        columns=16, width=64, text_width=64, layers=3, heads=4, inner_width=256, positions=300
    )
    stack, positions = AudioStack(config), 600
    weights = {p.untyped_storage().data_ptr() for p in stack.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = stack(
            torch.randn(positions, 16),
            Lengths.of(torch.tensor([300, 300])),
            torch.randn(20, 64, requires_grad=True),
            Lengths.of(torch.tensor([10, 10])),
        )
    assert out.requires_grad
    values = sum(storage.nbytes() for storage in kept.values()) / 4
    assert 0.65 * VALUES_PER_STATE < values / (positions * 3 * 64) < 0.9 * VALUES_PER_STATE


def peak_bytes(module: CtalPretraining, batch: CtalBatch) -> int:
    """What torch's allocator gave at most during a step that it had not before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        module(batch, measure=True)["loss"].backward()
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("unlucky", "chosen", "masked", "columns"),
    [("tokens", 0.15, 1.0, 320), ("frames", 1.0, 0.15, 320), ("frames without deltas", 1, 0, 160)],
)
def test_a_step_of_an_unlucky_draw_holds_no_more_than_is_said(unlucky, chosen, masked, columns):
    """In one process's share nearly all may be predicted, whatever the share of the whole batch."""
    clips, tokens, positions, stack, width = 4, 60, 100, 4, 16
    vocabulary, layers = (3_000, 1) if unlucky == "tokens" else (300, 1)
    text = RobertaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=4 * width, max_position_embeddings=64, pad_token_id=1,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config = AudioConfig(
        columns=columns, width=width, text_width=width, layers=layers, heads=2,
        inner_width=4 * width, positions=positions,
    )  # fmt: skip
    module = CtalPretraining(Student(RobertaForMaskedLM(text)), AudioStack(config), 320).train()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    many_tokens, many_positions = clips * tokens, clips * positions
    chosen_J = torch.arange(round(chosen * many_positions))
    chosen_K = torch.arange(max(1, round(masked * many_tokens)))
    ids_N = torch.randint(5, vocabulary, (many_tokens,))
    real_JS = torch.ones(len(chosen_J), stack, dtype=torch.bool)

    def batch() -> CtalBatch:
        return CtalBatch(
            packed=pack(ids_N, torch.full((clips,), tokens)), masked_N=ids_N, chosen_K=chosen_K,
            token_number_N=torch.arange(many_tokens),
            audio=Lengths.of(torch.full((clips,), positions)),
            read_PC=torch.randn(many_positions, columns),
            position_number_P=torch.arange(many_positions), chosen_J=chosen_J,
            target_JSM=torch.randn(len(chosen_J), stack, 80), real_JS=real_JS, middle_JS=real_JS,
            lines=torch.zeros(6), dropout_key=torch.tensor(3), chosen_total=len(chosen_K),
            frames_total=stack * len(chosen_J), middle_total=stack * len(chosen_J),
            frames=stack * many_positions, clips=clips, processes=1,
        )  # fmt: skip

    said = step_bytes(
        module.text, config, 320, positions=many_positions, tokens=many_tokens,
        masked=len(chosen_K),
    )  # fmt: skip
    made = batch()
    of_batch = 4 * (made.read_PC.numel() + made.target_JSM.numel())
    taken = peak_bytes(module, made) + of_batch
    assert taken <= said < 3 * taken


def test_memory_is_announced_for_the_largest_batch_that_will_come(tmp_path):
    """Clips differ in length, so that no batch is as large as one of longest clips alone."""
    make_sequence_cache(
        tmp_path / "mels", [40], "ctal-mel", width=4, most_rows=120, hop_samples=200
    )  # fmt: skip
    method = CtalMethod(
        CtalSettings(
            cache=str(tmp_path / "mels"), out=tmp_path / "run", layers=1, width=16, heads=2,
            vocab_size=300, epochs=2.0, batch=8, held_out=0.0, device="cpu",
        )
    )  # fmt: skip
    parts = assemble(method, method.caches(), torch.device("cpu"))
    parts.ahead.close()
    batches, model = parts.batches, parts.module
    steps = [divmod(step, batches.per_epoch) for step in range(parts.schedule.total_steps)]
    totals = [batches.epoch(epoch)(place).totals for epoch, place in steps]
    frames, tokens = (max(each[name] for each in totals) for name in (FRAMES, TOKENS))
    longest = int(parts.data.corpus.parts[FRAMES].lengths_of(parts.data.corpus.train).max())
    wanted, of_longest = (
        step_bytes(
            model.text, model.audio.config, 8, positions=places + 8, tokens=tokens,
            masked=math.ceil(0.15 * tokens),
        )
        for places in (frames, 8 * longest)
    )  # fmt: skip
    assert method.step_bytes(parts) == wanted < of_longest
    # masks are drawn over a whole batch, and a share of it may get more than its own
    shared = RowBatches(parts.data.corpus, 8, parts.settings.seed, process=0, processes=2)
    places, tokens = (
        largest_share(shared, name, parts.schedule.total_steps) for name in (FRAMES, TOKENS)
    )
    without = step_bytes(
        model.text, model.audio.config, 8, positions=places + 4, tokens=tokens, masked=0
    )
    masked = (method.step_bytes(replace(parts, batches=shared)) - without) / (4 * 4 * 300)
    assert masked == most_chosen(0.15, tokens, 2) > math.ceil(0.15 * tokens)


def test_a_large_vocabulary_is_announced_by_its_logits():
    """Beside the head's own states, cross-entropy keeps logits, their logarithms and gradients."""
    config = RobertaConfig(
        vocab_size=5_000, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    student = Student(RobertaForMaskedLM(config))
    few, many = (
        step_bytes(student, PAPER, 160, positions=10, tokens=300, masked=masked)
        for masked in (50, 150)
    )
    kept, alive = {}, []

    def keep(tensor):
        if tensor.numel() >= 100 * 5_000:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        alive.append(tensor)  # so that no address is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        student.masked_lm_loss(
            torch.randn(100, 16), torch.randint(5_000, (100,)), torch.arange(100)
        )
    assert sum(kept.values()) >= 4 * 100 * 5_000  # the logarithms at least
    assert many - few >= 2 * sum(kept.values())
