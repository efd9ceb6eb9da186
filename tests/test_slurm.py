"""`snakemake --profile slurm` on a real Slurm, undisturbed and disturbed: always the same bytes.

All faults but one happen at the same time, each to a study in its own folder; each test looks at
one of them.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from helpers.checkout import ROOT, copy_tree, run_snakemake
from helpers.corpora import write_recordings
from slurm import cluster as slurm
from slurm.soak import soak
from slurm.study import LIMIT, STUDENT, Study, contents

pytestmark = [pytest.mark.slow(minutes=8), pytest.mark.xdist_group("slurm")]
PLAIN = ("--default-resources", "mem_mb=2000", "runtime=60")  # no early SIGTERM


@pytest.fixture(scope="module")
def alone():
    """Wait for the cluster of another process: a machine has one."""
    with Path(tempfile.gettempdir(), "speech-pareto-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def cluster(alone, tmp_path_factory):
    """Bring up Slurm; with CI=true it must be there."""
    required = os.environ.get("CI") == "true"
    running = slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        if required:
            slurm.install()
        slurm.check()
    except slurm.Unavailable as reason:
        if required:
            raise
        pytest.skip(f"no Slurm: {reason}")
    try:
        yield running.up()
    finally:
        running.down()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prompts_en):
    """Return a checkout whose reduced study has run locally, as on a workstation with two GPUs."""
    folder = copy_tree(tmp_path_factory.mktemp("whole") / "tree")
    shutil.copy(ROOT / "tests" / "slurm" / "config.yaml", folder / "config")
    write_recordings(folder, prompts_en)
    command = ("--profile", "profiles/workstation", "--cores", "2", "--resources", "gpu=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECH_PARETO_GPUS", "5,7")
        patch.setenv("TMPDIR", str(folder.parent))  # where the GPUs' locks lie
        run_snakemake(folder, *command, "--show-failed-logs")
    return folder


def from_nothing(study, cluster):
    """Run the whole study."""
    for part in ("results", ".snakemake", "logs"):
        shutil.rmtree(study.folder / part)
    return study.start().finish()


def cancelled(study, cluster):
    """Cancel a job that trains."""
    pid = study.start(STUDENT).training()
    subprocess.run(["scancel", str(study.job())], check=True)
    os.kill(pid, signal.SIGCONT)
    return study.finish()


def out_of_time(study, cluster):
    """Let a job reach its time limit."""
    asked = "finetune:gpu=1", "finetune:runtime=20 * attempt"
    pid = study.start(STUDENT, *PLAIN, "--set-resources", *asked).training()
    # A minute from the start would be over before a busy machine begins to train.
    subprocess.run(["scontrol", "update", f"JobId={study.job()}", "TimeLimit=1"], check=True)
    study.until(lambda: study.jobs()[0]["state"] in ("COMPLETING", "TIMEOUT"), "the time limit")
    os.kill(pid, signal.SIGCONT)
    return study.finish()


def out_of_memory(study, cluster):
    """Give a job too little memory at first."""
    asked = "finetune:gpu=1", "finetune:mem_mb=400 * attempt ** 2"
    return study.start(STUDENT, "--set-resources", *asked).finish()


def node_killed(study, cluster):
    """Kill a node with all that runs on it, and start it again when Slurm has seen that."""
    study.start(STUDENT, *PLAIN, "slurm_partition=lonely").training()
    cluster.kill_node("gpu2")
    study.until(lambda: cluster.states()["gpu2"].startswith("down"), "a node that is down")
    cluster.start_node("gpu2")
    return study.finish()


def killed_while_jobs_run(study, cluster):
    """Start a second Snakemake, kill the first, start a third while the first one's job works."""
    pid = study.start(STUDENT).training()
    first = study.process
    refused = study.start(STUDENT).finish()
    study.process = first
    study.kill()
    study.unlock()
    study.start(STUDENT)
    study.until(lambda: "Slurm jobs that an earlier run left" in study.said(), "the waiting")
    os.kill(pid, signal.SIGCONT)
    return refused, study.finish()


