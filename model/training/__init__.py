"""Training: one loop, and the strategies that say what is learned from what."""
