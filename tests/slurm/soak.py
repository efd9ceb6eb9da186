"""Kill at random moments, start again, and see whether the bytes are those of an undisturbed run.

    python tests/slurm/soak.py FOLDER KILLS [SEED]

In FOLDER/whole lies a study that a run has finished; Slurm must run (tests/slurm/cluster.py up).
Each kill hits one of: Snakemake, the Slurm job (scancel), the process that trains.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from slurm.study import STUDENT, Study, contents


def soak(study: Study, kills: int, seed: int = 1, longest: float = 20) -> tuple[Counter, list]:
    """Disturb the making of the student `kills` times, then let it end.

    Returns what was killed how often, and the student's files each time that it was made: whenever
    it is ready before all kills are done, it is deleted and made again.
    """
    chance, killed, made = random.Random(seed), Counter(), []
    study.start(STUDENT)
    while killed.total() < kills:
        time.sleep(chance.uniform(0, longest))
        victim = chance.choice(("snakemake", "job", "process"))
        if (status := study.process.poll()) is not None:
            if status == 0:
                made.append(contents(study.folder, "finetuned"))
                shutil.rmtree(study.folder / STUDENT)
            study.start(STUDENT)  # or its tries were used up
        elif victim == "snakemake":
            study.kill()
            study.unlock()
            study.start(STUDENT)
            killed[victim] += 1
        elif victim == "job" and (jobs := study.working()):
            subprocess.run(["scancel", str(jobs[-1])], check=False)
            killed[victim] += 1
        elif victim == "process" and (pid := study.script()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
    while study.finish() != 0:
        study.start(STUDENT)
    return killed, [*made, contents(study.folder, "finetuned")]


if __name__ == "__main__":
    folder, kills = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    study = Study.without_student(folder / "whole", folder / f"soak{seed}")
    killed, made = soak(study, kills, seed)
    expected = contents(folder / "whole", "finetuned")
    equal = sum(files == expected for files in made)
    print(f"{dict(killed)}; {len(study.jobs())} Slurm jobs; made {len(made)} times, {equal} equal")
    sys.exit(equal != len(made))
