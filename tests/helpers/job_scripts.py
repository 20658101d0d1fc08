"""Job scripts as `speechkd slurm` writes them, run without Slurm and without speechkd."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.processes import PATIENCE_SECONDS


def options(words, **changes):
    return {"words": words, "run": Path("run"), **changes}


def make_stubs(folder):
    """A `speechkd` that tells its words and lasts until there is UNTIL; a told `scontrol`."""
    folder.mkdir()
    (folder / "speechkd").write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, signal, sys, time\n"
        "told = pathlib.Path('told.jsonl')\n"
        "def stop(number, frame):\n"
        "    told.open('a').write(json.dumps(number) + '\\n'); sys.exit(143)\n"
        "signal.signal(signal.SIGUSR2, stop); signal.signal(signal.SIGTERM, stop)\n"
        "told.open('a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "until = os.environ.get('UNTIL')\n"
        f"end = time.monotonic() + {2 * PATIENCE_SECONDS}\n"  # of a test that has failed
        "while until and not os.path.exists(until) and time.monotonic() < end: time.sleep(0.01)\n"
        "sys.exit(int(os.environ.get('ENDS', 0)))\n"
    )
    (folder / "scontrol").write_text(
        "#!/bin/sh\n"
        '[ "$1" = requeue ] && echo "$*" >> requeued && exit ${REQUEUE:-0}\n'
        'echo "JobId=9 $*"; cat preempted 2>/dev/null || echo PreemptTime=None\n'
    )
    for file in folder.iterdir():
        file.chmod(0o755)
    return folder


def start(text, stubs, folder, **environment):
    """Run a job script as Slurm would, with the stubs in place of what it calls."""
    text = re.sub(r"(?m)^PATH=.*$", f'PATH={stubs}:"$PATH"', text)
    (folder / "job.sh").write_text(text)
    return subprocess.Popen(
        ["bash", "job.sh"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"], "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2",
            "SLURM_JOB_ID": "9", "SLURM_JOB_NUM_NODES": "1", "SLURM_ARRAY_TASK_COUNT": "4",
            **environment,
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def heeds(job, number):
    """Whether a job's shell has set its trap for a signal."""
    caught = re.search(r"SigCgt:\s*(\S+)", Path(f"/proc/{job.pid}/status").read_text())
    return bool(int(caught[1], 16) >> (number - 1) & 1)


def begun(folder):
    """Whether the stage has told its words, which a signal before would keep from being told."""
    return (folder / "told.jsonl").exists() and told(folder)


def told(folder):
    return [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]


def printed(capsys):
    """The scripts that a dry run printed, by file name."""
    parts = re.split(r"(?m)^==> (.*)\n", capsys.readouterr().out)[1:]
    return {Path(path).name: text for path, text in zip(parts[::2], parts[1::2], strict=True)}
