"""The loops: what happens in which order when a stage collects, learns or evaluates."""
