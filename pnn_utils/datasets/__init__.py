"""The tasks: vowels and images, fetched with checksums."""
