"""Recipes of the networks that come with the repository: trained from scratch on generated scenes, one command each."""
