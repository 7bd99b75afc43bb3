"""A policy that learns from its own samples: rollouts, what they earn, and the advantages that follow."""
