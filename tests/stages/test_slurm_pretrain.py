"""`speechkd slurm pretrain-…`: the grid of runs, what it refuses, and the script of an array."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.cluster.chain import Plan, StagePlan, read_plan, write_plan
from pipeline.cluster.goals import GOALS, SplatGoal
from pipeline.cluster.settings import RunGridSettings
from pipeline.cluster.slurm import Submission
from pipeline.foundation.errors import NotThere, SpeechkdError
from stages import slurm
from tests.helpers.caches import make_sequence_cache
from tests.helpers.job_scripts import make_stubs, options, printed, start, told


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    make_sequence_cache(folder / "mels", [3, 3], "whisper-mel", width=8, most_rows=30)
    make_sequence_cache(
        folder / "texts", [3, 3], "text", width=5, most_rows=9, dtype="float32", teacher="bert",
        teacher_sha256="0" * 64, layer=2,
    )  # fmt: skip
    return folder


@pytest.fixture
def here(tmp_path, caches, monkeypatch):
    shutil.copytree(caches, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stubs(tmp_path):
    return make_stubs(tmp_path / "stubs")


def grid(words, **changes):
    return RunGridSettings(**options(words, **{"dry_run": True, **changes}))


SPLAT = ["mels", "--text", "texts", "--init", "fresh:base"]


def test_an_array_task_is_a_run_of_the_grid(here, stubs, capsys):
    words = [*SPLAT, "--text-side", "none"]
    vary = ["align=seq,tok-contrast", "control=real,relabelled"]
    slurm.pretrain_splat(grid(words, vary=vary, seeds="3-4", gpus=0))
    text = printed(capsys)["pretrain_splat.sbatch"]
    assert "#SBATCH --array=0-7%8\n" in text
    assert "#SBATCH --job-name=pretrain-splat\n" in text
    names = []
    for task, (align, control, seed) in enumerate(
        (a, c, s)
        for a in ("seq", "tok-contrast")
        for c in ("real", "relabelled")
        for s in ("3", "4")
    ):
        assert start(text, stubs, here, SLURM_ARRAY_TASK_ID=str(task)).wait(20) == 0
        names.append(str(here / "run" / "splat" / f"{align}-{control}-seed{seed}"))
        own = [f"--align={align}", f"--control={control}"]
        assert told(here)[-1] == [
            *("pretrain", "splat", *words, "--seed", seed, "--out", names[-1], *own)
        ]
    assert len(set(names)) == 8


def test_the_seed_of_a_run_stands_in_the_words_where_they_ask_for_it(here, stubs, capsys):
    """So that each alignment begins from the masked audio of its own seed."""
    words = ["mels", "--text", "texts", "--init", "run/masked-audio/seed{seed}"]
    slurm.pretrain_splat(grid(words, seeds="0,7", after=["41"]))  # what makes them may still wait
    text = printed(capsys)["pretrain_splat.sbatch"]
    assert start(text, stubs, here, SLURM_ARRAY_TASK_ID="1").wait(20) == 0
    (line,) = told(here)
    assert line[:7] == ["pretrain", "splat", *words[:4], "run/masked-audio/seed7"]
    assert line[-1] == str(here / "run" / "splat" / "seed7")


def test_values_that_are_lists_are_joined_by_plus(here, stubs, capsys):
    slurm.pretrain_whisbert(grid(["mels"], vary=["losses=mlm,mlm+mam"], after=["1"]))
    text = printed(capsys)["pretrain_whisbert.sbatch"]
    assert start(text, stubs, here, SLURM_ARRAY_TASK_ID="1").wait(20) == 0
    out = str(here / "run" / "whisbert" / "mlm+mam-seed0")
    assert told(here) == [
        ["pretrain", "whisbert", "mels", "--seed", "0", "--out", out, "--losses=mlm,mam"]
    ]


@pytest.mark.parametrize(
    ("submit", "method"),
    [(slurm.pretrain_masked_audio, "masked-audio"), (slurm.pretrain_ctal, "ctal")],
)
def test_without_anything_to_vary_there_is_a_run_per_seed(here, stubs, capsys, submit, method):
    hostile = "$(touch pwned) '\"; `x` é"
    submit(grid(["mels", "--license", hostile], seeds="0-1"))
    text = printed(capsys)[f"pretrain_{method.replace('-', '_')}.sbatch"]
    assert start(text, stubs, here, SLURM_ARRAY_TASK_ID="1").wait(20) == 0
    out = str(here / "run" / method / "seed1")
    assert told(here) == [
        ["pretrain", method, "mels", "--license", hostile, "--seed", "1", "--out", out]
    ]
    assert not (here / "pwned").exists()


def test_several_gpus_are_several_processes_of_one_run(here, capsys):
    slurm.pretrain_masked_audio(grid(["mels"], gpus=4, nodes=2))
    text = printed(capsys)["pretrain_masked_audio.sbatch"]
    assert "\nprocesses=4\n" in text
    assert "#SBATCH --nodes=2\n" in text


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        ([*SPLAT, "--seed", "3"], {}, "before the --"),
        ([*SPLAT, "--dry-run"], {}, "before the --"),
        ([*SPLAT, "--out=x"], {}, "RUN/splat"),
        ([*SPLAT, "--align", "seq"], {"vary": ["align=seq,tok"]}, "--vary gives it"),
        (SPLAT, {"vary": ["align"]}, "write an option and its values"),
        (SPLAT, {"vary": ["align=seq,,tok"]}, "write an option and its values"),
        (SPLAT, {"vary": ["--align=seq"]}, "write an option and its values"),
        (SPLAT, {"vary": ["align=seq", "align=tok"]}, "names --align twice"),
        (SPLAT, {"vary": ["seed=0,1"]}, "--seeds gives the seeds"),
        (SPLAT, {"vary": ["out=a,b"]}, "each run has its own folder"),
        (SPLAT, {"vary": ["align=seq,tik"]}, "tik"),
        (SPLAT, {"vary": ["aline=seq"]}, "No such option: --aline"),
        (SPLAT[:-2], {"vary": ["init=a/b,a_b"]}, "two runs would have the folder a_b-seed0"),
        (SPLAT[:-2], {}, "Missing option '--init'"),
        ([*SPLAT[:-1], "nowhere"], {}, "has no speech/front.json"),
        (["nothing", *SPLAT[1:]], {}, "there is no cache here"),
        (["texts", *SPLAT[1:]], {}, "extract-features"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused_before_anything_is_submitted(here, words, changes, message):
    with pytest.raises(SpeechkdError, match=message):
        slurm.pretrain_splat(grid(words, dry_run=False, **changes))
    assert not (here / "run").exists()


def test_a_cache_that_is_not_finished_is_refused_unless_its_job_is_waited_for(here, capsys):
    shutil.rmtree(here / "mels" / "receipts")
    with pytest.raises(SpeechkdError, match="2 of 2 shards are not done"):
        slurm.pretrain_ctal(grid(["mels"]))
    slurm.pretrain_ctal(grid(["mels"], after=["3"]))
    assert "pretrain_ctal.sbatch" in printed(capsys)


def test_a_run_counts_when_its_model_is_there_and_its_record_says_so(tmp_path):
    names = [str(tmp_path / name) for name in "abc"]
    for name, status in zip(names, ("finished", "finished", "running"), strict=True):
        (Path(name) / "speech").mkdir(parents=True)
        record = {"status": status, "plan": {"total_steps": 40}}
        (Path(name) / "run.json").write_text(json.dumps(record))
    (Path(names[1]) / "speech").rmdir()
    lines = [{"step": 10, "seconds": 1.0}, {"step": 20, "seconds": 3.0}]
    (Path(names[2]) / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    progress = SplatGoal(tuple(names)).progress()
    assert len(progress.times) == 1
    assert progress.steps_left == 40 + 20
    assert progress.steps_per_second == 5


def test_the_record_of_jobs_knows_every_method(tmp_path):
    stages = [name for name in GOALS if name.startswith("pretrain-")]
    assert len(stages) == 4
    plan = Plan(tmp_path).with_stages(
        [StagePlan(GOALS[name](("a", "b")), Submission(name, "7", 2, 0.0)) for name in stages]
    )
    write_plan(plan)
    again = read_plan(tmp_path)
    assert [type(stage.goal) for stage in again.stages] == [GOALS[name] for name in stages]
    assert all(stage.goal.total == 2 for stage in again.stages)


def test_an_alignment_of_a_run_that_is_not_there_needs_the_job_that_makes_it(here):
    words = ["mels", "--text", "texts", "--init", "run/masked-audio/seed{seed}"]
    with pytest.raises(NotThere, match=r"run/masked-audio/seed0"):
        slurm.pretrain_splat(grid(words))


def test_an_audio_encoder_that_is_not_there_is_refused_before_it_is_submitted(here):
    with pytest.raises(SpeechkdError, match="nowhere"):
        slurm.pretrain_whisbert(grid(["mels", "--init-audio", "nowhere/at/all"]))
