"""Pareto figures: score against cost, one per task and cost axis, the same bytes every time."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from speech_pareto.reporting.figures.canvas import mark, nothing, styled
from speech_pareto.reporting.figures.labels import place
from speech_pareto.reporting.figures.styles import GREY, INK, MUTED, SHADE, styles
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.published_scores import READ_OFF
from speech_pareto.reporting.tables.roles import CONTROL, STUDENT, TEACHER, roles_of
from speech_pareto.reporting.tables.wording import (
    AS_GOOD_TEXT,
    CHOSEN_ON,
    SPREAD_TEXT,
    UNSURE_TEXT,
    asked_text,
    holes_text,
    metric_name,
    speech_on,
)
from speech_pareto.runtime.formatting import (
    filled,
    in_percent,
    one_decimal,
    percent,
    trimmed,
    whole,
)
from speech_pareto.study import quantities

LABELLED = 0.15  # share of the width that the words of the upper axis take


@styled
def pareto(
    summary: pd.DataFrame, task: str, cost: str, recipes=None, published: pd.DataFrame | None = None
) -> Figure:
    """Return the figure of `task` over the axis `cost`, from the table's summary over seeds.

    `recipes`: all of the study, each with its role, for their styles; by default the summary's.
    """
    if cost not in (known := quantities.axes()):
        raise ValueError(f"cost {cost!r} is not one of {', '.join(known)}")
    rows = summary[summary["task"] == task]
    if rows.empty:
        tasks = ", ".join(sorted(summary["task"].unique()))
        raise ValueError(f"task {task!r} is not in the table, which has {tasks}")
    told = rows[known[cost].column].notna() & rows["score"].notna()
    if not known[cost].drawn.always and not told.any():
        return nothing(f"Score against {known[cost].drawn.short}", f"{task}: it was not measured")
    recipes = roles_of(summary) if recipes is None else dict(recipes)
    if published is not None:
        recipes = roles_of(published) | recipes
    return _Front(rows, cost, styles(recipes), published).draw()


def message(summary: pd.DataFrame, task: str, cost: str) -> str:
    """Return what the figure of `task` over `cost` says in one sentence."""
    return _Front(summary[summary["task"] == task], cost, {})._message()


class _Front:
    """One figure in the making."""

    def __init__(self, rows: pd.DataFrame, cost: str, style: dict, published=None):
        self.all, self.cost, self.style, self.published = rows, cost, style, published
        self.quantity = quantities.QUANTITIES[cost]
        self.axis, column = self.quantity.drawn, self.quantity.column
        rows = rows[(rows["n"] > 0) & rows[column].notna() & rows["score"].notna()].copy()
        if rows.empty:
            raise ValueError(
                f"task {self.all['task'].iloc[0]!r} has no cell with both a score and {column}"
            )
        rows["x"] = rows[column]
        if self.axis.sparse:
            # zeros don't shrink a dense file: this is where they would stand if they did
            rows["x"] = rows[self.axis.sparse].where(rows["sparse"], rows["x"])
        self.better = rows["better"].iloc[0]
        spread = rows["score_std"].fillna(0)
        self.bottom, self.top = (rows["score"] - spread).min(), (rows["score"] + spread).max()
        self.costs = rows["x"]
        if self.quantity.high:
            self.costs = pd.concat([rows["x"], rows[self.quantity.high].dropna()])
        if published is not None:
            self.costs = pd.concat([rows["x"], published["params_m"] * 1e6])
            self.bottom = min(self.bottom, published["value"].min())
            self.top = max(self.top, published["value"].max())
        if self.better == "lower":
            self.top = min(self.top, 100.0)  # a rate above 100 % says no more than 100 %
        rows["y"] = rows["score"].clip(upper=self.top)
        self.rows = rows
        self.short, self.long = metric_name(rows["metric"].iloc[0])
        self.teachers = rows[rows["kind"] == TEACHER]
        self.one_teacher = rows.loc[rows["pretrained"], "teacher"].nunique() < 2
        self.star = {row.teacher: (row.x, row.y) for row in self.teachers.itertuples()}
        self.labels, self.marks, self.paths = [], [], []

    def draw(self) -> Figure:
        """Return the figure."""
        self.figure = Figure(figsize=(7.6, 5.2))
        self.axes = self.figure.add_axes((0.07, 0.185, 0.9, 0.635))
        self.axes.grid(axis="y", linewidth=0.8)
        self.axes.set_axisbelow(True)
        sns.despine(fig=self.figure, left=True)
        self._limits()
        self._front()
        self._teachers()
        if self.published is not None:
            self._published()
        students = self.rows[self.rows["role"] != TEACHER]
        for (teacher, recipe), rows in students.groupby(["teacher", "recipe"]):
            self._method(teacher, recipe, rows.sort_values("ratio"))
        self._ticks()
        self._words()
        place(self.figure, self.axes, self.labels, self.marks, self.paths)
        return self.figure

    def _limits(self) -> None:
        """Set the ranges: costs from zero, or in decades where they span many."""
        low, high = self.costs.min(), self.costs.max()
        if high < 8 * low:
            self.axes.set_xlim(0, 1.06 * high)
        else:
            self.axes.set_xscale("log")
            self.axes.set_xlim(low / (high / low) ** 0.2, high * (high / low) ** 0.06)
        height = max(self.top - self.bottom, 10.0)
        self.axes.set_ylim(self.bottom - 0.11 * height, self.bottom + 1.05 * height)

    def _front(self) -> None:
        """Draw the bold steps: for each cost, what the choice for at most that scores on test."""
        front = self.rows[self.rows[f"front_{self.cost}"]]
        front = front.sort_values(["x", "choice_score"], ascending=[True, self.better == "lower"])
        if front.empty:
            return
        worst = self.axes.get_ylim()[1 if self.better == "lower" else 0]
        right = self.axes.get_xlim()[1]
        x = np.array([front["x"].iloc[0], *front["x"], right])
        y = np.array([worst, *front["y"], front["y"].iloc[-1]])
        self.axes.fill_between(x, y, worst, step="post", color=SHADE, linewidth=0, zorder=0.5)
        x, y = x[1:-1], y[1:-1]
        ends: dict[str, Any] = {"solid_joinstyle": "miter", "solid_capstyle": "butt"}
        ends |= {"color": INK, "linewidth": 2.0, "zorder": 3.5}
        self.axes.plot(x, y, drawstyle="steps-post", **ends)
        self.paths.append([(x[0], y[0]), *_corners(x, y)])

    def _teachers(self) -> None:
        """Draw each teacher as a star with a thin line, those never pretrained in grey."""
        for row in self.rows[self.rows["role"] == TEACHER].itertuples():
            colour = INK if row.pretrained else GREY
            if row.pretrained:
                self.axes.axhline(
                    row.y, color=INK, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=1.2
                )
                self.paths.append([(self.axes.get_xlim()[0], row.y), (row.x, row.y)])
            over = 6 if row.pretrained else 5.9
            mark(self.axes, row.x, row.y, "*", 17, colour, ("white", 0.8), over, linestyle="-")
            self.marks.append((row.x, row.y, 8.5))
            own = f"teacher ({row.teacher})"
            name = own if row.pretrained else f"{row.teacher}, not pretrained"
            text = f"{name}  {one_decimal(row.score)} %"
            ink = INK if row.pretrained else MUTED
            self.labels.append((text, row.x, row.y, ink, bool(row.pretrained)))

    def _published(self) -> None:
        """Draw what papers state of their systems, small and pale; hollow if read off a figure."""
        for row in self.published.itertuples():
            colour, marker = self.style[row.recipe]
            x, read_off = row.params_m * 1e6, row.provenance in READ_OFF
            pale = {"markerfacecolor": "white" if read_off else colour, "alpha": 0.5}
            mark(self.axes, x, row.value, marker, 5, colour, (colour, 1.0), 1.5, **pale)
            self.marks.append((x, row.value, 3.5))
            if not read_off:
                self.labels.append((row.model, x, row.value, MUTED, False))

    def _method(self, teacher: str, recipe: str, rows: pd.DataFrame) -> None:
        """Draw one method's students, joined through the ratios from its teacher on."""
        colour, marker = self.style[recipe]
        control = rows["kind"].iloc[0] == CONTROL
        path = [self.star[teacher]] if teacher in self.star else []
        path += list(zip(rows["x"], rows["y"], strict=True))
        width, line, over = (1.1, (0, (4, 2)), 2) if control else (1.6, "-", 3)
        style: dict[str, Any] = {"linewidth": width, "linestyle": line, "zorder": over}
        self.axes.plot(*zip(*path, strict=True), color=colour, alpha=0.6, **style)
        self.paths.append(path)
        for row in rows.itertuples():
            self._student(row, colour, marker, control)
        remark = self._remark(teacher, recipe) if self.one_teacher else ""
        self.labels.append((recipe + remark, *path[-1], MUTED if control else colour, not control))

    def _student(self, row, colour: str, marker: str, control: bool) -> None:
        """Draw one point with its spread.

        Hollow where sparse, dark-edged on the front, in a ring where as good as its teacher.
        """
        if pd.notna(row.score_std):
            self.axes.errorbar(
                row.x, row.y, yerr=row.score_std, color=colour, linewidth=1.3, capsize=3.5, zorder=4
            )
        high = getattr(row, self.quantity.high) if self.quantity.high else None
        if pd.notna(high):
            ends: dict[str, Any] = {"color": colour, "linewidth": 1.3, "zorder": 4}
            self.axes.errorbar(
                row.x, row.y, xerr=[[0], [max(0, high - row.x)]], capsize=3.5, **ends
            )
        on_front = getattr(row, f"front_{self.cost}")
        edge = colour if row.sparse else INK if on_front else "white"
        size = (6.5 if control else 8) * (1.25 if marker in "PXp" else 1)
        width = 1.6 if row.sparse else 1.2 if on_front else 0.7
        face, over = "white" if row.sparse else colour, 5.5 if on_front else 4.5 if control else 5
        own = (marker, size, colour, (edge, width), over)
        mark(self.axes, row.x, row.y, *own, markerfacecolor=face)
        if self._unsure(row):
            self.axes.plot(
                row.x, row.y, "x", color=INK, markersize=13, markeredgewidth=1, zorder=5.6
            )
        self.marks.append((row.x, row.y, 9.0 if row.as_good else 5.5))
        if row.as_good:
            ring = {"linestyle": "-", "markerfacecolor": "none"}
            mark(self.axes, row.x, row.y, "o", 16, colour, (colour, 1.1), 4.4, **ring)
        if row.score > row.y:
            grey = MUTED if control else colour
            self.labels.append((f"↑ {whole(row.score)} %", row.x, row.y, grey, False))

    def _unsure(self, row) -> bool:
        """Return whether a point is on the front by the split that chooses, and not by test."""
        chosen, reported = (
            getattr(row, f"front_{self.cost}"),
            getattr(row, f"test_front_{self.cost}"),
        )
        return bool(chosen and not reported)

    def _remark(self, teacher: str, recipe: str) -> str:
        """Return what a reader must know of a method beside its name."""
        rows = self.all[(self.all["teacher"] == teacher) & (self.all["recipe"] == recipe)]
        if rows["sparse"].any():
            return " (zeros)"
        reach = rows.loc[rows["status"] == "infeasible", "reachable"].max()
        return "" if pd.isna(reach) else f" (at most −{percent(reach)})"

    def _ticks(self) -> None:
        """Write round costs below and, above, the share of the teacher's cost."""
        form = self.quantity.form
        axis = self.axes.xaxis
        if self.axes.get_xscale() == "log":
            axis.set_major_locator(FixedLocator(_round_numbers(*self.axes.get_xlim())))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: trimmed(form(value))))
        self.axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_percent(value)))
        self.axes.tick_params(axis="x", length=3, width=0.8)
        self.axes.tick_params(axis="y", length=0)
        label = self.axis.label.format(speech=speech_on(self.rows.iloc[0]))
        if self.axis.sparse and self.rows["sparse"].any():
            label += f" (hollow: {quantities.QUANTITIES[self.axis.sparse].label} parameters)"
        self.axes.set_xlabel(label, fontsize=9.5, labelpad=4)
        if len(self.teachers) == 1:
            full = self.teachers["x"].iloc[0]
            logarithmic = self.axes.get_xscale() == "log"
            marks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if logarithmic else (0.25, 0.5, 0.75, 1)
            # To the right of the words that stand above the left end.
            inside = self.axes.transData + self.axes.transAxes.inverted()
            shares = [x for x in marks if inside.transform((x * full, 1))[0] > LABELLED]
            top = self.axes.secondary_xaxis(
                "top", functions=(lambda x: x / full, lambda share: share * full)
            )
            top.xaxis.set_major_locator(FixedLocator(shares))
            top.xaxis.set_minor_locator(NullLocator())
            top.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
            top.tick_params(length=3, width=0.8, labelsize=8, pad=2)
            top.spines["top"].set_visible(False)
            style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
            style |= {"fontsize": 8, "color": MUTED}
            self.axes.annotate("share of teacher", (0, 1), (0, 7), **style)

    def _words(self) -> None:
        """Write the message, what is drawn, and what the signs mean."""
        left = 0.018
        self.figure.text(left, 0.957, self._message(), fontsize=13, fontweight="bold", va="center")
        task = self.all["task"].iloc[0]
        split = CHOSEN_ON[self.all["chosen_on"].iloc[0]]
        what = f"{task}: {self.long}, {self.better} is better; {split}"
        self.figure.text(left, 0.910, what, fontsize=9.5, va="center")
        notes = ["black line: the front, no method measured is cheaper and better"]
        seeds = int(self.rows["seeds"].max())
        if seeds > 1:
            notes.append(f"bars: ± 1 standard deviation of up to {seeds} seeds")
        if self.quantity.high and self.rows[self.quantity.high].notna().any():
            notes.append(f"whisker to the right: {SPREAD_TEXT}")
        if self.rows["as_good"].any():
            notes.append(f"ring: {AS_GOOD_TEXT}")
        if any(map(self._unsure, self.rows.itertuples())):
            notes.append(f"×: {UNSURE_TEXT}")
        if self.rows["sparse"].any():
            notes.append(
                "hollow: zeros make a model neither faster nor, stored densely, smaller"
                + (": not on the front" if self.axis.sparse else "")
            )
        if asked := asked_text(self.rows):
            notes.append(f"students were asked to save shares of {asked}")
        if self.published is not None:
            notes.append("small and pale: published systems, as printed; hollow: read off a figure")
        if ((self.rows["kind"] == CONTROL) & (self.rows["role"] != TEACHER)).any():
            notes.append("grey: controls")
        holes = holes_text(self.all)
        notes += holes[:3] + ([f"{len(holes) - 3} more with holes"] if len(holes) > 3 else [])
        text = "\n".join(filled(notes, 132))
        self.figure.text(
            left, 0.012, text, fontsize=7.2, color=MUTED, va="bottom", linespacing=1.35
        )

    def _message(self) -> str:
        """Return what the best student for at most 60 % of the teacher's cost scores."""
        name = self.axis.short
        best = self._headliner() if len(self.teachers) == 1 else None
        if best is None:
            return f"{self.short} against {name}"
        part = "Half" if abs(best["share"] - 0.5) < 0.025 else f"{percent(best['share'])} of"
        score, teacher = one_decimal(best["score"]), one_decimal(self.teachers["score"].iloc[0])
        return (
            f"{part} the {name}: {score} % {self.short} with {best['recipe']}, teacher {teacher} %"
        )

    def _headliner(self) -> pd.Series | None:
        """Return the best for at most 60 % of the teacher's cost, else the front's cheapest.

        A control is no method to use, so it is left out. None if no student is on the front.
        """
        column, on_front = self.quantity.column, f"front_{self.cost}"
        students = self.rows[(self.rows["kind"] == STUDENT) & (self.rows["status"] == "ok")]
        # not by x: zeros are no saving
        if students.empty or self.teachers.empty:
            return None
        students = students.assign(share=students[column] / self.teachers[column].iloc[0])
        if not students[on_front].any():
            return None
        cheapest = students.loc[students[on_front], "share"].min()
        students = students[students["share"].round(2) <= max(0.6, round(cheapest, 2))]
        loss = students["choice_score"] * SIGNS[self.better]
        return students.loc[loss.idxmin()]


def _corners(x, y) -> list[tuple[float, float]]:
    """Return the corners of steps that hold each y until the next x."""
    corners = []
    for (_, y0), (x1, y1) in itertools.pairwise(zip(x, y, strict=True)):
        corners += [(x1, y0), (x1, y1)]
    return corners


def _round_numbers(low: float, high: float) -> list[float]:
    """Return at least four round numbers between `low` and `high`, if there are."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8), tuple(range(1, 10))):
        ticks = [s * 10.0**p for p in range(-9, 16) for s in steps if low <= s * 10.0**p <= high]
        if len(ticks) >= 4:
            break
    return ticks
