"""`speechkd slurm`: what it writes, what it refuses, and how its arrays fare on a real Slurm."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from pipeline.cache.identity import KINDS
from pipeline.cache.sequences import SequenceReader
from pipeline.cache.store import TeacherCache
from pipeline.cluster.chain import Plan, StagePlan, write_plan
from pipeline.cluster.goals import FeaturesGoal
from pipeline.cluster.slurm import Submission
from pipeline.extraction.settings import FeatureSettings, TextSettings
from pipeline.foundation.errors import SpeechkdError
from pipeline.pretraining.splat.settings import SplatSettings
from stages import extract_features, extract_text, pretrain_splat, slurm
from stages.cli import STAGES
from stages.options import parse
from stages.slurm_steps import FINETUNE
from tests.helpers.caches import make_cache, make_sequence_cache
from tests.helpers.encoders import save_encoder
from tests.helpers.job_scripts import begun, heeds, make_stubs, options, printed, start, told
from tests.helpers.mosei import write_mmsa
from tests.helpers.processes import PATIENCE_SECONDS, Beside, state, wait_for
from tests.helpers.slurm import SEARCH, CannotRunError, Cluster, knows_itself, why_not
from tests.helpers.tars import write_corpus
from tests.helpers.whispers import save_random_whisper
from tests.helpers.word_caches import make_word_cache

TEMPLATES = sorted(Path(slurm.__file__).parent.glob("*.sbatch"))
SMALL = ["--gpus", "0", "--cpus", "1", "--memory", "2G", "--time", "5", "--at-once", "2"]
EXTRACTIONS = ("extract-teacher", "extract-features", "extract-text")
MELS = ["shards/manifest.jsonl", "--features", "whisper-mel", "--cache"]
HOSTILE = ["a b", "$(touch pwned)", "`x`", "'", '"; exit 3', "line\nbreak", "*", "--", "é"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("shards"), [2, 1, 3], samples=800)
    return tmp_path


@pytest.fixture
def stubs(tmp_path):
    return make_stubs(tmp_path / "stubs")


def test_templates_are_sound():
    assert [path.stem for path in TEMPLATES] == [
        *("distill", "extract_features", "extract_teacher", "extract_text", "finetune"),
        *("pretrain", "report"),
    ]
    endings = set()
    for path in TEMPLATES:
        subprocess.run(["bash", "-n", path], check=True)
        if path.stem != "report":
            endings.add(path.read_text().partition("# The warning that time")[2])
    assert len(endings) == 1, "every array must deal with signals in the same way"


@pytest.mark.skipif(shutil.which("shellcheck", path=SEARCH) is None, reason="needs shellcheck")
def test_templates_pass_shellcheck():
    subprocess.run([shutil.which("shellcheck", path=SEARCH), *TEMPLATES], check=True)


@pytest.mark.parametrize("command", [*EXTRACTIONS, "finetune"])
def test_a_template_of_shares_runs_as_it_is(tmp_path, stubs, command):
    path = next(path for path in TEMPLATES if path.stem == command.replace("-", "_"))
    job = start(path.read_text(), stubs, tmp_path)
    assert job.wait(PATIENCE_SECONDS) == 0
    assert told(tmp_path) == [[command, "--array-task", "2/4"]]
    assert f"#SBATCH --job-name={command}\n" in path.read_text()


def test_words_arrive_exactly_and_run_nothing(here, stubs, capsys):
    words = ["shards/manifest.jsonl", "--cache", *HOSTILE[:1]]
    for hostile in HOSTILE:
        words += ["--teacher", hostile]
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True)))
    text = printed(capsys)["extract_teacher.sbatch"]
    job = start(text, stubs, here)
    assert job.wait(PATIENCE_SECONDS) == 0
    assert told(here) == [["extract-teacher", *words, "--array-task", "2/3"]]
    assert not (here / "pwned").exists()


def test_frames_are_an_array_over_the_shards(here, stubs, capsys):
    words = [*MELS, "a b"]
    slurm.extract_features(slurm.ShareSettings(**options(words, dry_run=True, gpus=2)))
    text = printed(capsys)["extract_features.sbatch"]
    assert "#SBATCH --gpus-per-node=2\n" in text
    assert "#SBATCH --array=0-2%8\n" in text  # three tars
    assert start(text, stubs, here).wait(PATIENCE_SECONDS) == 0
    assert told(here) == [["extract-features", *words, "--array-task", "2/3"]]


def test_prosody_asks_for_no_gpu(here, capsys):
    words = ["shards/manifest.jsonl", "--features", "prosody", "--cache", "c"]
    slurm.extract_features(slurm.ShareSettings(**options(words, dry_run=True, gpus=2)))
    assert "gpus" not in printed(capsys)["extract_features.sbatch"]


def test_texts_are_an_array_over_the_shards_of_the_cache_that_is_read(here, stubs, capsys):
    make_cache(here / "c", [3, 2])
    words = ["c", "--teacher", "bert", "--out", "texts"]
    slurm.extract_text(slurm.ShareSettings(**options(words, dry_run=True)))
    text = printed(capsys)["extract_text.sbatch"]
    assert "#SBATCH --array=0-1%8\n" in text
    assert start(text, stubs, here, SLURM_ARRAY_TASK_ID="0").wait(PATIENCE_SECONDS) == 0
    assert told(here) == [["extract-text", *words, "--array-task", "0/2"]]


def test_texts_wait_for_the_job_of_the_run_that_makes_their_cache(here, capsys):
    """The cache comes with its first array task, so the record of the run tells its shards."""
    words = ["run/mels", "--out", "texts"]
    goal = FeaturesGoal(7, str(here / "run" / "mels"))
    job = Submission("extract-features", "41", 7, 0.0)
    write_plan(Plan(here / "run" / "slurm").with_stages([StagePlan(goal, job)]))
    slurm.extract_text(slurm.ShareSettings(**options(words, dry_run=True, after=["41"])))
    assert "#SBATCH --array=0-6%8\n" in printed(capsys)["extract_text.sbatch"]
    for after in ([], ["42"]):
        with pytest.raises(SpeechkdError, match="there is no cache here"):
            slurm.extract_text(slurm.ShareSettings(**options(words, after=after)))


def test_texts_of_a_cache_that_is_not_finished_are_refused_unless_its_job_is_waited_for(
    here, capsys
):
    shutil.rmtree(make_cache(here / "c", [3, 2]).folder.path / "receipts")
    words = ["c", "--out", "texts"]
    with pytest.raises(SpeechkdError, match="2 of 2 shards are not done"):
        slurm.extract_text(slurm.ShareSettings(**options(words)))
    slurm.extract_text(slurm.ShareSettings(**options(words, dry_run=True, after=["3"])))
    assert "#SBATCH --array=0-1%8\n" in printed(capsys)["extract_text.sbatch"]


def test_a_student_of_words_is_submitted_with_its_cache_of_words(here, capsys):
    make_word_cache(here / "words", [(f"{n} words", None, "11") for n in range(4)])
    grid = {"kd": ["crd"], "dry_run": True}
    slurm.distill(slurm.GridSettings(**options(["words", "--level", "word"], **grid)))
    assert "distill.sbatch" in printed(capsys)


def test_students_of_texts_alone_are_submitted_without_a_cache(here, capsys):
    words = ["--texts", "talk.tsv", "--epochs", "2"]
    slurm.distill(
        slurm.GridSettings(**options(words, kd=["none"], student_seeds="0-1", dry_run=True))
    )
    assert "#SBATCH --array=0-1%8" in printed(capsys)["distill.sbatch"]
    with pytest.raises(SpeechkdError, match="--kd crd learns from speech"):
        slurm.distill(slurm.GridSettings(**options(words, kd=["crd"], dry_run=True)))


def test_an_array_task_is_a_student_of_the_grid(here, stubs, capsys):
    make_cache(here / "c", [3])
    settings = slurm.GridSettings(
        **options(
            ["c", "--epochs", "2"],
            kd=["none,nst+crd"],
            control=["real", "shuffled"],
            student_seeds="0-1",
            dry_run=True,
        )
    )
    slurm.distill(settings)
    text = printed(capsys)["distill.sbatch"]
    assert "#SBATCH --array=0-5%8" in text  # none has no shuffled control
    assert start(text, stubs, here, SLURM_ARRAY_TASK_ID="5").wait(PATIENCE_SECONDS) == 0
    out = str(here / "run" / "students" / "nst+crd-shuffled-seed1")
    own = ["--kd", "nst,crd", "--control", "shuffled", "--seed", "1", "--out", out]
    assert told(here) == [["distill", "c", "--epochs", "2", *own]]


def test_a_student_has_its_own_weight_beside_one_without_a_teacher(here, stubs, capsys):
    make_cache(here / "c", [3])
    grid = {"kd": ["none,crd", "crd:10", "nst:5+crd:0.5"], "dry_run": True}
    slurm.distill(slurm.GridSettings(**options(["c"], **grid)))
    text = printed(capsys)["distill.sbatch"]
    wanted = {
        0: ("none-real-seed0", "none", []),
        1: ("crd-real-seed0", "crd", []),
        2: ("crd-gamma10-real-seed0", "crd", ["--gamma", "10"]),
        3: ("nst-gamma5+crd-gamma0.5-real-seed0", "nst,crd", ["--gamma", "5", "--gamma", "0.5"]),
    }
    for task in wanted:
        assert start(text, stubs, here, SLURM_ARRAY_TASK_ID=str(task)).wait(PATIENCE_SECONDS) == 0
    assert told(here) == [
        [
            *("distill", "c", "--kd", kd, "--control", "real", "--seed", "0"),
            *("--out", str(here / "run" / "students" / name), *gammas),
        ]
        for name, kd, gammas in wanted.values()
    ]


def test_every_command_that_fine_tunes_can_be_submitted():
    commands = [words.split(" ", 1) for stage in STAGES for words in stage.COMMANDS if " " in words]
    assert {verb for group, verb in commands if group == "finetune"} == {*FINETUNE}


@pytest.mark.parametrize(
    "verb", [["table"], ["audio-text", "--streams", "text", "--device", "cuda"]]
)
def test_every_fold_of_a_table_is_counted_as_cells(here, stubs, capsys, verb):
    rows = [f"k{i},text {i},{i % 2},s{i % 5}" for i in range(20)]
    (here / "t.csv").write_text("\n".join(["key,text,label,session", *rows]))
    words = [*verb, "t.csv", "--fold-column", "session", "--checkpoint", "a", "--checkpoint", "b"]
    settings = options([*words, "--seeds", "0-2", "--out", "r"], dry_run=True, array_tasks=99)
    slurm.finetune(slurm.ShareSettings(**settings))
    assert "#SBATCH --array=0-29%8" in printed(capsys)["finetune.sbatch"]  # 2 × 5 × 3


def test_questions_about_passages_are_cells_of_encoders_and_seeds(here, capsys):
    make_sequence_cache(here / "mels", [3], "whisper-mel", width=4, most_rows=20)
    keys = SequenceReader(TeacherCache.open(str(here / "mels"), kinds=KINDS)).clips.key
    (here / "p.csv").write_text("\n".join(["passage,clip", *(f"{k},{k}" for k in keys)]))
    rows = [
        f"q{i},what,{key},0,0.01,{split}"
        for i, (key, split) in enumerate(zip(keys, ("train", "valid", "test"), strict=True))
    ]
    head = "question_id,question,passage,answer_start_s,answer_end_s,split"
    (here / "q.csv").write_text("\n".join([head, *rows]))
    words = ["audio-spans", "q.csv", "--passages", "p.csv", "--cache", "mels", "--out", "r"]
    words += ["--checkpoint", "fresh:base", "--checkpoint", "blind:run", "--seeds", "0-2"]
    slurm.finetune(slurm.ShareSettings(**options(words, dry_run=True, array_tasks=99)))
    script = printed(capsys)["finetune.sbatch"]
    assert "#SBATCH --array=0-5%8" in script  # 2 × 3
    assert "audio-spans q.csv --passages p.csv" in script

    (here / "q.csv").write_text("\n".join([head, *rows[::2]]))
    with pytest.raises(SpeechkdError, match="needs questions in split valid"):
        slurm.finetune(slurm.ShareSettings(**options(words, dry_run=True)))


@pytest.mark.parametrize(
    ("kd", "words", "message"),
    [
        (["none,crd"], ["--gamma", "10"], "write it behind the objective, as crd:10"),
        (["nst+crd:1"], [], "give each objective of a student its γ, or none"),
        (["crd:x"], [], "Invalid value for '--gamma'"),
        (["none:2"], [], "--gamma weighs an objective, and --kd none has none"),
    ],
)
def test_weights_that_do_not_fit_the_grid_are_told(here, kd, words, message):
    make_cache(here / "c", [3])
    with pytest.raises(SpeechkdError, match=message):
        slurm.distill(slurm.GridSettings(**options(["c", *words], kd=kd, dry_run=True)))


@pytest.mark.parametrize(
    ("number", "requeues"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)], ids=["USR2", "TERM"]
)
def test_a_signal_reaches_the_stage_and_only_a_warning_requeues(
    here, stubs, capsys, number, requeues
):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True)))
    job = start(printed(capsys)["extract_teacher.sbatch"], stubs, here, UNTIL="never")
    wait_for(lambda: begun(here), "the stage to start")
    wait_for(lambda: heeds(job, number), "the shell to set its traps")
    job.send_signal(number)
    assert job.wait(PATIENCE_SECONDS) == 143
    assert told(here)[1:] == [number]
    assert (here / "requeued").exists() == requeues
    if requeues:
        assert (here / "requeued").read_text() == "requeue 7_2\n"


def test_an_array_task_that_may_not_requeue_says_so(here, stubs, capsys):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True)))
    text = printed(capsys)["extract_teacher.sbatch"]
    job = start(text, stubs, here, UNTIL="never", REQUEUE="1")
    wait_for(lambda: begun(here), "the stage to start")
    wait_for(lambda: heeds(job, signal.SIGUSR2), "the shell to set its traps")
    job.send_signal(signal.SIGUSR2)
    output, _ = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 143
    assert "by hand" in output


def test_what_preemption_tells_a_step_alone_queues_again(here, stubs, capsys):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True)))
    text = printed(capsys)["extract_teacher.sbatch"]
    job = start(text, stubs, here, UNTIL="over", ENDS="1")
    wait_for(lambda: begun(here), "the stage to start")
    (here / "preempted").write_text("PreemptTime=2026-01-01T00:00:00 Other=1\n")
    (here / "over").touch()
    assert job.wait(PATIENCE_SECONDS) == 1
    assert (here / "requeued").read_text() == "requeue 7_2\n"
    # what was so when it started, of an earlier sitting, is no preemption of this one
    assert start(text, stubs, here, ENDS="1").wait(PATIENCE_SECONDS) == 1
    assert (here / "requeued").read_text() == "requeue 7_2\n"


def test_a_failure_keeps_its_status(here, stubs, capsys):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True)))
    job = start(printed(capsys)["extract_teacher.sbatch"], stubs, here, ENDS="5")
    output, _ = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 5
    assert "array task 7_2 failed with status 5" in output
    assert not (here / "requeued").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl", "--cache", "c"], "no such data manifest"),
        (["shards/manifest.jsonl"], "Missing option '--cache'"),
        (["shards/manifest.jsonl", "--cache", "c", "--tacher", "x"], "No such option: --tacher"),
        (["shards/manifest.jsonl", "--cache", "c", "--pooling", "max"], "--pooling"),
        (["shards/manifest.jsonl", "--cache", "c", "--array-task", "0/2"], "the array sets it"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_submitted(here, words, message):
    with pytest.raises(SpeechkdError, match=message):
        slurm.extract_teacher(slurm.ShareSettings(**options(words)))
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("submit", "words", "message"),
    [
        (slurm.extract_features, [*MELS, "c", "--mels", "81"], "--mels"),
        (slurm.extract_features, MELS[:3], "Missing option '--cache'"),
        (slurm.extract_features, [*MELS, "c", "--array-task=0/2"], "the array sets it"),
        (slurm.extract_text, ["c", "--out", "t", "--array-task", "0/2"], "the array sets it"),
        (slurm.extract_text, ["c"], "Missing option '--out'"),
    ],
)
def test_wrong_words_of_frames_and_texts_are_refused_likewise(here, submit, words, message):
    with pytest.raises(SpeechkdError, match=message):
        submit(slurm.ShareSettings(**options(words)))
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("submit", "settings", "words"),
    [
        (slurm.extract_teacher, slurm.ShareSettings, ["shards/manifest.jsonl", "--cache", "c"]),
        (slurm.extract_features, slurm.ShareSettings, [*MELS, "c"]),
        (slurm.extract_text, slurm.ShareSettings, ["c", "--out", "t"]),
        (slurm.distill, slurm.GridSettings, ["c"]),
        (slurm.finetune, slurm.ShareSettings, ["mosei", "--data", "label.csv"]),
    ],
    ids=[*EXTRACTIONS, "distill", "finetune"],
)
def test_a_dry_run_of_the_stage_is_not_submitted_as_a_job(here, submit, settings, words):
    with pytest.raises(SpeechkdError, match=r"--dry-run .* before the --"):
        submit(settings(**options([*words, "--dry-run"])))
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "gpu\n#SBATCH --wrap=x"}, "--partition"),
        ({"time": "1h 30"}, "--time"),
        ({"sbatch": ["constraint=a100"]}, "--sbatch=--constraint"),
        ({"sbatch": ["--constraint=$(x)"]}, "--sbatch"),
        ({"run": Path('a"b')}, "cannot take in a path"),
        ({"run": Path("a%j")}, "cannot take in a path"),
        ({"at_once": 0}, "--at-once"),
    ],
)
def test_what_a_header_cannot_hold_is_refused(here, changes, message):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    with pytest.raises(SpeechkdError, match=message):
        slurm.extract_teacher(slurm.ShareSettings(**{**options(words, dry_run=True), **changes}))


def test_resources_stand_in_the_header(here, capsys):
    words = ["shards/manifest.jsonl", "--cache", "c"]
    changes = {
        "partition": "gpu", "account": "lab", "gpus": 2, "memory": "64G", "time": "1-00:00:00",
        "at_once": 2, "array_tasks": 2, "requeue": False, "sbatch": ["--constraint=a100"],
        "container": "my image.sif",
    }  # fmt: skip
    slurm.extract_teacher(slurm.ShareSettings(**options(words, dry_run=True, **changes)))
    text = printed(capsys)["extract_teacher.sbatch"]
    for line in (
        "--partition=gpu", "--account=lab", "--gpus-per-node=2", "--mem=64G", "--time=1-00:00:00",
        "--array=0-1%2", "--no-requeue", "--constraint=a100", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text
    assert "inside=(apptainer exec --nv 'my image.sif')" in text


def test_without_slurm_the_message_says_where_to_go(here, monkeypatch):
    monkeypatch.setattr("pipeline.cluster.slurm.shutil.which", lambda _: None)
    with pytest.raises(SpeechkdError, match="login node"):
        slurm.extract_teacher(
            slurm.ShareSettings(**options(["shards/manifest.jsonl", "--cache=c"]))
        )
    assert not (here / "run").exists()


@pytest.mark.parametrize(("most", "refused"), [(1, True), (2, False), (None, False)])
def test_an_array_that_slurm_would_not_take_is_refused_before_anything_is_submitted(
    here, monkeypatch, most, refused
):
    """An array's indices lie below MaxArraySize; a Slurm that does not say is left to answer."""
    folder = here / "bin"
    folder.mkdir()
    config = f"MaxArraySize            = {most}" if most else "scontrol: error"
    programs = {"scontrol": f"echo '{config}'", "sbatch": "echo 7", "squeue": "", "scancel": ""}
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\necho {name} >> {here}/called\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    words = options(["shards/manifest.jsonl", "--cache=c"], array_tasks=2)
    if refused:
        with pytest.raises(SpeechkdError, match=r"an array of 2 tasks, .*at most 1 \(MaxArraySize"):
            slurm.extract_teacher(slurm.ShareSettings(**words))
    else:
        slurm.extract_teacher(slurm.ShareSettings(**words))
    called = (here / "called").read_text().split()
    assert called.count("sbatch") == (0 if refused else 1)
    assert (here / "run" / "slurm").exists() != refused


