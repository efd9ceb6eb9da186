"""Examples in the help of a command."""


def examples(*lines: str) -> str:
    """Return commands as the end of a help text, each on its own line."""
    return "\n".join(["\b", "Examples:", *(f"  speech-pareto {line}" for line in lines)])
