"""Speech Pareto: which compressed speech model for which task and which budget?"""

from snakemake.utils import min_version

min_version("9.11.0")  # before, leaving `code` out of the rerun triggers had no effect


report: "workflow/report/workflow.rst"


include: "workflow/rules/source.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/params.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/plan.smk"
include: "workflow/rules/fetch_corpus.smk"
include: "workflow/rules/prepare_corpus.smk"
include: "workflow/rules/fetch_teacher.smk"
include: "workflow/rules/convert_teacher.smk"
include: "workflow/rules/pretrain_teacher.smk"
include: "workflow/rules/finetune_teacher.smk"
include: "workflow/rules/compress.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/prepare_superb.smk"
include: "workflow/rules/superb.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/plot.smk"
include: "workflow/rules/report.smk"


rule all:
    input:
        rules.tables.input,
        rules.figures.input,
        rules.report.output,