def killed_and_jobs_ended(study, cluster):
    """Kill Snakemake and start it again when its job has ended."""
    pid = study.start(STUDENT).training()
    study.kill()
    os.kill(pid, signal.SIGCONT)
    study.until(lambda: study.jobs()[0]["state"] == "COMPLETED", "the end of the job")
    study.unlock()
    return study.start(STUDENT).finish()


def killed_without_a_cluster(study, cluster):
    """Kill a local Snakemake and start it again while its job is there."""
    local = "profiles/workstation"
    pid = study.start(STUDENT, profile=local).training()
    study.kill()
    study.unlock()
    study.start(STUDENT, profile=local)
    study.until(lambda: "Ending processes that a killed Snakemake left" in study.said(), "the end")
    os.kill(pid, signal.SIGCONT)  # it gets the signal now
    return study.finish()


def disk_full(study, cluster):
    """Have no room for the student; then have it, but only a damaged newest checkpoint."""
    disk = (study.folder / STUDENT).parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk], check=True)
    try:
        failed = study.start(STUDENT, "--retries", "0").finish()
        left = sorted(path.name for path in disk.iterdir())
        newest = study.checkpoints()[-1]
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        ended = study.start(STUDENT).finish()
        shutil.copytree(disk / "characters", study.folder / "kept")
    finally:
        subprocess.run(["umount", disk], check=True)
    shutil.copytree(study.folder / "kept", study.folder / STUDENT)
    return failed, left, newest.name, ended


def killed_at_random(study, cluster):
    """Kill Snakemake, the job or its process three times, whenever it may be."""
    return soak(study, 3, longest=8)


def rehearsed(study, cluster):
    """Rehearse what is left of the study: nothing is done in earnest."""
    return study.start("rehearse").finish()


FAULTS = [
    rehearsed,
    *(from_nothing, cancelled, out_of_time, out_of_memory, node_killed, disk_full),
    *(killed_while_jobs_run, killed_and_jobs_ended, killed_without_a_cluster, killed_at_random),
]


@pytest.fixture(scope="module")
def storm(cluster, whole, tmp_path_factory):
    """Let all faults happen; return a function from a fault to (study, what it returned)."""
    folder = tmp_path_factory.mktemp("storm")
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        runs = {}
        for fault in FAULTS:
            study = Study.without_student(whole, folder / fault.__name__)
            runs[fault] = study, pool.submit(fault, study, cluster)

        def outcome(fault):
            study, future = runs[fault]
            return study, future.result(timeout=2 * LIMIT)

        yield outcome


def test_on_a_workstation_each_job_takes_a_gpu(whole):
    took = {"GPU 5": set(), "GPU 7": set()}
    for path in (whole / "logs").rglob("*.log"):
        for gpu in took:
            if gpu in path.read_text():
                took[gpu].add(path.relative_to(whole / "logs").parts[0])
    with_gpu = {"pretrain_teacher", "compress", "finetune", "evaluate", "profile"}
    assert took["GPU 5"] | took["GPU 7"] == with_gpu and took["GPU 7"]


def same(study, whole):
    """Check that the student has the bytes of an undisturbed run."""
    expected = contents(whole, "finetuned")
    assert expected and contents(study.folder, "finetuned") == expected
    assert not study.checkpoints()  # they go once the output is there


def test_the_whole_study_equals_a_local_run(storm, whole):
    study, status = storm(from_nothing)
    assert status == 0, study.said()
    assert contents(study.folder) == contents(whole)
    assert (study.folder / "results/figures/characters-parameters.svg").stat().st_size
    for rule in ("aggregate", "plot", "report"):
        assert f"localrule {rule}:" in study.said()
    submitted = study.said().count("has been submitted with SLURM jobid")
    # prepare, pretrain, 2 x finetune, compare; four groups for eight jobs of cells
    assert submitted == 5 + 4, study.said()


