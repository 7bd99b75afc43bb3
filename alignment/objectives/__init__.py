"""From judgments to a gradient: what the stages `reward` and `preference` hand to the loop."""
