"""What a reviewer does with the judgments of others."""
