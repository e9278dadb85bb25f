"""Kernels of our own, in C++ for the CPU: what PyTorch does in many passes over memory, done in one."""
