"""A real Slurm on one machine: accounting, controller, two nodes with fake GPUs and one without.

    python tests/slurm/cluster.py up FOLDER      # as root, on Debian; installs nothing
    python tests/slurm/cluster.py install        # what `up` needs, by apt
    python tests/slurm/cluster.py down FOLDER

No systemd, no network but loopback; every daemon is started here and stopped by its pid.  Slurm
finds its configuration in /etc/slurm alone (the executor plugin drops SLURM_CONF on the way to a
job), so a machine that has a Slurm of its own is left as it is.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurmdbd", "slurm-client", "munge", "mariadb-server")
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch")
GPUS = {"gpu1": 3, "gpu2": 1, "cpu1": 0}  # node: fake GPUs
PORTS = {name: 16821 + number for number, name in enumerate(GPUS)}
ETC = Path("/etc/slurm")
MARK = "# written by tests/slurm/cluster.py\n"
V1 = Path("/sys/fs/cgroup/memory")  # cgroup version 1, as in most containers

SLURM_CONF = """
ClusterName=ci
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=30
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdTimeout=10
KillWait=10
InactiveLimit=0
MpiDefault=none
ProctrackType=proctrack/{tracking}
TaskPlugin=task/{task}
TaskProlog={folder}/prolog.sh
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
JobAcctGatherType=jobacct_gather/linux
MinJobAge=3600
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,sched_interval=5,bf_interval=5
{nodes}
PartitionName=all Nodes=gpu1,cpu1 Default=YES MaxTime=INFINITE State=UP
PartitionName=lonely Nodes=gpu2 MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeAddr=127.0.0.1 NodeHostname=localhost Port={port} CPUs=16 Boards=1 "
    "SocketsPerBoard=1 CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000{gres} State=UNKNOWN"
)
CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainCores=no
ConstrainDevices=no
"""
DBD_CONF = """
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
AuthType=auth/munge
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""
# One line for each step of a job: what a test needs to know of who ran where, and on which GPU.
PROLOG = """#!/bin/sh
echo "$(date +%s.%N),$SLURM_JOB_ID,$SLURM_STEP_ID,$SLURMD_NODENAME,$CUDA_VISIBLE_DEVICES" \\
    >>{folder}/steps.txt
"""


class Unavailable(RuntimeError):
    """Slurm cannot run here; the message says why."""


