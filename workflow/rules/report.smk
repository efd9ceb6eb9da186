"""The fronts as text, the leaderboard, and one page to choose a student from, which needs no network.

`snakemake interim` makes the same of an unfinished study, from the cells that are done.
"""


rule report:
    """Write what a reader opens: fronts, leaderboard, page."""
    input:
        cells=paths.TABLE,
        comparisons=paths.COMPARISONS,
        fronts=paths.FRONTS,
        pairs=paths.PAIRS,
        examples=paths.EXAMPLES,
        runtimes=runtimes_if_any(),
        conditions=conditions_if_any(paths.CONDITIONS, *paths.IN_CONDITIONS),
        figures=figures_of_page(),
    output:
        page=report(
            paths.PAGE,
            caption="../report/report.rst",
            category="Choose a student",
            labels={"page": "fronts, tables and budgets"},
        ),
        front=table_of_report(paths.FRONT_TEXT, "leaderboard", "fronts"),
        markdown=table_of_report(
            paths.LEADERBOARD, "leaderboard", "leaderboard (Markdown)"
        ),
        numbers=table_of_report(
            paths.LEADERBOARD_CSV, "leaderboard", "leaderboard (CSV)"
        ),
        leaderboard=table_of_report(
            paths.LEADERBOARD_PAGE, "leaderboard", "leaderboard"
        ),
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(
            page=fingerprint(SCRIPTS / "speech_pareto/reporting/page/assets"),
            code=code("report.py"),
            software=pins("plot"),
        ),
    script:
        "../scripts/report.py"


rule tables:
    """Target: the tables of the study."""
    input:
        paths.TABLE,
        paths.TABLE_CSV,
        paths.ANALYSES,
        paths.ANALYSES_CSV,
        paths.COMPARISONS,
        paths.COMPARISONS_CSV,
        paths.FRONTS,
        paths.PAIRS,
        *([paths.RUNTIMES_CSV] if exported.measured(study) else []),
        *([paths.CONDITIONS_CSV] if in_conditions.scored(study) else []),
        paths.FRONT_TEXT,
        paths.LEADERBOARD,
        paths.LEADERBOARD_CSV,
        *results_beside_search(),
    localrule: True


rule leaderboard:
    """Target: the ranking of the recipes."""
    input:
        paths.LEADERBOARD,
        paths.LEADERBOARD_CSV,
        paths.LEADERBOARD_PAGE,
    localrule: True


rule interim:
    """Target: print and write the results so far, without making anything else."""
    log:
        "logs/interim.log",
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        study=lambda wildcards: study,
        results="results",
        code=code("interim.py"),
    script:
        "../scripts/interim.py"
