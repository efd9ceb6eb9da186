"""How seldom garbage is searched for, in processes of their own."""

import subprocess
import sys

from helpers.checkout import ROOT

SCRIPTS = ROOT / "workflow" / "scripts"
# 200,000 objects that stay, then a cycle that could be collected at exit
WORK = """
import gc
kept = [[] for _ in range(200_000)]
class Loud:
    def __del__(self): print("collected")
lost = Loud(); lost.itself = lost; del lost
print(sum(stage["collections"] for stage in gc.get_stats()))
"""


def printed(before: str) -> list[str]:
    command = [sys.executable, "-c", before + WORK]
    done = subprocess.run(command, cwd=SCRIPTS, check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_searches_are_few_and_none_is_made_at_exit():
    often, collected = printed("")
    assert collected == "collected"
    (seldom,) = printed(
        "from speech_pareto.runtime.garbage import collect_seldom; collect_seldom()"
    )
    assert int(often) > 10 * max(1, int(seldom))


def test_each_job_does_so():
    enter = "from speech_pareto.runtime.log import logged\nwith logged('/dev/null'): pass\n"
    assert len(printed(enter)) == 1
