"""One notebook executed, its numbers compared, its figures drawn in one style."""
