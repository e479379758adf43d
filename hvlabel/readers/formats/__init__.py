"""The container formats, one module each, behind the readers' contract; a long one has a second module beside it."""