def test_a_cache_that_is_not_finished_is_refused(here):
    shutil.rmtree(make_cache(here / "c", [3, 2]).folder.path / "receipts")
    with pytest.raises(SpeechkdError, match="2 of 2 shards are not done"):
        slurm.distill(slurm.GridSettings(**options(["c"])))
    with pytest.raises(SpeechkdError, match="there is no cache here"):
        slurm.distill(slurm.GridSettings(**options(["nothing"])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c", "--seed", "3"], "before the --"),
        (["c", "--out=x"], "RUN/students"),
        (["c", "--kd", "nst"], "before the --"),
    ],
)
def test_the_grid_is_not_given_twice(here, words, message):
    with pytest.raises(SpeechkdError, match=message):
        slurm.distill(slurm.GridSettings(**options(words)))


def test_a_chain_needs_its_stages_in_order(here):
    words = ["extract-teacher", "shards/manifest.jsonl", "--", "finetune", "mosei"]
    with pytest.raises(SpeechkdError, match="in this order"):
        slurm.everything(slurm.AllSettings(**options(words)))


def test_a_chain_fine_tunes_every_student(here, capsys):
    write_mmsa(here / "label.csv", 30)
    words = shlex.split(
        "extract-teacher shards/manifest.jsonl -- distill --epochs 3 -- "
        "finetune mosei --data label.csv --task sentiment3,sentiment --seeds 0-2 "
        "--checkpoint bert=google/bert_uncased_L-2_H-128_A-2"
    )
    slurm.everything(
        slurm.AllSettings(**options(words, kd=["none", "crd"], dry_run=True, run=here / "r"))
    )
    scripts = printed(capsys)
    assert list(scripts) == [
        *("extract_teacher.sbatch", "distill.sbatch", "finetune.sbatch", "report.sbatch")
    ]
    students = [
        f"{name}={here}/r/students/{name}" for name in ("none-real-seed0", "crd-real-seed0")
    ]
    for student in students:
        assert f"--checkpoint {student}" in scripts["finetune.sbatch"]
    assert "#SBATCH --array=0-17%8" in scripts["finetune.sbatch"]  # 3 encoders, 2 tasks, 3 seeds
    assert "gpus" not in scripts["report.sbatch"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of: mosei, table"),
        (["mosie", "--data", "label.csv"], "one of: mosei, table"),
        (["mosei", "--data", "none.csv", "--checkpoint", "a", "--out", "r"], "none.csv"),
        (["mosei", "--data", "label.csv", "--checkpoint", "a", "--out", "r", "--task", "fear"],
         "fear"),
        (["table", "none.csv", "--checkpoint", "a", "--out", "r"], "there is no such file"),
    ],
)  # fmt: skip
def test_wrong_data_is_known_before_anything_is_submitted(here, words, message):
    write_mmsa(here / "label.csv", 30)
    with pytest.raises(SpeechkdError, match=message):
        slurm.finetune(slurm.ShareSettings(**options(words)))


