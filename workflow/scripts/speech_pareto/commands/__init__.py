"""The commands of `speech-pareto`; functions import what they need once they are called."""
