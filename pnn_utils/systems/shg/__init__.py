"""Light: shaped femtosecond pulses doubled in a crystal."""
