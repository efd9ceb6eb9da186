"""Recordings and transcripts of built-in corpora, as their publishers pack them.

Runs where Snakemake runs: compute nodes may have no internet.
"""


rule fetch_corpus:
    """Download a corpus, from apt where there is apt, else from upstream."""
    output:
        directory(paths.DOWNLOAD),
    log:
        "logs/fetch_corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/fetch_corpus/{corpus}.tsv"
    wildcard_constraints:
        corpus=one_of(
            name for name, corpus in study["corpora"].items() if grid.downloads(corpus)
        ),
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        **job_params(
            source=lookup("corpora/{corpus}/source", within=study),
            languages=lookup("corpora/{corpus}/languages", within=study),
            code=code("fetch_corpus.py", source_file),
        ),
        settings=untracked(lookup("corpora/{corpus}", within=study)),
    script:
        "../scripts/fetch_corpus.py"
