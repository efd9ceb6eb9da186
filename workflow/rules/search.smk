"""A search for the front of one teacher on one task: rounds of candidates, each an ordinary cell.

Which candidates there are follows from the config. Which of them run, and for how many steps,
follows from results: a round reads those of the rounds before and writes what is run next, until
one says that the search has ended.
"""


checkpoint search_round:
    """Decide which candidates are run next."""
    input:
        earlier=round_before,
        metrics=results_of_round,
    output:
        paths.ROUND,
    log:
        "logs/search/{study}/round-{round}.log",
    benchmark:
        "results/benchmarks/search/{study}/round-{round}.tsv"
    localrule: True
    conda:
        "../../envs/search.yaml"
    params:
        **job_params(
            search=facts_of_search,
            code=code("search.py"),
            software=pins("search"),
        ),
    script:
        "../scripts/search.py"


checkpoint search_end:
    """Say what the search found: its front, and what it expects of all candidates."""
    input:
        last=last_round,
    output:
        paths.FOUND,
    log:
        "logs/search/{study}/found.log",
    benchmark:
        "results/benchmarks/search/{study}/found.tsv"
    localrule: True
    conda:
        "../../envs/search.yaml"
    params:
        **job_params(
            search=facts_of_search,
            code=code("search.py"),
            software=pins("search"),
        ),
    script:
        "../scripts/search.py"


rule search:
    """Target: search, train the front that is found, draw it beside the grid."""
    input:
        drawn_search,
    localrule: True
