"""Model output as safe HTML."""
