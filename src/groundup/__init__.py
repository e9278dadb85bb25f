"""Groundup: one recipe takes raw text to an instruction-tuned model that one can chat with."""
