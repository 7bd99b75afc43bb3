"""Live chat: the labeler writes the prompt, judges what comes, and goes on with the better answer."""