class Cluster:
    """The daemons that live in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def up(self) -> "Cluster":
        """Start everything and wait until all nodes are idle; raises Unavailable."""
        check()
        for name in ("log", "state", "dev", "run", "db"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in GPUS:
            (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        self._start_munge()
        self._start_accounting()
        _run("slurmctld")
        for name in GPUS:
            self.start_node(name)
        _until(lambda: self.states() == dict.fromkeys(GPUS, "idle"), "all nodes to be idle")
        return self

    def down(self) -> None:
        """Stop everything, by pid."""
        order = [
            *(f"slurmd.{name}" for name in GPUS),
            "slurmctld",
            "slurmdbd",
            "mariadbd",
            "munged",
        ]
        for name in order:
            self.stop(name)
        for file in ETC.glob("*.conf"):
            if file.read_text().startswith(MARK):
                file.unlink()

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Send a daemon a signal and wait until it is gone."""
        if pid := self.pid(name):
            os.kill(pid, number)
            _until(lambda: not _alive(pid), f"{name} to stop")
        (self.folder / "run" / f"{name}.pid").unlink(missing_ok=True)

    def pid(self, name: str) -> int | None:
        """Return the pid of a daemon that runs."""
        file = self.folder / "run" / f"{name}.pid"
        pid = int(file.read_text()) if file.is_file() and file.read_text().strip() else None
        return pid if pid and _alive(pid) else None

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon and all it has started, as a power cut would."""
        self.stop(f"slurmd.{name}", signal.SIGKILL)
        processes = _with_environment(f"SLURMD_NODENAME={name}")
        parents = {int(_stat(pid)[1]) for pid in processes}
        daemons = {pid for pid in parents if _name(pid).startswith("slurmstepd")}
        for pid in (*daemons, *processes):  # the daemons first: they would tell the controller
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        _run("slurmd", "-N", name)

    def start_controller(self) -> None:
        """Start the controller, with all it knew when it stopped."""
        _run("slurmctld")

    def states(self) -> dict[str, str]:
        """Return the state of each node."""
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N %T"], capture_output=True, text=True
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def steps(self) -> list[dict]:
        """Return all steps that began: time, job, step ("" for the batch script), node and GPU."""
        file = self.folder / "steps.txt"
        rows = [line.split(",", 4) for line in file.read_text().splitlines()]
        return [
            {
                "time": float(time),
                "job": int(job),
                "step": step,
                "node": node,
                "gpu": gpu,
            }
            for time, job, step, node, gpu in rows
        ]

    def _write_configuration(self) -> None:
        nodes, gres = [], []
        for name, count in GPUS.items():
            has = f" Gres=gpu:fake:{count}" if count else ""
            nodes.append(NODE.format(name=name, port=PORTS[name], gres=has))
            for number in range(count):  # plain files would be counted, but never given to a job
                device = self.folder / "dev" / f"{name}-{number}"
                if not device.exists():
                    os.mknod(device, 0o20666, os.makedev(241, number))
            if count:
                files = f"{self.folder}/dev/{name}-[0-{count - 1}]"
                gres.append(f"NodeName={name} Name=gpu Type=fake File={files}")
        ETC.mkdir(exist_ok=True)
        tracking, task = ("cgroup", "cgroup") if V1.is_dir() else ("linuxproc", "none")
        extra = (
            "" if V1.is_dir() else "JobAcctGatherFrequency=1\nJobAcctGatherParams=OverMemoryKill\n"
        )
        conf = SLURM_CONF.format(
            folder=self.folder, nodes="\n".join(nodes), tracking=tracking, task=task
        )
        _write(ETC / "slurm.conf", conf + extra)
        _write(ETC / "gres.conf", "\n".join(gres) + "\n")
        _write(ETC / "cgroup.conf", CGROUP_CONF)
        _write(ETC / "slurmdbd.conf", DBD_CONF.format(folder=self.folder), 0o600)
        prolog = self.folder / "prolog.sh"
        prolog.write_text(PROLOG.format(folder=self.folder))
        prolog.chmod(0o755)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o600)
        Path("/run/munge").mkdir(exist_ok=True)
        run, log = self.folder / "run", self.folder / "log"
        _run(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--pid-file={run}/munged.pid",
            f"--log-file={log}/munged.log",
            f"--seed-file={run}/munge.seed",
        )

    def _start_accounting(self) -> None:
        data, socket = self.folder / "db", "/run/mysqld/mysqld.sock"
        options = [f"--datadir={data}", "--user=root"]
        if not (data / "mysql").is_dir():
            _run("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=socket",
                 "--skip-test-db", *options)  # fmt: skip
        Path(socket).parent.mkdir(exist_ok=True)
        small = ["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"]
        with (self.folder / "log" / "mariadbd.log").open("w") as log:
            subprocess.Popen(
                [
                    "mariadbd",
                    "--no-defaults",
                    "--skip-networking",
                    f"--socket={socket}",
                    f"--pid-file={self.folder}/run/mariadbd.pid",
                    *options,
                    *small,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _until(lambda: self.pid("mariadbd") and Path(socket).exists(), "the database")
        _run("slurmdbd")

        def registered() -> bool:
            words = ["sacctmgr", "--immediate", "add", "cluster", "ci"]
            done = subprocess.run(words, capture_output=True, text=True)
            return done.returncode == 0 or "already exists" in done.stdout + done.stderr

        _until(registered, "the accounting daemon")


def check() -> None:
    """Raise Unavailable unless a cluster can be started on this machine."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("Slurm's daemons need Linux and root")
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        raise Unavailable(f"not installed: {', '.join(missing)} (tests/slurm/cluster.py install)")
    own = ETC / "slurm.conf"
    if own.exists() and not own.read_text().startswith(MARK):
        raise Unavailable(f"{own} belongs to a Slurm that is already here")


def install() -> None:
    """Install Slurm by apt, without starting anything; raises Unavailable."""
    if all(map(shutil.which, PROGRAMS)):
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable("Slurm is installed by apt, as root")
    policy = Path("/usr/sbin/policy-rc.d")  # keeps apt from starting the services
    written = not policy.exists()
    if written:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(
                ["apt-get", "-qq", *words], capture_output=True, text=True, env=environment
            )
            if done.returncode:
                raise Unavailable(f"apt-get {words[0]}: {done.stderr.strip()[-500:]}")
    finally:
        if written:
            policy.unlink()


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    file.write_text(MARK + text.lstrip("\n"))
    file.chmod(mode)


def _run(*words: str) -> None:
    """Run a program that ends or goes into the background; what it said is in the error."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Unavailable(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")


def _stat(pid: int) -> list[str]:
    """Return what /proc says of a process: state, parent and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _name(pid: int) -> str:
    """Return a process's name."""
    return Path(f"/proc/{pid}/comm").read_text()


def _with_environment(setting: str) -> list[int]:
    """Return the pids of the processes that have `NAME=value` in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended
            if setting.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that ended and was never waited for does not."""
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False


def _until(condition, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Unavailable(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["install"]:
            install()
        case ["up", folder]:
            Cluster(Path(folder).resolve()).up()
        case ["down", folder]:
            Cluster(Path(folder).resolve()).down()
        case _:
            sys.exit(__doc__)
