"""Recipes of the networks that come with the repository: from scratch, on generated scenes, one command each."""