def test_status_of_nothing_says_what_to_give(tmp_path):
    with pytest.raises(SpeechkdError, match="nothing was submitted here"):
        slurm.status(slurm.StatusSettings(run=tmp_path))


# ---- on a real Slurm ----


needs_slurm = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    try:
        found.start()
        yield found
    except CannotRunError as error:
        pytest.skip(f"needs Slurm: {error}")
    finally:
        found.stop()
    assert not found.processes()
    assert not found.folder.exists()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Tars, a teacher, students' architectures and labels; the folder's name has a space."""
    folder = tmp_path_factory.mktemp("a cluster")
    write_corpus(folder / "shards", [5, 6, 4] * 4)
    save_random_whisper(folder / "whisper")
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    config.save_pretrained(folder / "student")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config.save_pretrained(folder / "calm")
    write_mmsa(folder / "label.csv", 40)
    make_cache(folder / "made-up", [60, 40])
    save_encoder(
        folder / "bert", [f"this is clip clip-{i}-{j}" for i in range(9) for j in range(9)]
    )
    return folder


def submit(cluster, place, *words):
    """Submit and return the ids of the jobs by stage."""
    done = cluster.run("slurm", *words, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {stage: job for stage, _, job in lines}


def ended(cluster, job):
    def gone():
        return not [name for name in cluster.states() if name.split("_")[0] == job]

    try:
        wait_for(gone, f"job {job} to end", 2 * PATIENCE_SECONDS, every=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster.log()}") from None


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def logs(place, run):
    return {path.name: path.read_text() for path in (place / run / "slurm" / "logs").iterdir()}


def weights(folder):
    return load_file(folder / "student" / "model.safetensors")


def same_weights(one, other):
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(v.equal(theirs[n]) for n, v in mine.items())


def furthest(one, other):
    """The largest difference between any two weights of the same place."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max(float((v - theirs[n]).abs().max()) for n, v in mine.items())


