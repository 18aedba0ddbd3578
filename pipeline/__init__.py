"""Composition and commands."""
