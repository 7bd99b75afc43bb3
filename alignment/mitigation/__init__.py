"""What keeps a reward model from learning a bias of its data: who is in which group, swapped copies, annotators."""