STUDENT = [
    "--device", "cpu", "--vocab-size", "150", "--batch-size", "16", "--learning-rate", "0.001",
]  # fmt: skip
SHORT = [*STUDENT, "--student", "student/config.json"]
LONG = ["made-up", *SHORT, "--epochs", "12", "--log-every", "1", "--measure-every", "50"]
CALM = ["made-up", *STUDENT, "--student", "calm/config.json", "--epochs", "10", "--log-every", "1"]
EXTRACT = ["shards/manifest.jsonl", "--teacher", "whisper", "--devices", "cpu"]
ALONE = {  # what nothing disturbs, without Slurm: a cache and two students
    "cache": ["extract-teacher", *EXTRACT, "--cache", "alone/cache"],
    "student": ["distill", *LONG, "--kd", "crd", "--out", "alone/student"],
    "calm": ["distill", *CALM, "--kd", "crd", "--out", "alone/calm"],
}


@pytest.fixture(scope="module")
def alone(cluster, place):
    """Runs that nothing disturbs, on this machine: a function from a name to the folder."""
    running = {
        name: subprocess.Popen(
            ["speechkd", *words], env=cluster.environment, cwd=place,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for name, words in ALONE.items()
    }  # fmt: skip

    def ended_well(name):
        _, told = running[name].communicate(timeout=2 * PATIENCE_SECONDS)
        assert running[name].returncode == 0, told
        return place / "alone" / name

    yield ended_well
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def limited(cluster, place):
    """A student that its time limit of a minute strikes; its job, its folder, who lets it go on."""
    limits = [*SMALL, "--time", "1", "--warning-seconds", "5"]
    grid = ["distill", "--run", "limit", *limits, "--kd", "crd", "--", *LONG]
    out = place / "limit" / "students" / "crd-real-seed0"
    rule = hold_in_training(cluster, out)
    job = submit(cluster, place, *grid)["distill"]
    processes = stopped_in_training(cluster, rule, out)
    return job, out, Beside(lambda: go_on_when_warned(processes))


def processes_of(cluster, *words):
    """Processes of jobs that run `speechkd` with these words, without shells and launchers."""
    found = []
    for process in cluster.processes():
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        except OSError:  # gone since
            continue
        launchers = [word for word in line if word.startswith("--nproc-per-node")]
        if set(words) <= set(line) and "bash" not in line[0] and not launchers:
            found.append(process)
    return found


def hold_in_training(cluster, out):
    """Let a student's process stop before it writes its fifth line; the rule that makes it so."""
    return cluster.hold("open", rf"{out.relative_to(out.parents[2])}/metrics\.jsonl$", 5)


def stopped_in_training(cluster, rule, out):
    """Wait until a student's processes are stopped; which they are.

    The one that logs stops by the rule. Another waits for it, and is stopped from here.
    """
    wait_for(lambda: stopped(cluster, "distill", str(out)), "training to be stopped")
    rule.unlink()
    processes = processes_of(cluster, "distill", str(out))
    assert all(map(hold, processes))
    return processes


def stopped(cluster, *words):
    """Processes that run `speechkd` with these words and are stopped."""
    return [process for process in processes_of(cluster, *words) if state(process) == "T"]


def hold(process):
    """Stop a process where it is; whether it was still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGSTOP)
        return True
    return False


def share_of(process):
    """Index of the array task that a process works for."""
    line = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
    return line[line.index("--array-task") + 1].partition("/")[0]


def go_on_when_warned(processes):
    """Let stopped processes go on once one of them has the warning waiting."""
    waiting = 1 << (signal.SIGUSR2 - 1)

    def warned():
        texts = [Path(f"/proc/{process}/status").read_text() for process in processes]
        return any(int(re.search(r"ShdPnd:\s*(\S+)", text)[1], 16) & waiting for text in texts)

    wait_for(warned, "the warning")
    for process in processes:
        os.kill(process, signal.SIGCONT)


class TestOnSlurm:
    pytestmark = needs_slurm

    # first of all, because it waits for its time limit while the others run
    @pytest.mark.usefixtures("limited")
    def test_a_disturbed_array_builds_the_cache_of_one_process(self, cluster, place, alone):
        array = ["extract-teacher", "--run", "one", *SMALL, "--array-tasks", "4", "--"]
        # held, so that what is to come does not find them done
        rule = cluster.hold("os.rename", r"shared/receipts/\d+\.json$", 2)
        job = submit(cluster, place, *array, *EXTRACT, "--cache", "shared")["extract-teacher"]
        receipts = place / "shared" / "receipts"

        def both():
            processes = stopped(cluster, "extract-teacher", "shared")
            return processes if len(processes) == 2 else []

        processes = {share_of(one): one for one in wait_for(both, "two array tasks at a receipt")}
        rule.unlink()
        first, task = sorted(processes, key=int)
        requeued, killed = f"{job}_{first}", f"{job}_{task}"
        states = cluster.states()
        assert (states[requeued], states[killed]) == ("RUNNING", "RUNNING")
        cluster.slurm("scontrol", "requeue", requeued)
        # from here, because Slurm asks first, and who is asked may finish what it has begun
        os.kill(processes[task], signal.SIGKILL)
        ended(cluster, job)
        (left,) = [log for name, log in logs(place, "one").items() if name.endswith(f"_{task}.log")]
        assert "is done" not in left
        assert logs(place, "one")[f"extract-teacher-{requeued}.log"].count(" starts at ") == 2

        done = cluster.run("slurm", "status", "one", cwd=place)
        assert done.returncode == 1
        # what the job's shell says of its command: slurm_script: line 42: 123 Killed
        assert re.search(rf"extract-teacher array task {task}: failed: .*slurm_s", done.stderr)
        (receipts / ".000000.json.dead.partial").write_text("{")  # of an array task that was killed
        script = place / "one" / "slurm" / "extract_teacher.sbatch"
        again = cluster.slurm("sbatch", "--parsable", f"--array={task}", str(script)).strip()
        ended(cluster, again)
        (receipts / ".000000.json.dead.partial").unlink()
        assert cluster.run("slurm", "status", "one", cwd=place).returncode == 0
        assert files(place / "shared") == files(alone("cache"))

    def test_frames_and_the_texts_that_wait_for_them_are_those_of_one_process(
        self, cluster, place, monkeypatch
    ):
        arrays = ["--run", "rows", *SMALL, "--array-tasks", "2"]
        frames = [*MELS, "rows/mels", "--devices", "cpu"]
        teacher = ["--teacher", "bert", "--max-tokens", "32", "--devices", "cpu"]
        texts = ["rows/mels", *teacher, "--out", "rows/texts"]
        first = submit(cluster, place, "extract-features", *arrays, "--", *frames)
        (job,) = first.values()
        assert not (place / "rows" / "mels").exists()  # the record of the run knows its shards
        second = submit(cluster, place, "extract-text", *arrays, "--after", job, "--", *texts)
        ended(cluster, second["extract-text"])
        done = cluster.run("slurm", "status", "rows", cwd=place)
        assert done.returncode == 0, done.stderr
        for stage in ("extract-features", "extract-text"):
            assert re.search(rf"{stage} +\d+ +12 of 12 shards", done.stdout)
        monkeypatch.chdir(place)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as on the cluster
        extract_features.run(
            parse("extract-features", FeatureSettings, [*frames[:-3], "mels", *frames[-2:]])
        )
        extract_text.run(parse("extract-text", TextSettings, ["mels", *texts[1:-1], "texts"]))
        torch.set_num_threads(threads)
        for name in ("mels", "texts"):
            assert files(place / "rows" / name) == files(place / name)

    def test_alignments_wait_for_the_masked_audio_that_each_begins_with(
        self, cluster, place, monkeypatch
    ):
        shape = {"frames": ("whisper-mel", 8, 30), "states": ("text", 5, 9)}
        for name, (kind, width, rows) in shape.items():
            teacher = {"teacher": "bert", "teacher_sha256": "0" * 64, "layer": 2}
            make_sequence_cache(
                place / name, [20, 20], kind, width=width, most_rows=rows,
                **(teacher if kind == "text" else {}),
            )  # fmt: skip
        few = ["--device", "cpu", "--epochs", "2", "--batch-size", "8", "--held-out", "0.2"]
        small = ["--layers", "1", "--width", "16", "--heads", "2", "--stack", "3"]
        array = ["--run", "speech", *SMALL]
        first = submit(
            cluster, place, "pretrain-masked-audio", *array, "--seeds", "4", "--", "frames", *small,
            *few,
        )  # fmt: skip
        words = ["frames", "--text", "states", *few, "--init", "speech/masked-audio/seed{seed}"]
        second = submit(
            cluster, place, "pretrain-splat", *array, "--seeds", "4", "--vary", "align=seq,tok",
            "--after", first["pretrain-masked-audio"], "--", *words,
        )  # fmt: skip
        ended(cluster, second["pretrain-splat"])
        done = cluster.run("slurm", "status", "speech", cwd=place)
        assert done.returncode == 0, done.stderr
        assert re.search(r"pretrain-masked-audio +\d+ +1 of 1 runs", done.stdout)
        assert re.search(r"pretrain-splat +\d+ +2 of 2 runs", done.stdout)
        monkeypatch.chdir(place)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as on the cluster
        words[-1] = "speech/masked-audio/seed4"
        alone = ["--align", "tok", "--seed", "4", "--out", "alone-tok"]
        pretrain_splat.splat(parse("pretrain splat", SplatSettings, [*words, *alone]))
        torch.set_num_threads(threads)
        one, other = (
            load_file(place / run / "speech" / "encoder" / "model.safetensors")
            for run in ("alone-tok", "speech/splat/tok-seed4")
        )
        assert all(value.equal(other[name]) for name, value in one.items())

    def test_preempted_array_tasks_lose_nothing(self, cluster, place, alone):
        """One is queued again by Slurm; the other is cancelled and submitted again."""
        student = ["distill", "--run", "preempted", *SMALL, "--partition", "requeued", "--kd",
                   "crd", "--", *LONG]  # fmt: skip
        cache = ["extract-teacher", "--run", "spared", *SMALL, "--partition", "cancelled",
                 "--array-tasks", "1", "--", *EXTRACT, "--cache", "spared/cache"]  # fmt: skip
        out = place / "preempted" / "students" / "crd-real-seed0"
        rule = hold_in_training(cluster, out)
        trained = submit(cluster, place, *student)["distill"]
        stopped_in_training(cluster, rule, out)
        receipts = place / "spared" / "cache" / "receipts"
        rule = cluster.hold("os.rename", r"spared/cache/receipts/\d+\.json$", 2)
        extracted = submit(cluster, place, *cache)["extract-teacher"]
        wait_for(lambda: stopped(cluster, "extract-teacher", "spared/cache"), "a first receipt")
        rule.unlink()
        # three jobs, because one may find a CPU that is free
        urgent = ["--partition=urgent", "--array=0-2", "--mem=100", "--output=/dev/null"]
        others = cluster.slurm("sbatch", "--parsable", *urgent, "--wrap=sleep 600").strip()

        ended(cluster, extracted)
        log = place / "preempted" / "slurm" / "logs" / f"distill-{trained}_0.log"
        wait_for(lambda: "failed with status 143" in log.read_text(), "the student to be preempted")
        cluster.slurm("scancel", others)
        done = cluster.run("slurm", "status", "spared", cwd=place)
        assert done.returncode == 1
        assert "PREEMPTION" in done.stderr
        first = {path: path.stat().st_mtime_ns for path in receipts.glob("*.json")}
        assert 0 < len(first) < 12
        ended(cluster, submit(cluster, place, *cache)["extract-teacher"])
        assert {path: path.stat().st_mtime_ns for path in first} == first
        assert files(place / "spared" / "cache") == files(alone("cache"))

        ended(cluster, trained)
        text = log.read_text()
        assert "DUE TO PREEMPTION" in text
        assert "SIGTERM: saving after this step" in text
        assert text.count(" starts at ") == 2
        assert "goes on from" in text
        assert same_weights(out, alone("student"))

    @pytest.mark.skipif(not knows_itself(), reason="this machine's name has no address")
    def test_several_processes_stop_at_the_warning_and_end_as_one(self, cluster, place, alone):
        grid = ["distill", "--run", "two", *SMALL, "--processes", "2", "--kd", "crd", "--", *CALM]
        out = place / "two" / "students" / "crd-real-seed0"
        rule = hold_in_training(cluster, out)
        job = submit(cluster, place, *grid)["distill"]
        processes = stopped_in_training(cluster, rule, out)
        assert len(processes) == 2
        cluster.slurm("scancel", "--batch", "--signal=USR2", f"{job}_0")  # as the limit does
        go_on_when_warned(processes)
        ended(cluster, job)
        text = logs(place, "two")[f"distill-{job}_0.log"]
        assert "saving after this step" in text
        assert "goes on from" in text
        assert text.count(" starts at ") == 2
        assert json.loads((out / "run.json").read_text())["status"] == "finished"
        assert furthest(out, alone("calm")) < 1e-5

    def test_a_chain_runs_to_a_report(self, cluster, place):
        jobs = submit(
            cluster, place, "all", "--run", "chain", *SMALL, "--kd", "none,crd",
            "--array-tasks", "1",
            "--", "extract-teacher", "shards/manifest.jsonl", "--encoder", "dummy",
            "--", "distill", *SHORT, "--epochs", "1",
            "--", "finetune", "mosei", "--data", "label.csv", "--task", "sentiment3", "--seeds",
            "0", "--epochs", "1", "--device", "cpu",
        )  # fmt: skip
        ended(cluster, jobs["report"])
        done = cluster.run("slurm", "status", "chain", cwd=place)
        assert done.returncode == 0, done.stderr
        for line in ("12 of 12 shards", "2 of 2 students", "2 of 2 cells", "1 of 1 report"):
            assert line in done.stdout
        report = (place / "chain" / "report" / "report.md").read_text()
        assert "crd-real-seed0" in report

    def test_a_failing_array_task_fails_the_chain_and_is_named(self, cluster, place):
        shutil.copytree(place / "shards", place / "damaged")
        tar = place / "damaged" / "7.tar"
        content = bytearray(tar.read_bytes())
        content[700] ^= 1
        tar.write_bytes(content)
        jobs = submit(
            cluster, place, "all", "--run", "bad", *SMALL, "--kd", "none", "--array-tasks", "2",
            "--", "extract-teacher", "damaged/manifest.jsonl", "--encoder", "dummy",
            "--", "distill", *SHORT,
            "--", "finetune", "mosei", "--data", "label.csv", "--device", "cpu",
        )  # fmt: skip
        for job in jobs.values():
            ended(cluster, job)
        done = cluster.run("slurm", "status", "bad", cwd=place)
        assert done.returncode == 1
        assert re.search(r"extract-teacher array task \d: failed: .*7\.tar", done.stderr)
        assert "report: 1 never started" in done.stderr
        assert not (place / "bad" / "students").exists()

    def test_two_arrays_do_not_work_on_the_same(self, cluster, place):
        words = ["made-up", *SHORT, "--epochs", "1"]
        blocked = ["distill", "--run", "twice", *SMALL, "--sbatch=--begin=now+1hour", "--", *words]
        job = submit(cluster, place, *blocked)["distill"]
        second = cluster.run("slurm", *blocked, cwd=place)
        cluster.slurm("scancel", job)
        assert second.returncode == 1
        assert f"job {job} of this run is still in the queue" in second.stderr

    def test_what_slurm_refuses_is_passed_on(self, cluster, place):
        words = ["distill", "--run", "no", *SMALL, "--partition", "none", "--", "made-up"]
        done = cluster.run("slurm", *words, cwd=place)
        assert done.returncode == 1
        assert "invalid partition" in done.stderr.lower()

    def test_the_time_limit_costs_nothing(self, cluster, place, limited, alone):
        job, out, going_on = limited
        going_on.ended_well()
        ended(cluster, job)
        text = logs(place, "limit")[f"distill-{job}_0.log"]
        assert "SIGUSR2: saving after this step" in text
        # once, or more often on a machine that is slow
        assert text.count(" starts at ") - 1 == text.count("queues again") > 0
        assert "goes on from" in text
        assert json.loads((out / "run.json").read_text())["status"] == "finished"
        assert same_weights(out, alone("student"))
