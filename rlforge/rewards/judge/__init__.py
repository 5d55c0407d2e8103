"""The scorer `judge`: a language model that reads a rubric."""
