"""Planted pairs: pseudo pairs whose faults are known, because they were put there, by kind and grade."""
