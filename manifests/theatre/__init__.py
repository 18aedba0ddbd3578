"""The synthetic world: figures, motions, cameras and backgrounds, with the true answer to every pair."""
