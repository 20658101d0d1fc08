"""`speechkd distill` as a user meets it: runs, stops, goes on, and what it leaves behind."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig

from pipeline.distillation import assembly
from pipeline.foundation.errors import SpeechkdError
from pipeline.models.compiled import missing_for_compiling
from stages.distill import DistillSettings, run
from tests.helpers.caches import make_cache, make_sequence_cache
from tests.helpers.instants import CHANGES, main_with
from tests.helpers.warm import Warm


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("distill") / "cache", [60, 40]).folder.path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A configuration that trains in milliseconds."""
    folder = tmp_path_factory.mktemp("tiny")
    BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ).save_pretrained(folder)
    return str(folder / "config.json")


@pytest.fixture
def settings(cache, tiny, tmp_path):
    def make(**changes):
        options = {
            "cache": cache, "out": tmp_path / "run", "kd": ["nst"], "student": tiny, "epochs": 4.0,
            "batch": 16, "vocab_size": 200, "held_out": 0.1, "log_every": 1, "measure_every": 5,
            "learning_rate": 1e-3, "device": "cpu", "checkpoint_minutes": 0.0,
        }  # fmt: skip
        return DistillSettings(**{**options, **changes})

    return make


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return {
        line["step"]: {k: v for k, v in line.items() if k.startswith(("loss", "gradient"))}
        for line in metrics(folder)
        if "loss/mlm" in line
    }


def weights(folder):
    return load_file(folder / "student" / "model.safetensors")


def same_weights(one, other):
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"kd": ["none"]},
        {"kd": ["nst"]},
        {"kd": ["crd"], "crd_negatives": 20},
        {"kd": ["infonce", "l1", "cosine"], "gamma": [1.0, 0.5, 2.0]},
        {"kd": ["nst"], "nst_pattern": "batch", "kd_pass": "clean", "kd_special": False},
        {"kd": ["crd"], "crd_symmetric": True, "kd_tokens": "cls", "control": "shuffled"},
    ],
    ids=lambda changes: "-".join(changes["kd"]),
)
def test_a_run_leaves_what_the_contract_says(settings, changes):
    given = settings(**changes)
    run(given)
    out = given.out
    lines = metrics(out)
    trained = [line for line in lines if "loss/mlm" in line]
    assert [line["step"] for line in trained] == list(range(1, 21))
    assert trained[-1]["loss/mlm"] < trained[0]["loss/mlm"]
    assert {"epoch", "lr", "tokens_per_s", "gradient/norm"} <= trained[0].keys()
    assert ("loss/kd" in trained[0]) == (changes["kd"] != ["none"])
    assert ("gradient/kd_over_mlm" in trained[0]) == (changes["kd"] != ["none"])
    assert sum("validation/loss/mlm" in line for line in lines) == 4
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["settings"]["kd"] == ",".join(changes["kd"])
    assert "batch" not in record["paper"]
    assert "weight_decay" in record["paper"]
    assert "adam_epsilon" in record["assumed"]
    assert record["data"]["cache_sha256"] == record["identity"]["cache_sha256"]
    assert (out / "loss.png").stat().st_size > 1000
    assert list((out / "tensorboard").iterdir())
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    assert ("This is a control" in card) == ("control" in changes)


def test_without_a_teacher_the_texts_of_any_cache_will_do(settings, tmp_path):
    """SPLAT's step 3 adapts a text encoder to the transcripts of a cache of frames."""
    mels = make_sequence_cache(tmp_path / "mels", [60, 40], "whisper-mel")
    same = make_cache(tmp_path / "same", [60, 40], d_model=1)  # of the same texts
    options = {"kd": ["none"], "max_steps": 3}
    run(settings(out=tmp_path / "vectors", cache=same.folder.path, **options))
    run(settings(out=tmp_path / "frames", cache=mels.folder.path, **options))
    other = weights(tmp_path / "vectors")
    assert all(value.equal(other[name]) for name, value in weights(tmp_path / "frames").items())


def test_student_loads_without_this_project_and_gives_its_states(settings, tmp_path):
    run(settings())
    script = (
        "import sys, json, torch\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        "model = AutoModel.from_pretrained(sys.argv[1]).eval()\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "with torch.no_grad():\n"
        "    out = model(**tokenizer('the cat sang', return_tensors='pt')).last_hidden_state\n"
        "assert not any(m.split('.')[0] in ('pipeline', 'stages') for m in sys.modules)\n"
        "print(json.dumps(out[0].tolist()))\n"
    )
    folder = tmp_path / "run" / "student"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    from pipeline.models.packing import pack
    from pipeline.models.student import load_student

    student, tokenizer = load_student(str(folder))
    ids = torch.tensor(tokenizer("the cat sang")["input_ids"])
    with torch.no_grad():
        ours = student.eval()(pack(ids, torch.tensor([len(ids)])))
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), ours, atol=1e-5, rtol=1e-5)


