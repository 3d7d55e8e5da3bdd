"""One notebook executed, its numbers written, its figures drawn in one style."""
