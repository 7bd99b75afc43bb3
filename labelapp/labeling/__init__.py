"""Comparisons, their queue, and the page on which people judge them."""
