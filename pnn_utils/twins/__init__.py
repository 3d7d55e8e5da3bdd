"""Digital models of devices, one file a kind; ``fit`` measures, fits, judges and keeps them."""