def test_a_run_can_be_gone_on_from_by_its_own_folder(settings, tmp_path):
    run(settings(out=tmp_path / "first"))
    for name, folder in (("run", "first"), ("student", "first/student")):
        run(settings(out=tmp_path / name, init=str(tmp_path / folder)))
    assert losses(tmp_path / "run") == losses(tmp_path / "student")
    assert same_weights(tmp_path / "run", tmp_path / "student")
    (tmp_path / "bare").mkdir()
    shutil.copy(tmp_path / "first" / "run.json", tmp_path / "bare")
    with pytest.raises(SpeechkdError, match=r"has no student/"):
        run(settings(out=tmp_path / "other", init=str(tmp_path / "bare")))


@pytest.mark.parametrize("kd", ["none", "nst", "crd"])
def test_a_stop_between_changes_nothing_bit_for_bit(settings, tmp_path, kd):
    run(settings(kd=[kd], out=tmp_path / "whole"))
    parted = tmp_path / "parted"
    for stop in (7, 8, 0):
        run(settings(kd=[kd], out=parted, max_steps=stop))
    assert losses(parted) == losses(tmp_path / "whole")
    assert same_weights(parted, tmp_path / "whole")
    assert len(json.loads((parted / "run.json").read_text())["sittings"]) == 3


def test_deterministic_algorithms_are_asked_for_while_training_alone(settings, monkeypatch):
    from pipeline.distillation.module import Distillation

    asked = []
    forward = Distillation.forward

    def watched(self, *args, **kwargs):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Distillation, "forward", watched)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    run(settings(kd=["crd", "nst"], crd_negatives=20, deterministic=True, max_steps=7))
    run(settings(kd=["crd", "nst"], crd_negatives=20, deterministic=True))
    assert len(asked) > 20
    assert all(asked)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    parted = losses(settings().out)
    run(settings(kd=["crd", "nst"], crd_negatives=20, deterministic=True, resume="never"))
    assert losses(settings().out) == parted


@pytest.mark.parametrize("kd", ["nst", "crd"])
def test_mapped_files_train_the_same_bit_for_bit(settings, tmp_path, monkeypatch, capsys, kd):
    negatives = 20 if kd == "crd" else 0
    run(settings(kd=[kd], crd_negatives=negatives, out=tmp_path / "memory"))
    assert "memory-mapped" not in capsys.readouterr().err
    monkeypatch.setattr("pipeline.foundation.memory.available_bytes", lambda: 0)
    run(settings(kd=[kd], crd_negatives=negatives, out=tmp_path / "mapped"))
    assert capsys.readouterr().err.count("memory-mapped") == 2, "tokens and vectors"
    assert losses(tmp_path / "mapped") == losses(tmp_path / "memory")
    assert same_weights(tmp_path / "mapped", tmp_path / "memory")


