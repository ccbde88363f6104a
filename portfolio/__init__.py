"""From signals to positions and what they cost."""
