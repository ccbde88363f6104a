"""Rungs of the meta-learner's ladder, smallest first: ways to make one signal of the layers' z-scores."""