def test_seed_decides_everything(settings, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(settings(out=tmp_path / name, seed=seed))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_a_finished_run_is_not_run_again(settings, capsys):
    run(settings())
    before = weights(settings().out)
    capsys.readouterr()
    run(settings())
    assert "nothing to do" in capsys.readouterr().err
    assert all(torch.equal(v, before[n]) for n, v in weights(settings().out).items())


def test_other_settings_in_the_same_folder_are_refused(settings):
    run(settings(max_steps=3))
    with pytest.raises(SpeechkdError, match=r"learning_rate: there 0\.001, now 0\.01"):
        run(settings(learning_rate=0.01))
    for refused in ({"dry_run": True}, {"projection": "none", "kd": ["crd"]}):
        with contextlib.suppress(SpeechkdError):
            run(settings(learning_rate=0.01, resume="never", **refused))
        assert len(losses(settings().out)) == 3, "nothing is given up before the new run starts"
    run(settings(learning_rate=0.01, resume="never", max_steps=2))
    assert list(losses(settings().out)) == [1, 2]


def test_a_cache_that_is_another_one_now_is_said_to_be(settings, tmp_path):
    caches = [make_cache(tmp_path / f"{words}", [40], words=words).location for words in (4, 5)]
    run(settings(cache=caches[0], max_steps=1))
    wanted = "other content of the cache, sha256 .{12} there and .{12} now.*began with.*--resume"
    with pytest.raises(SpeechkdError, match=wanted):
        run(settings(cache=caches[1]))


def test_a_run_of_other_draws_is_not_gone_on_with(settings):
    """Half of its steps would have masks that the other half's seed does not give."""
    record_file = settings().out / "run.json"

    def begun_before_draws_had_a_number():
        record = json.loads(record_file.read_text())
        assert record["identity"].pop("draws") == 3
        record_file.write_text(json.dumps(record))

    run(settings(max_steps=3))
    begun_before_draws_had_a_number()
    wanted = r"another version of speechkd.*draws 1, now 3.*--out.*--resume never"
    for resume in ("auto", "always"):
        with pytest.raises(SpeechkdError, match=wanted):
            run(settings(resume=resume))
    assert len(losses(settings().out)) == 3
    run(settings(resume="never", epochs=1.0))
    begun_before_draws_had_a_number()
    run(settings(epochs=1.0))  # a finished run is not gone on with: nothing depends on later draws


def test_a_folder_of_something_else_is_left_alone(settings, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    for resume in ("auto", "never", "always"):
        with pytest.raises(SpeechkdError, match="holds files but no run"):
            run(settings(resume=resume))
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


def test_a_file_in_place_of_the_folder_is_named(settings, tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(SpeechkdError, match=r"--out .*run is a file; name a folder"):
        run(settings())


def test_a_run_that_may_not_fit_the_memory_is_warned_of(settings, capsys, monkeypatch):
    run(settings(dry_run=True))
    assert "may be more than there is" not in capsys.readouterr().err
    monkeypatch.setattr("pipeline.training.preflight.available_bytes", lambda: 10**8)
    run(settings(dry_run=True))
    assert "0.10 GB are free. Lower --batch-size first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "assumed", "not_assumed", "in_vain"),
    [
        ({"kd": ["none"]}, {"clip_norm", "vocab_size"}, {"projection", "nst_pattern"}, []),
        ({"kd": ["crd"]}, {"projection", "kd_special"}, {"nst_pattern", "nst_normalize"}, []),
        ({"kd": ["nst"], "kd_tokens": "cls"}, {"nst_pattern"}, {"kd_special"}, []),
        ({"init": "x", "vocab_size": 9999}, {"clip_norm"}, {"dropout", "lowercase"},
         ["--student", "--vocab-size"]),
        ({"kd": ["none"], "control": "random", "crd_symmetric": True}, {"dropout"}, set(),
         ["--crd-symmetric", "--control"]),
    ],
)  # fmt: skip
def test_settings_without_effect_are_not_called_assumed(
    settings, changes, assumed, not_assumed, in_vain
):
    given = settings(**{"student": "bert-tiny", "vocab_size": 30522, **changes})
    assert assumed <= given.assumed().keys()
    assert not not_assumed & given.assumed().keys()
    assert given.set_in_vain() == in_vain
    assert ("student" in given.stated_in_paper()) is False
    assert not given.without_effect() & given.stated_in_paper().keys()


def test_dry_run_trains_nothing_and_leaves_nothing(settings, capsys):
    run(settings(dry_run=True, kd=["nst"], nst_pattern="token"))
    told = capsys.readouterr().err
    assert not settings().out.exists()
    assert "not stated in the paper" in told
    assert "one number of the teacher per clip" in told
    assert "half of this run" in told, "the warm-up is longer than the run"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kd": ["none", "nst"]}, "none by itself"),
        ({"kd": ["nst", "crd"], "gamma": [1.0]}, "1 value, but --kd names 2"),
        ({"kd": ["none"], "gamma": [1.0]}, "--kd none has none: leave it out"),
        ({"gamma": [-1.0]}, "positive"),
        ({"crd_negatives": 5}, "needs --kd crd"),
        ({"measure_every": 3, "log_every": 2}, "not a multiple"),
        ({"student": "bert-huge"}, "neither one of"),
        ({"cache": "nowhere"}, "there is no cache here"),
        ({"kd": ["crd"], "projection": "none"}, "32 wide and the teacher 8"),
        ({"max_tokens": 4096}, "at most 512"),
        ({"resume": "always"}, "no run in"),
        ({"device": "cuda"}, "no CUDA device"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_input_is_named(settings, changes, told):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SpeechkdError, match=told):
        run(settings(**changes))
    assert not settings().out.exists()


def test_going_on_from_a_student(settings, tmp_path):
    run(settings(out=tmp_path / "first"))
    start = str(tmp_path / "first" / "student")
    run(settings(out=tmp_path / "second", init=start, kd=["crd"], max_steps=1, learning_rate=0.0))
    assert same_weights(tmp_path / "first", tmp_path / "second")
    told = json.loads((tmp_path / "second" / "run.json").read_text())
    assert told["result"]["outcome"] == "steps"


def test_student_of_another_family(settings, tmp_path):
    from transformers import ModernBertConfig

    ModernBertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
    ).save_pretrained(tmp_path / "modern")  # fmt: skip
    run(settings(student=str(tmp_path / "modern" / "config.json"), max_steps=5))
    assert AutoModel.from_pretrained(settings().out / "student").config.model_type == "modernbert"


def words_of(settings):
    words = ["distill", str(settings.cache)]
    given = settings.record()
    for name in ("out", "kd", "student", "epochs", "batch", "vocab_size", "held_out", "log_every",
                 "measure_every", "learning_rate", "device", "checkpoint_minutes",
                 "checkpoint_steps", "nst_pattern"):  # fmt: skip
        flag = {"batch": "--batch-size"}.get(name) or f"--{name.replace('_', '-')}"
        words += [flag, str(given[name])]
    words += ["--crd-symmetric"] if given["crd_symmetric"] else []
    return words


def command(settings):
    return [sys.executable, "-m", "stages.cli", *words_of(settings)]


ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGUSR2, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(settings, tmp_path, number, status):
    given = settings(out=tmp_path / "stopped", epochs=200.0)
    signalled = main_with("open", r"stopped/metrics\.jsonl$", 3, number)
    done = subprocess.run(
        [sys.executable, "-c", signalled, *words_of(given)],
        env=ENVIRONMENT, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "the same command carries on" in done.stderr
    assert not (given.out / "student").exists()
    saved = [p.name for p in (given.out / "checkpoints").glob("step-*")]
    assert len(saved) == 1
    reached = int(saved[0].removeprefix("step-"))
    assert max(losses(given.out)) == reached
    for out in (given.out, tmp_path / "whole"):
        run(settings(out=out, epochs=200.0, max_steps=reached + 3))
    assert losses(given.out) == losses(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_instants_nothing_but_the_last_steps_is_lost(settings, tmp_path):
    """Before any of the calls by which it changes files: drawn are their numbers, not times."""
    given = settings(out=tmp_path / "killed", epochs=20.0, checkpoint_steps=5, kd=["crd"])
    whole = settings(out=tmp_path / "whole", epochs=20.0, kd=["crd"])
    rng = random.Random(0)
    kills = 0
    with Warm(tmp_path / "logs") as warm:
        # in a process of its own as well: the number of threads decides the last bits of a sum
        done = warm.run(words_of(whole))
        assert done.status == 0, done.said
        while kills < 20:
            count = rng.randint(1, 150)
            done = warm.run(words_of(given), instant=[CHANGES, str(given.out), count])
            if done.status == 0:
                break
            assert done.status == -signal.SIGKILL, done.said
            kills += 1
        done = warm.run(words_of(given))
        assert done.status == 0, done.said
    assert kills > 3
    assert losses(given.out) == losses(whole.out)
    assert same_weights(given.out, whole.out)


@pytest.mark.slow
def test_two_processes_train_as_one(settings, tmp_path):
    """With objectives that need the other process's clips, forward and backward."""
    changes = {
        "kd": ["crd", "nst", "infonce"], "nst_pattern": "batch", "crd_symmetric": True,
        "epochs": 2.0,
    }  # fmt: skip
    config = json.loads(Path(settings().student).read_text())
    config.update(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    (tmp_path / "config.json").write_text(json.dumps(config))
    changes["student"] = str(tmp_path / "config.json")
    one, two = settings(out=tmp_path / "one", **changes), settings(out=tmp_path / "two", **changes)
    run(one)
    launcher = [  # by number, since a bare machine may not know the name localhost
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
    ]  # fmt: skip
    done = subprocess.run(
        [*launcher, *command(two)[1:]], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr
    again = subprocess.run(
        [*launcher, *command(two)[1:]], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("nothing to do") == 1
    for step, wanted in losses(tmp_path / "one").items():
        got = losses(tmp_path / "two")[step]
        for name in wanted:
            if name.startswith("loss"):
                assert got[name] == pytest.approx(wanted[name], rel=1e-5), (step, name)
    for name, wanted in weights(tmp_path / "one").items():
        got = weights(tmp_path / "two")[name]
        torch.testing.assert_close(
            got, wanted, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--kd", "none", "--student", "bert-tiny", "--batch-size", "64"],
        ["--kd", "crd", "--crd-negatives", "4096", "--student", "bert-mini", "--batch-size", "32"],
        ["--kd", "nst", "--kd-pass", "clean", "--student", "bert-small", "--batch-size", "16"],
    ],
    ids=["none", "crd", "nst-clean"],
)
def test_memory_stays_below_what_was_announced(cache, tmp_path, words):
    script = (
        "import sys, threading, time\n"
        "from pipeline.foundation.memory import resident_bytes\n"
        "peak = [0]\n"
        "def watch():\n"
        "    while True:\n"
        "        peak[0] = max(peak[0], resident_bytes())\n"
        "        time.sleep(0.005)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "from stages import cli\n"
        "try:\n"
        "    cli.main()\n"
        "finally:\n"
        "    print('PEAK', peak[0] / 1e9)\n"
    )
    command = ["distill", str(cache), "--out", str(tmp_path / "run"), "--max-steps", "4"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command, *words, "--measure-every", "10"],
        capture_output=True, text=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    told = float(re.search(r"at most (\d+\.\d+) GB later", done.stderr)[1])
    taken = float(re.search(r"PEAK (\S+)", done.stdout)[1])
    assert 0.3 * told < taken <= told


def test_compiling_is_refused_or_left_out_where_it_cannot_be(settings, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SpeechkdError, match=r"needs the compiler g\+\+.*or drop --compile"):
        run(settings(compile="yes"))
    assert not settings().out.exists()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    assert not assembly.shall_compile(settings(), torch.device("cuda"))
    said = capsys.readouterr().err
    assert "WARNING: trains uncompiled" in said
    assert "a GPU of compute capability 7.0, not 6.1" in said
    assert not assembly.shall_compile(settings(compile="no"), torch.device("cuda"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("word", "steps", "pays"), [("auto", 4_999, False), ("auto", 5_000, True), ("yes", 1, True)]
)
def test_short_runs_are_compiled_only_where_it_is_asked_for(settings, capsys, word, steps, pays):
    """88 s of compiling came before the first of twenty steps."""
    made = settings(compile=word)
    # by the whole schedule, so that a sitting of a few steps decides as the others do
    schedule = SimpleNamespace(total_steps=steps, max_steps=3)
    assert assembly.compiling_pays(made, schedule) == pays
    assert ("pays from 5,000 steps on, and this run has 4,999" in capsys.readouterr().err) != pays


@pytest.mark.slow
@pytest.mark.skipif(missing_for_compiling("cpu") != "", reason="needs a C++ compiler and Python.h")
def test_compiled_once_and_never_again(settings, tmp_path):
    """One graph for training and one for validation per shape, whatever the batches hold."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run(settings(out=tmp_path / "fast", compile="yes", max_steps=6))
    run(settings(out=tmp_path / "fast", compile="yes"))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 2 <= graphs <= 4
    # other models of the same shapes, which the same graphs serve
    run(settings(out=tmp_path / "again", compile="yes"))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    run(settings(out=tmp_path / "plain"))
    fast, plain = losses(tmp_path / "fast"), losses(tmp_path / "plain")
    assert fast.keys() == plain.keys()
    assert fast[20]["loss/mlm"] == pytest.approx(plain[20]["loss/mlm"], rel=1e-4)


def test_loss_that_is_not_finite_is_skipped_then_stops_the_run(settings, monkeypatch):
    from pipeline.distillation.module import Distillation

    forward = Distillation.forward
    calls = []

    def poisoned(self, *args, **kwargs):
        losses = forward(self, *args, **kwargs)
        if self.training:
            calls.append(None)
            if len(calls) in (3, *range(9, 99)):
                losses["loss"] = losses["loss"] * torch.nan
        return losses

    monkeypatch.setattr(Distillation, "forward", poisoned)
    with pytest.raises(SpeechkdError, match="not finite 5 steps in a row") as error:
        run(settings(checkpoint_steps=4))
    assert "step-000000008" in str(error.value)
    lines = metrics(settings().out)
    assert [line["skipped"] for line in lines if "loss/mlm" in line][:12] == [
        0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 4, 5,
    ]  # fmt: skip
    assert not (settings().out / "student").exists()
