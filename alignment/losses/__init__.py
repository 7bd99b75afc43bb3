"""Every loss as a pure function of tensors: one loss a row, in nats, so that the caller chooses the mean."""
