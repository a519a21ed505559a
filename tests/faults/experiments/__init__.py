"""The experiments, by what they break."""
