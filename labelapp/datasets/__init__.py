"""Preferences in and out: import, freeze, export."""
