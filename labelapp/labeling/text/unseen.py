"""Characters that nobody sees, shown by name."""

import re
import unicodedata

# Direction overrides, invisible spaces and tag characters hide or reorder what is read. The joiners of emoji and of
# many scripts (U+200C, U+200D) stay.
UNSEEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")


def show_unseen(escaped: str) -> str:
    """Put a badge for each unseen character into text that is escaped already."""
    return UNSEEN.sub(lambda found: f'<span class="unseen">{_name(found[0])}</span>', escaped)


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'unnamed').lower()}"
