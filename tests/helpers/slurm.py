"""A real Slurm of one node, started for tests and gone with them.

Two of its three CPUs are for the arrays, the third for a job that waits for its time limit
meanwhile. The partition `urgent` takes CPUs from jobs in `requeued` and `cancelled`, which then end
as these say.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.instants import HOLDS
from tests.helpers.processes import PATIENCE_SECONDS, free_ports, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
HELPERS = Path(__file__).parent
SEARCH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])


def why_not() -> str:
    """Why no Slurm can be started here; "" where one can."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=SEARCH)]
    if missing:
        return f"needs Slurm: apt-get install slurm-wlm munge (no {', '.join(missing)})"
    if os.geteuid() != 0:
        return "needs root: Slurm's daemons are started as root"
    if not any(user.pw_name == "munge" for user in pwd.getpwall()):
        return "needs the user munge, which Debian's package munge makes"
    if not shutil.which("speechkd", path=SEARCH):
        return "needs the command speechkd: pip install -e ."
    return ""


def knows_itself() -> bool:
    """Whether this machine's own name leads to an address, which torchrun asks of a node."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return False
    return True


class CannotRunError(Exception):
    """A daemon of Slurm ended as soon as it was started: this machine does not let it run."""


class Cluster:
    """Slurm's daemons, their files in a folder of their own, and the environment to reach them."""

    def __init__(self) -> None:
        # not pytest's own folder, which the user munge may not enter; short, for sockets
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.config = self.folder / "slurm.conf"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))},
            "PATH": SEARCH,
            "SLURM_CONF": str(self.config),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            HOLDS: str(self.folder / "holds"),
            "PYTHONPATH": os.pathsep.join(
                map(
                    str,
                    (HELPERS / "at_start", HELPERS.parents[1], os.environ.get("PYTHONPATH", "")),
                )
            ).rstrip(os.pathsep),
        }
        (self.folder / "holds").mkdir()
        self._daemons: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o711)
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o600)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        self._daemon(
            *("munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket"),
            *(f"--pid-file={munge}/pid", f"--seed-file={munge}/seed", f"--log-file={munge}/log"),
            user="munge",
            group="munge",
            extra_groups=[],
        )
        self._wait_for(lambda: (munge / "socket").exists(), "munged")
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.config.write_text(self._config(munge / "socket"))
        # nothing here uses control groups; this kind does not ask whether any are mounted
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self._daemon("slurmctld", "-D", "-f", str(self.config))
        self._daemon("slurmd", "-D", "-f", str(self.config))
        self._wait_for(
            lambda: "idle" in self.slurm("sinfo", "-h", "-o", "%T", check=False), "the node"
        )

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what the daemons bring about, as long as they all run.

        Raises:
            CannotRunError: one has ended.
        """

        def brought_about() -> bool:
            for daemon, log in self._daemons:
                if daemon.poll() is not None:
                    errors = [line for line in log.read_text().splitlines() if "error" in line]
                    raise CannotRunError(f"{log.stem} does not run here: {'; '.join(errors[-3:])}")
            return condition()

        wait_for(brought_about, what)

    def stop(self) -> None:
        try:
            self.slurm("scancel", "--user=root", check=False)
            wait_for(lambda: not self.slurm("squeue", "-h", check=False), "the queue to empty")
        finally:
            for daemon, _ in reversed(self._daemons):
                daemon.terminate()
                try:
                    daemon.wait(60)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            for process in self.processes():  # of a job that did not heed its end
                os.kill(process, signal.SIGKILL)
            shutil.rmtree(self.folder)

    def processes(self) -> list[int]:
        """Processes that this Slurm or its jobs started: they carry its configuration's name."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                mine = entry.name.isdecimal() and (
                    f"SLURM_CONF={self.config}".encode() in (entry / "environ").read_bytes()
                )
            except OSError:
                continue
            if mine:
                found.append(int(entry.name))
        return found

    def slurm(self, *words: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            words,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def run(self, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Run `speechkd` where this Slurm is."""
        return subprocess.run(
            ["speechkd", *words],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def states(self) -> dict[str, str]:
        """Each job or array task in the queue and its state."""
        text = self.slurm("squeue", "--noheader", "--array", "--format=%F_%K|%T")
        return dict(line.split("|") for line in text.splitlines())

    def hold(self, event: str, path: str, count: int) -> Path:
        """Let processes of jobs that start from now on stop at an instant, as `signal_at` has it.

        Returns:
            The rule; once it is gone, those that start later do not stop.
        """
        rule = self.folder / "holds" / f"{uuid.uuid4()}.json"
        unfinished = rule.with_suffix(".partial")  # a job that starts meanwhile would read a half
        unfinished.write_text(json.dumps([event, path, count]))
        unfinished.rename(rule)
        return rule

    def log(self) -> str:
        """The end of the daemons' logs, for messages."""
        return "\n".join(
            path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log")
        )

    def _daemon(self, *words: str, **options: Any) -> None:
        log = self.folder / f"{words[0]}.log"
        with log.open("wb") as file:
            daemon = subprocess.Popen(
                words, env=self.environment, stdout=file, stderr=file, cwd="/", **options
            )
        self._daemons.append((daemon, log))

    def _config(self, munge_socket: Path) -> str:
        host = socket.gethostname().partition(".")[0]
        controller, node = free_ports(2)
        lines = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            # a requeued job starts when its old credential is past: 2 minutes, or 5 s, the least
            "AuthInfo": f"socket={munge_socket},cred_expire=5",
            "SlurmctldPort": controller,
            "SlurmdPort": node,
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "JobAcctGatherType": "jobacct_gather/none",
            "SlurmdParameters": "config_overrides",  # three CPUs, whatever the machine has
            "SchedulerParameters": "bf_interval=1,sched_interval=1,batch_sched_delay=0",
            "PreemptType": "preempt/partition_prio",
            "PreemptMode": "REQUEUE",
            "ReturnToService": 2,
            "MpiDefault": "none",
            "KillWait": 60,  # a loaded machine saves slowly
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items()) + (
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs=3 RealMemory=8000 State=UNKNOWN\n"
            f"PartitionName=DEFAULT Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1\n"
            "PartitionName=main Default=YES PreemptMode=OFF\n"
            "PartitionName=requeued PreemptMode=REQUEUE\n"
            "PartitionName=cancelled PreemptMode=CANCEL\n"
            "PartitionName=urgent PriorityTier=2 PreemptMode=OFF\n"
        )
