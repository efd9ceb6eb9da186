"""What jobs ask a scheduler for: as much as the study's rehearsal measured, with a margin.

A kind of job that was not rehearsed asks for what suits the tiny teacher. A job that failed for want
of either asks for twice as much the next time. Resources never make a job run anew.
"""


def given(rule):
    """What the profile or the command line gives each try of a rule's jobs; [] if they do not say.

    That is memory, time and GPUs.
    """
    name = workflow.modifier.modify_rulename(rule)
    named = workflow.resource_settings.overwrite_resources.get(name, {})
    return {what: tries_of(named.get(what)) for what in ("mem_mb", "runtime", "gpu")}


def tries_of(resource):
    """What a resource of a profile, `240 * attempt`, is in each try; [] if it asks for other things."""
    text = str(getattr(resource, "raw", resource))
    execution = workflow.execution_settings  # not there yet while rules are read
    tries = range(1, 2 + (execution.retries if execution else 0))
    try:
        values = [eval(text, {"attempt": attempt}) for attempt in tries]
    except Exception:  # it is no expression of the number of the try
        return []
    return values if all(isinstance(value, int | float) for value in values) else []


try:
    measured = rehearsal.Rehearsal.read(study, "results", given)
except ValueError as error:
    give_up(error)


def name_of(stem, wildcards):
    """Name of a job, as that of its benchmark file; in a condition that of the job without it."""
    known = [value for key, value in wildcards.items() if key != "condition"]
    return "/".join((stem, *known))


def megabytes(stem, otherwise):
    """Resource function: memory of a rule's jobs."""

    @with_signature
    def memory(wildcards, attempt):
        return (measured.megabytes(name_of(stem, wildcards)) or otherwise) * attempt

    return memory


def minutes(stem, otherwise):
    """Resource function: time of a rule's jobs; `otherwise` may be a function of wildcards."""

    @with_signature
    def time(wildcards, attempt):
        known = measured.minutes(name_of(stem, wildcards))
        if known is None:
            known = otherwise(wildcards) if callable(otherwise) else otherwise
        return known * attempt

    return time


def minutes_to_compress(wildcards):
    """Time for a student, if it was not rehearsed."""
    return 240 if trains(wildcards) else 5


def minutes_to_profile(wildcards):
    """Time to measure a student, if it was not rehearsed; one of early exits hears recordings first."""
    return 60 if grid.dynamic(study["recipes"][wildcards.recipe]) else 10


def asked_for(rule, name):
    """What a rule asks for under this name; None if nothing, or if it depends on the job."""
    found = rule.resources.get(name)
    if getattr(found, "is_evaluable", bool)():
        return None
    return getattr(found, "value", found)
