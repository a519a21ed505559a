"""The HTTP side: API, probes, metrics, and the page."""
