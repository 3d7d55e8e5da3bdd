"""Sound: a titanium plate on a voice coil."""
