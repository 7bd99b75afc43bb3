"""What an admin sets up: the project, its protocol, its texts, the rules of its queue."""