def test_a_study_is_rehearsed_where_it_will_run(storm):
    study, status = storm(rehearsed)
    assert status == 0, study.said()
    jobs = json.loads((study.folder / "results/rehearsal.json").read_text())["jobs"]
    gpus = {one["rule"]: one["given"]["gpu"] for one in jobs}
    assert gpus["compress"] == gpus["finetune"] == gpus["evaluate"] == [1] and not gpus["profile"]
    assert all(one["status"] == "ok" and one["memory"] > 1e8 for one in jobs)
    assert study.said().count("has been submitted with SLURM jobid") == len(jobs)
    assert "Rehearsal of study slurm: " in study.said() and not (study.folder / STUDENT).exists()


def test_a_cancelled_job_goes_on_where_it_was(storm, whole):
    study, status = storm(cancelled)
    assert status == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 2 and study.continued_after() >= 3


def test_a_job_out_of_time_goes_on_with_more(storm, whole):
    study, status = storm(out_of_time)
    assert status == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 2 and study.continued_after() >= 3
    assert "runtime=40" in study.said()


def test_a_job_out_of_memory_gets_more(storm, whole):
    study, status = storm(out_of_memory)
    assert status == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 2 and "mem_mb=1600" in study.said()


def test_a_job_on_a_killed_node_goes_on(storm, whole):
    study, status = storm(node_killed)
    assert status == 0, study.said()
    same(study, whole)
    assert study.continued_after() >= 3


def test_a_second_workflow_is_refused_and_a_third_waits_for_the_dead_ones_jobs(storm, whole):
    study, (refused, status) = storm(killed_while_jobs_run)
    assert refused == 1 and "cannot be locked" in study.said()
    assert status == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 1 and "Nothing to be done" in study.said()


def test_what_ended_without_snakemake_is_not_done_again(storm, whole):
    study, status = storm(killed_and_jobs_ended)
    assert status == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 1 and "Nothing to be done" in study.said()


def test_what_a_local_run_left_saves_its_state_and_goes_on(storm, whole):
    study, status = storm(killed_without_a_cluster)
    assert status == 0, study.said()
    same(study, whole)
    assert study.continued_after() >= 3


def test_a_full_disk_and_a_damaged_checkpoint_lose_one_step(storm, whole):
    study, (failed, left, damaged, status) = storm(disk_full)
    assert failed == 1 and left == []
    assert status == 0, study.said()
    same(study, whole)
    assert damaged.startswith("checkpoint-000000040-") and study.continued_after() == 39


def test_kills_at_random_moments_change_nothing(storm, whole):
    study, (killed, made) = storm(killed_at_random)
    assert killed.total() == 3
    assert all(files == contents(whole, "finetuned") for files in made)
    same(study, whole)


def test_every_job_had_a_gpu_of_its_own(storm, cluster):
    for fault in FAULTS:
        storm(fault)
    words = ["sacct", "--allusers", "--allocations", "--noheader", "--parsable2"]
    done = subprocess.run(
        [*words, "--format=JobIDRaw,Start,End"], capture_output=True, text=True, check=True
    )
    ends = {}
    for line in done.stdout.splitlines():
        job, _, end = line.split("|")
        if end != "Unknown":
            ends[int(job)] = datetime.fromisoformat(end).timestamp()
    free, used = {}, set()
    for step in cluster.steps():
        if step["gpu"] and not step["step"]:
            place = step["node"], step["gpu"]
            job = step["job"]
            assert job == free.get(place, (job, 0))[0] or step["time"] > free[place][1] - 1, place
            free[place] = job, ends[job]
            used.add(place)
    assert ("gpu1", "0") in used and ("gpu1", "1") in used
    assert used <= {("gpu1", "0"), ("gpu1", "1"), ("gpu1", "2"), ("gpu2", "0")}


def test_the_controller_may_be_away(cluster, whole, storm, tmp_path):
    for fault in FAULTS:  # it would be away for them too
        storm(fault)
    study = Study.without_student(whole, tmp_path / "tree")
    pid = study.start(STUDENT).training()
    cluster.stop("slurmctld", signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    time.sleep(20)  # Snakemake asks for the job's state in vain
    cluster.start_controller()
    assert study.finish() == 0, study.said()
    same(study, whole)
    assert len(study.jobs()) == 1
