"""What the study will make, before anything is computed: sizes, feasibility, jobs, hours.

Prints it and leaves results/plan.csv and results/plan.txt.  No file is declared, not even a benchmark:
so a plan is made anew, and printed, whenever it is asked for.
"""


rule plan:
    """Target: print the plan of the study."""
    log:
        "logs/plan.log",
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        study=lambda wildcards: study,
        results="results",
        code=code("plan.py"),
    script:
        "../scripts/plan.py"
