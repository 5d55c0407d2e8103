"""Sampling from models: vLLM for speed, transformers as the exact and portable reference, scripted for tests."""
