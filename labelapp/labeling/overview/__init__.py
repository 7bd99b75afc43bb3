"""The labeling of a project as its admin sees it: pace, queue, people."""
