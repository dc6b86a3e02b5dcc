"""A real Slurm of the tests' own: controller, node, accounting with its database, and munge, all in its own folder."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
CPUS: Final = 4
MEMORY_MEGABYTES: Final = 4_000
JOBS: Final = 1_000
"""It has fewer."""
START_SECONDS: Final = 120.0
_CGROUP: Final = Path("/sys/fs/cgroup")


class SlurmUnavailable(Exception):
    """None can be started on this machine; the message says what is missing."""


@dataclass
class Slurm:
    """A running cluster of one node, which is this host; its commands find it by :attr:`environment`."""

    folder: Path
    environment: Mapping[str, str]
    node: str
    limits_memory: bool
    """Whether the kernel ends a job that takes more memory than it asked for."""
    first_job: int
    """The number of its first job: the kernel's groups are named by these, and another cluster may run on this host."""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def call(self, *argv: str) -> str:
        """Call one of its commands, and return what it prints."""
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{argv[0]} exited with {done.returncode}: {done.stderr}{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        """Return the ends of the logs of its daemons."""
        return "".join(
            f"\n== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in self.folder.glob("*.log")
        )

    def node_fails(self) -> None:
        """Have the daemon of the node die with all that runs there."""
        self.daemons["slurmd"].kill()
        self.daemons["slurmd"].wait()
        self.end_steps()
        self.call("scontrol", "update", f"NodeName={self.node}", "State=DOWN", "Reason=power")

    def end_steps(self) -> None:
        """Kill what watches over the jobs of its node."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                job = re.match(rb"slurmstepd: \[(\d+)", path.read_bytes())
                if job and 0 <= int(job[1]) - self.first_job < JOBS:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def node_is_back(self) -> None:
        """Start the daemon of the node again, and wait until it takes jobs."""
        self._start("slurmd", "slurmd", "-D", "-N", self.node)
        self.call("scontrol", "update", f"NodeName={self.node}", "State=RESUME")
        self._await(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T"), "a node that takes jobs")

    def _start(self, name: str, *argv: str, user: str = "", environment: Mapping[str, str] | None = None) -> None:
        account = pwd.getpwnam(user or "root")
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment or self.environment,
                cwd=self.folder,
                start_new_session=True,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
            )

    def _await(self, ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(RuntimeError, OSError, subprocess.SubprocessError):
                if ready():
                    return
            ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                told = f"; ended: {', '.join(ended)}" if ended else ""
                raise RuntimeError(f"Slurm does not come to {what}{told}{self.logs()}")
            time.sleep(0.05)


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Run a new cluster without a job.

    Raises
    ------
    SlurmUnavailable
        Its programs are missing, or this is not root, as whom alone a node can run jobs of others.
    RuntimeError
        Where it does not start; the message ends with its logs.
    """
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        raise SlurmUnavailable(
            f"{', '.join(missing)} of Slurm are not here; on Debian: apt-get install slurm-wlm slurmdbd mariadb-server"
        )
    if os.geteuid() != 0:
        raise SlurmUnavailable("the node of a Slurm cluster runs as root")
    folder = Path(tempfile.mkdtemp(prefix="nightmill-slurm-"))
    folder.chmod(0o755)
    node = "node1"
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    limits_memory = (_CGROUP / "memory" / "tasks").exists()
    cluster = Slurm(folder, environment, node, limits_memory, first_job=os.getpid() % 60_000 * JOBS + 1)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(_stop, cluster)
        _start(cluster)
        yield cluster


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _start(cluster: Slurm) -> None:
    folder = cluster.folder
    ports = _free_ports(4)
    for name in ("state", "spool", "data", "munge", "tmp"):
        (folder / name).mkdir()
        (folder / name).chmod(0o755)  # whatever the umask is: munge refuses a socket that others cannot come to
    shutil.chown(folder / "munge", "munge")
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    shutil.chown(key, "munge")
    munge = {name: str(folder / "munge" / name) for name in ("socket", "key", "pid", "seed", "log")}
    cluster._start(
        "munged",
        "munged",
        "--foreground",
        f"--socket={munge['socket']}",
        f"--key-file={key}",
        f"--pid-file={munge['pid']}",
        f"--seed-file={munge['seed']}",
        f"--log-file={munge['log']}",
        user="munge",
    )
    _database(cluster, ports[0])
    (folder / "slurmdbd.conf").write_text(_ACCOUNTING.format(folder=folder, munge=munge["socket"], ports=ports))
    (folder / "slurmdbd.conf").chmod(0o600)
    values: dict[str, Any] = {
        "folder": folder,
        "munge": munge["socket"],
        "ports": ports,
        "node": cluster.node,
        "host": socket.gethostname(),
        "first": cluster.first_job,
    }
    limits = ("proctrack/cgroup", "task/cgroup") if cluster.limits_memory else ("proctrack/linuxproc", "task/none")
    values |= {"track": limits[0], "task": limits[1], "cpus": CPUS, "memory": MEMORY_MEGABYTES}
    (folder / "slurm.conf").write_text(_CLUSTER.format(**values))
    (folder / "cgroup.conf").write_text(_LIMITS)
    for number in range(2):
        (folder / f"gpu{number}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu Type=tiny File={folder}/gpu[0-1]\n")
    cluster._await(lambda: Path(munge["socket"]).exists(), "munge")
    cluster._start("slurmdbd", "slurmdbd", "-D")
    cluster._await(lambda: _answers(ports[1]), "its accounting")
    cluster.call("sacctmgr", "-i", "add", "cluster", "tests")
    cluster.call("sacctmgr", "-i", "add", "account", "survey")
    cluster.call("sacctmgr", "-i", "add", "user", "root", "account=survey")
    cluster._start("slurmctld", "slurmctld", "-D")
    cluster._start("slurmd", "slurmd", "-D", "-N", cluster.node)
    cluster._await(lambda: "idle" in cluster.call("sinfo", "-h", "-o", "%T"), "a node that takes jobs")


def _database(cluster: Slurm, port: int) -> None:
    data = cluster.folder / "data"
    script, tmp = cluster.folder / "first.sql", f"--tmpdir={cluster.folder / 'tmp'}"
    script.write_text("CREATE DATABASE slurm;\nGRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n")
    made = subprocess.run(
        ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", tmp, "--skip-test-db"],
        env=cluster.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"the database of its accounting cannot be made: {made.stdout}{made.stderr}")
    cluster._start(
        "mariadbd",
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={data}",
        tmp,
        f"--socket={data / 'socket'}",
        f"--pid-file={data / 'pid'}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--init-file={script}",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0",
    )
    cluster._await(lambda: _answers(port), "its database")


def _stop(cluster: Slurm) -> None:
    with suppress(RuntimeError):
        cluster.call("scancel", "--user=root")
    for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
        if (daemon := cluster.daemons.get(name)) is not None:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
    cluster.end_steps()


def _free_ports(count: int) -> Sequence[int]:
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in listening]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


_ACCOUNTING: Final = """\
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[1]}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[0]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd-own.log
"""
_CLUSTER: Final = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[2]}
SlurmdPort={ports[3]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld-own.log
SlurmdLogFile={folder}/slurmd-own.log
ProctrackType={track}
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[1]}
AccountingStoragePass={munge}
AccountingStorageEnforce=associations
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
MinJobAge=10
KillWait=3
OverTimeLimit=0
InactiveLimit=0
SlurmdTimeout=20
MaxArraySize=1001
FirstJobId={first}
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:tiny:2 State=UNKNOWN
PartitionName=long Nodes={node} Default=YES MaxTime=60 PreemptMode=OFF State=UP DefMemPerCPU=500
PartitionName=short Nodes={node} MaxTime=1 PreemptMode=OFF State=UP DefMemPerCPU=500
PartitionName=spare Nodes={node} MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE State=UP DefMemPerCPU=500
PartitionName=urgent Nodes={node} MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP DefMemPerCPU=500
"""
_LIMITS: Final = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainRAMSpace=yes
AllowedRAMSpace=100
ConstrainSwapSpace=yes
AllowedSwapSpace=0
"""
