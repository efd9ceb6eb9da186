"""How soon a search finds the front of a grid, replayed on finished cells; nothing is trained.

    python benchmarks/search.py            # all costs, five seeds: half a minute

The cells are those of config/studies/all-methods.yaml on the task `phones`, whose scores stand in
resources/replay/all-methods.csv. The search proposes from them, by the code that rounds run, until
a third of the grid's training steps are spent; so do random draws. Printed are shares, in percent,
of the grid's hypervolume, and IGD+ (Ishibuchi et al. 2015) to its front, both axes scaled to 1:
means over seeds, the worst seed, and the hypervolume of what every seed attains, the surface of
Grunert da Fonseca et al. 2001.
"""

import argparse
import csv
import random
import sys
from pathlib import Path

import moocore
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from speech_pareto.compression import recipes  # noqa: E402
from speech_pareto.study import config, forecast, pool  # noqa: E402
from speech_pareto.study.search import WORST, Search  # noqa: E402

STUDY = ROOT / "config/studies/all-methods.yaml"
CELLS = ROOT / "resources/replay/all-methods.csv"
RECOVERY = 60  # steps of each cell's fine-tuning
SHARE = 1 / 3  # of the grid's steps


def grid(cost: str) -> tuple[Search, list[float]]:
    """Return the cells as a search that may spend its share of their steps, and their errors."""
    study = config.resolve(yaml.safe_load(STUDY.read_text(encoding="utf-8")))
    teacher = forecast.teacher_config(study, "tiny", "phones", ROOT)
    made, errors = [], []
    with CELLS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            recipe = study["recipes"][row["recipe"]]
            student = recipes.solve(recipe, teacher, float(row["ratio"])).config
            made.append({"chosen": {}, **pool.traits(recipe), **pool.costs(study, student)})
            errors.append(float(row["per"]))
    prices = [[float(one["training"] + RECOVERY)] for one in made]
    spent = sum(price for (price,) in prices) * SHARE
    dearest = pool.costs(study, teacher)[cost]
    return of(made, prices, cost, dearest, spent), errors


def of(made: list, prices: list, cost: str, dearest: float, spent: float) -> Search:
    """Return a search of one rung."""
    return Search(made, prices, [RECOVERY], cost, dearest, spent, at_once=4, patience=10**6)


def replayed(whole: Search, errors: list[float], seed: int, draws: bool) -> np.ndarray:
    """Return cost and error of the cells that a search runs, or random `draws`, scaled to 1."""
    order = list(range(len(errors)))
    random.Random(seed).shuffle(order)
    own = of(
        [whole.pool[number] for number in order],
        [whole.prices[number] for number in order],
        whole.cost,
        whole.dearest,
        whole.seconds,
    )
    scores = {(place, 0): errors[number] for place, number in enumerate(order)}
    found: dict = {}
    if draws:
        for key, error in scores.items():
            if own.spent([*found, key]) > own.seconds:
                break
            found[key] = error
    else:
        while ask := own.next(found, [])["ask"]:
            found |= {key: scores[key] for key in ask}
    return own.points(found) / own.reference


def held(points: np.ndarray) -> float:
    """Return the hypervolume of points that are scaled to 1."""
    return float(moocore.hypervolume(points, ref=(1.0, 1.0)))


def main() -> None:
    """Print a row for each cost, of the search and of random draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--costs", nargs="+", default=["macs_per_second", "parameters", "bytes"])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| cost, choice | mean | worst | every seed attains | IGD+ |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for cost in asked.costs:
        whole, errors = grid(cost)
        cells = np.column_stack([whole.costs, errors]) / (whole.dearest, WORST)
        front = moocore.filter_dominated(cells)
        for name in ("search", "random"):
            runs = [replayed(whole, errors, seed, name == "random") for seed in range(asked.seeds)]
            shares = [100 * held(points) / held(cells) for points in runs]
            sets = np.concatenate([np.full(len(points), n) for n, points in enumerate(runs)])
            surface = moocore.eaf(np.concatenate(runs), sets, percentiles=[100])[:, :2]
            numbers = [np.mean(shares), min(shares), 100 * held(surface) / held(cells)]
            distance = np.mean([moocore.igd_plus(points, ref=front) for points in runs])
            row = [f"{number:.1f}" for number in numbers]
            print(f"| {cost}, {name} | {' | '.join(row)} | {distance:.4f} |")


if __name__ == "__main__":
    main()
