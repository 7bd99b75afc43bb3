"""Versions and other models, by what people preferred."""
