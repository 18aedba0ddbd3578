"""The stages, one file a step."""
