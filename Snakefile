"""The workflow is `workflow/Snakefile`; this one is for calls that name a Snakefile at the top."""


include: "workflow/Snakefile"


# Rules of an included file never become the default target by themselves. As a module of another
# workflow this one has `all` under the name that it was given there, or not at all.
target = workflow.modifier.modify_rulename("all")
if not workflow.default_target and workflow.is_rule(target):
    workflow.default_target = target
